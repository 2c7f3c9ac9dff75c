"""Find the layer of polygons that a source names: a file, a folder, a geodatabase or a zip."""

from __future__ import annotations

import zipfile
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from extract.config.suggestions import suggest
from extract.errors import InputError
from extract.tiling.geo import load_geo, starts_as_xml

_FORMATS = "Name a GeoPackage, a Shapefile, a GeoJSON, a .gdb, or a .zip or folder of one"
_SUFFIXES = {".shp", ".gpkg", ".geojson", ".json"}


class PolygonLayer(NamedTuple):
    """A layer of polygons.

    Attributes
    ----------
    path : as GDAL opens it.
    layer : its name.
    name : of the file, for messages.
    columns : of the layer.
    crs : WKT or code of its CRS; None where it says none, or states degrees and holds none.
    n_without_shape : polygons without a geometry.
    """

    path: str
    layer: str
    name: str
    columns: list[str]
    crs: str | None
    n_without_shape: int


def find_layer(source: str, *, what: str, error: type[InputError]) -> PolygonLayer:
    """Find the layer that `PLACE` or `PLACE:LAYER` names.

    Parameters
    ----------
    what : how messages begin.

    Raises
    ------
    InputError : `error`, where there is no such place, it cannot be read, or it holds several
        layers and none is named.
    """
    path = Path(source)
    layer = ""
    if not path.exists() and ":" in source:
        place, _, layer = source.rpartition(":")
        path = Path(place)
    if not path.exists():
        raise error(f"{what} {source}: no such file or folder. {_FORMATS}.")
    place = _open_place(path, what, error)
    pyogrio = load_geo("pyogrio")
    try:
        found = pyogrio.list_layers(place)
        layers = found[:, 0].astype(str).tolist()
        layer = _choose(layer, layers, f"{what} {source}", path.name, error)
        header = pyogrio.read_info(place, layer=layer, force_total_bounds=True)
        _, bounds = pyogrio.read_bounds(place, layer=layer)
    except pyogrio.errors.DataSourceError as reason:
        raise error(f"{what} {path}: cannot be read ({reason}). {_FORMATS}.") from None
    is_lost = np.isnan(bounds).any(axis=0)
    return PolygonLayer(
        path=place,
        layer=layer,
        name=path.name,
        columns=header["fields"].astype(str).tolist(),
        crs=_read_crs(header),
        n_without_shape=int(is_lost.sum()),
    )


def _open_place(path: Path, what: str, error: type[InputError]) -> str:
    """Return what GDAL opens: the path itself, or what a folder or a zip holds."""
    if path.is_dir() and path.suffix.lower() != ".gdb":
        name = _find_in_folder(path, what, error)
        return _open_place(path / name, what, error) if name else str(path)
    if not zipfile.is_zipfile(path):
        if path.is_file():
            with path.open("rb") as file:
                _check_start(file.read(64), path, what, error)
        return str(path)
    with zipfile.ZipFile(path) as archive:
        members = {_find_data(name) for name in archive.namelist()} - {""}
        if len(members) != 1:
            raise error(
                f"{what} {path}: expected one file of polygons in the zip, got "
                f"{_join(members)}. Unpack it, and name the one that is meant."
            )
        (member,) = members
        if not member.endswith(".gdb"):
            with archive.open(member) as file:
                _check_start(file.read(64), path, what, error)
    return f"/vsizip/{path}/{member}"


def _find_in_folder(path: Path, what: str, error: type[InputError]) -> str:
    """Return the one file of polygons or geodatabase of a folder; '' where GDAL reads it whole.

    GDAL takes the shapefiles of a folder for its layers.
    """
    members = {_find_data(member.name) for member in path.iterdir()} - {""}
    kinds = {PurePosixPath(name).suffix.lower() for name in members}
    if ".shp" in kinds and kinds <= {".shp", ".json"}:  # metadata may lie beside shapefiles
        return ""
    if len(members) > 1:
        raise error(
            f"{what} {path}: expected one file of polygons in the folder, got {_join(members)}. "
            "Name the one that is meant."
        )
    return members.pop() if members else ""


def _join(names: set[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def _find_data(name: str) -> str:
    """Return the file of polygons, or the geodatabase, that a member of a zip is or lies in."""
    path = PurePosixPath(name)
    for place in (path, *path.parents):
        if place.suffix.lower() == ".gdb":
            return str(place)
    is_double = path.name.startswith("._")  # of macOS
    is_data = path.suffix.lower() in _SUFFIXES and not is_double
    return name if is_data else ""


def _check_start(
    start: bytes,
    path: Path,
    what: str,
    error: type[InputError],
) -> None:
    if starts_as_xml(start):
        raise error(
            f"{what} {path}: XML, which may name data in other places. {_FORMATS}; ogr2ogr "
            "converts."
        )


def _choose(
    layer: str,
    layers: list[str],
    where: str,
    name: str,
    error: type[InputError],
) -> str:
    if not layer and len(layers) == 1:
        return layers[0]
    if layer in layers:
        return layer
    if not layers:
        raise error(f"{where}: holds no layer. {_FORMATS}.")
    known = ", ".join(layers)
    hint = suggest(layer, layers)
    raise error(f"{where}: expected a layer of {known}. Write it as {name}:{layers[0]}.{hint}")


def _read_crs(header: dict[str, Any]) -> str | None:
    """Return the CRS; None for degrees where the coordinates are none.

    GDAL takes a GeoJSON without `crs` for degrees (RFC 7946), in whatever it was written.
    """
    crs: str | None = header["crs"]
    bounds = header["total_bounds"]
    if crs != "EPSG:4326" or bounds is None:
        return crs
    west, south, east, north = np.abs(bounds)
    is_beyond = max(west, east) > 360 or max(south, north) > 90
    return None if is_beyond else crs
