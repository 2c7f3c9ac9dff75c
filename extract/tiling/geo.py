"""Load the packages of the extra `geo` where they are used, and read coordinate systems."""

from __future__ import annotations

import importlib
from typing import Any

from extract.errors import InputError, MissingPackageError


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
    """Return the horizontal `pyproj.CRS` that a text (EPSG:27700, WKT) or another's object means.

    The heights of a compound CRS are left out: EPSG:7405 is EPSG:27700 with heights.

    Raises
    ------
    ValueError : it means none.
    """
    pyproj = load_geo("pyproj")
    try:
        crs = pyproj.CRS.from_user_input(text)
    except pyproj.exceptions.CRSError:
        raise ValueError(
            f"{what}: expected a coordinate reference system, as EPSG:27700, got {text!r}."
        ) from None
    return crs.sub_crs_list[0] if crs.is_compound else crs


def choose_crs(
    header: str | None,
    stated: str | None,
    *,
    option: str,
    what: str,
    error: type[InputError],
) -> Any:
    """Return the `pyproj.CRS` of a file's header, or the one that an option states.

    Raises
    ------
    InputError : `error`, where there is neither, or they are not the same.
    """
    wanted = read_crs(stated, what=option) if stated else None
    crs = read_crs(header, what=what) if header else None
    if crs is not None and crs.is_engineering:  # a local one, which lies anywhere
        crs = None
    if crs is None and wanted is None:
        raise error(
            f"{what}: does not say what its coordinates mean (a .prj is missing?). "
            f"Say it, as {option} EPSG:27700."
        )
    if crs is None:
        return wanted
    if wanted is not None and not is_same_crs(crs, wanted):
        raise error(
            f"{what}: says that it is in {name_crs(crs)}, not in {stated}. Leave {option} out."
        )
    return crs


def name_crs(crs: Any) -> str:
    """Return the shortest name of a CRS: its EPSG code where it has one, else its WKT."""
    epsg = crs.to_epsg(min_confidence=70)
    return f"EPSG:{epsg}" if epsg else str(crs.to_wkt())


def is_same_crs(one: Any, other: Any) -> bool:
    """Return whether two CRS mean the same places; one and the same has many spellings in WKT."""
    return bool(one.equals(other, ignore_axis_order=True)) or name_crs(one) == name_crs(other)


def starts_as_xml(start: bytes) -> bool:
    """Return whether the first bytes of a file are those of XML, whatever its name.

    GDAL opens XML as virtual layers and web services, which lead to other places.
    """
    text = start.replace(b"\0", b"")
    return text.lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n").startswith(b"<")
