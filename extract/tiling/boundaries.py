"""Read polygons of areas, and find which of them a tile lies in."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from extract.config.arrays import Array, Floats, Ints
from extract.config.suggestions import suggest
from extract.errors import BoundaryError
from extract.tables.text_columns import as_text
from extract.tiling.geo import choose_crs, is_same_crs, is_xml, load_geo, name_crs

Rule = Literal["centre", "overlap"]
_FORMATS = "Name a GeoPackage, a Shapefile (.shp) or a GeoJSON"
_CHUNK = 100_000  # tiles that are looked up at once


class AreaPolygons(NamedTuple):
    """Polygons with their codes, in the CRS of the tiles.

    Attributes
    ----------
    codes : (n_polygons,) of str; an area may have several polygons.
    polygons : GeoSeries in the same order.
    notes : what the user should know.
    """

    codes: Array
    polygons: Any
    notes: list[str]

    def find(self, west_south: Floats, *, size_m: float, rule: Rule) -> Array:
        """Return each tile's area: (n_tiles,) of str, '' where it lies in none.

        Parameters
        ----------
        west_south : (n_tiles, 2), south-west corners [m].
        size_m : side of the tiles [m].
        rule : the area that holds the centre (on a border, or where polygons overlap: the first by
            code), or the one that the largest part of the tile lies in.
        """
        found = np.full(len(west_south), "", object)
        for start in range(0, len(found), _CHUNK):
            corners = west_south[start : start + _CHUNK]
            tile, codes = self._find_some(corners, size_m, rule)
            found[start + tile] = codes
        return found

    def _find_some(self, corners: Floats, size_m: float, rule: Rule) -> tuple[Ints, Array]:
        shapely = load_geo("shapely")
        if rule == "centre":
            shapes = shapely.points(corners + size_m / 2)
        else:
            shapes = shapely.box(*corners.T, *(corners + size_m).T)
        tile, polygon = self.polygons.sindex.query(shapes, predicate="intersects")
        pairs = pd.DataFrame({"tile": tile, "code": self.codes[polygon], "shared": 1.0})
        if rule == "overlap":
            parts = shapely.intersection(shapes[tile], self.polygons.to_numpy()[polygon])
            pairs["shared"] = shapely.area(parts)
        by_area = pairs.groupby(["tile", "code"], as_index=False)  # sorted by code
        areas = by_area.max() if rule == "centre" else by_area.sum()
        areas = areas[areas["shared"] > 0]
        largest = areas.sort_values("shared", ascending=False, kind="stable")
        largest = largest.drop_duplicates("tile")
        return largest["tile"].to_numpy(), largest["code"].to_numpy(object)


def read_areas(
    source: str, code: str, *, crs: Any, bounds: Floats, stated: str | None = None
) -> AreaPolygons:
    """Read the polygons that lie where the tiles do.

    Parameters
    ----------
    source : a GeoPackage, Shapefile or GeoJSON; `FILE:LAYER` where it holds several layers.
    code : column of the area codes.
    crs : `pyproj.CRS` of the tiles, which polygons are brought into.
    bounds : (n, 4), west, south, east and north of what is to be covered [m].
    stated : CRS of a file that says none.

    Raises
    ------
    BoundaryError : no such file or column, no CRS, no polygon there, something else than polygons,
        or one without a code.
    """
    path, layer = _find_layer(source)
    own = _check_header(path, layer, code, stated)
    geopandas = load_geo("geopandas")
    boxes = geopandas.GeoSeries(load_geo("shapely").box(*bounds.T), crs=crs)
    window = boxes.to_crs(own).total_bounds
    pyogrio = load_geo("pyogrio")
    frame = pyogrio.read_dataframe(path, layer=layer, columns=[code], bbox=tuple(window))
    frame = frame.set_crs(own, allow_override=True)
    notes = []
    if not is_same_crs(own, crs):
        names = f"from {name_crs(own)} into {name_crs(crs)}"
        notes.append(f"{path.name}: brought {names}, as the raster is")
        frame = frame.to_crs(crs)
    frame = frame[~(frame.geometry.isna() | frame.geometry.is_empty)]
    if frame.empty:
        where = ", ".join(f"{side:.8g}" for side in window)
        raise BoundaryError(
            f"areas {path}: no polygon lies where the raster does (in its CRS: {where}). "
            "Are these the boundaries of that place, and is the CRS right?"
        )
    codes = as_text(frame[code]).str.strip()
    n_lost = int((codes == "").sum())
    if n_lost:
        raise BoundaryError(
            f"areas {path}: {n_lost} polygons have no {code!r}. Give them a code, or remove them."
        )
    polygons = _mend(frame.geometry, path, notes)
    return AreaPolygons(codes.to_numpy(dtype=object), polygons, notes)


def _find_layer(source: str) -> tuple[Path, str]:
    """Return the file and the layer that `FILE` or `FILE:LAYER` names."""
    path = Path(source)
    layer = ""
    if not path.exists() and ":" in source:
        name, _, layer = source.rpartition(":")
        path = Path(name)
    if not path.exists():
        raise BoundaryError(f"areas {source}: no such file. {_FORMATS}.")
    if is_xml(path):
        raise BoundaryError(
            f"areas {path}: XML, which may name data in other places. {_FORMATS}; ogr2ogr converts."
        )
    pyogrio = load_geo("pyogrio")
    try:
        layers = [str(name) for name in pyogrio.list_layers(path)[:, 0]]
    except pyogrio.errors.DataSourceError as error:
        raise BoundaryError(f"areas {path}: cannot be read ({error}). {_FORMATS}.") from None
    if not layer and len(layers) == 1:
        return path, layers[0]
    if layer not in layers:
        hint = suggest(layer, layers)
        raise BoundaryError(
            f"areas {source}: expected a layer of {', '.join(layers)}. "
            f"Write it as {path.name}:{layers[0]}.{hint}"
        )
    return path, layer


def _check_header(path: Path, layer: str, code: str, stated: str | None) -> Any:
    """Check that the column is there; return the CRS."""
    header = load_geo("pyogrio").read_info(path, layer=layer)
    known = [str(name) for name in header["fields"]]
    if code not in known:
        hint = suggest(code, known)
        raise BoundaryError(f"areas {path}: no column {code!r}; it has {', '.join(known)}.{hint}")
    what = f"areas {path}"
    return choose_crs(header["crs"], stated, option="--areas-crs", what=what, error=BoundaryError)


def _mend(polygons: Any, path: Path, notes: list[str]) -> Any:
    """Make polygons valid, which else have no area; refuse what is no polygon."""
    kinds = set(polygons.geom_type) - {"Polygon", "MultiPolygon"}
    if kinds:
        raise BoundaryError(
            f"areas {path}: expected polygons, got {', '.join(sorted(kinds))}. "
            "Name the file of the boundaries."
        )
    if not np.isfinite(polygons.bounds.to_numpy()).all():
        raise BoundaryError(
            f"areas {path}: a polygon has corners that are not finite numbers. Mend or remove it."
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # shapely warns of what is mended here, and said
        n_broken = int((~polygons.is_valid).sum())
        if not n_broken:
            return polygons
        notes.append(f"{path.name}: {n_broken} polygons cross themselves, and were mended")
        return polygons.make_valid()
