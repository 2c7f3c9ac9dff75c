"""The door to the packages of the extra `geo`: nothing else of the house needs them, so they load where they are used."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from extract.errors import MissingPackageError


def load_geo(module: str) -> Any:
    """Import `rasterio`, `pyogrio`, `geopandas`, `shapely` or `pyproj`, or a module of theirs.

    Raises
    ------
    MissingPackageError : it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingPackageError(
            f"rasters and boundaries need {module}, which cannot be imported ({error}). "
            "Run `pip install -c constraints.txt -e '.[geo]'`."
        ) from None


def read_crs(text: Any, *, what: str) -> Any:
    """Return the `pyproj.CRS` that a text (EPSG:27700, WKT) or another library's object means.

    Raises
    ------
    ValueError : it means none.
    """
    pyproj = load_geo("pyproj")
    try:
        return pyproj.CRS.from_user_input(text)
    except pyproj.exceptions.CRSError:
        raise ValueError(
            f"{what}: expected a coordinate reference system, as EPSG:27700, got {text!r}."
        ) from None


def name_crs(crs: Any) -> str:
    """Return the shortest name of a CRS: its EPSG code where it has one, else its WKT."""
    epsg = crs.to_epsg(min_confidence=70)
    return f"EPSG:{epsg}" if epsg else str(crs.to_wkt())


def is_same_crs(one: Any, other: Any) -> bool:
    """Return whether two CRS mean the same places; WKT spells one and the same in many ways."""
    return bool(one.equals(other, ignore_axis_order=True)) or name_crs(one) == name_crs(other)


def is_xml(path: Path) -> bool:
    """Return whether a file is XML, whatever its name: GDAL opens virtual layers and web services, which lead to other places."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        start = file.read(64)
    return start.replace(b"\0", b"").lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n").startswith(b"<")
