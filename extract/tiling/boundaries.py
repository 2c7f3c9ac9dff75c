"""Read polygons of areas, and find which of them a tile lies in."""

from __future__ import annotations

import warnings
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from extract.config.arrays import Array, Floats
from extract.config.suggestions import suggest
from extract.errors import BoundaryError
from extract.tables.text_columns import as_text
from extract.tiling.geo import choose_crs, is_same_crs, load_geo, name_crs
from extract.tiling.polygon_files import PolygonLayer, find_layer

Rule = Literal["centre", "overlap"]
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

    def find(
        self,
        west_south: Floats,
        *,
        size_m: float,
        rule: Rule,
    ) -> Array:
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
            chunk = slice(start, start + _CHUNK)
            corners = west_south[chunk]
            if rule == "centre":
                areas = self._find_centres(corners + size_m / 2)
            else:
                areas = self._find_largest(corners, size_m)
            found[start + areas.index] = areas
        return found

    def _find_centres(self, centres: Floats) -> pd.Series[str]:
        """Return the codes of the areas, by the number of the point."""
        points = load_geo("shapely").points(centres)
        point, polygon = self.polygons.sindex.query(points, predicate="intersects")
        codes = pd.Series(self.codes[polygon], index=point)
        return codes.groupby(level=0).min()

    def _find_largest(self, corners: Floats, size_m: float) -> pd.Series[str]:
        """Return the codes of the areas that share most ground, by the number of the tile."""
        shapely = load_geo("shapely")
        west, south = corners.T
        tiles = shapely.box(west, south, west + size_m, south + size_m)
        tile, polygon = self.polygons.sindex.query(tiles, predicate="intersects")
        parts = shapely.intersection(tiles[tile], self.polygons.to_numpy()[polygon])
        pairs = pd.DataFrame({"tile": tile, "code": self.codes[polygon]})
        pairs["shared"] = shapely.area(parts)
        areas = pairs.groupby(["tile", "code"], as_index=False).sum()  # sorted by code
        areas = areas[areas["shared"] > 0]
        areas = areas.sort_values("shared", ascending=False, kind="stable")
        return areas.drop_duplicates("tile").set_index("tile")["code"]


def read_areas(
    source: str,
    code: str,
    *,
    crs: Any,
    bounds: Floats,
    stated: str | None = None,
) -> AreaPolygons:
    """Read the polygons that lie where the tiles do.

    Parameters
    ----------
    source : a GeoPackage, Shapefile, GeoJSON or .gdb, or a zip or folder of one; `FILE:LAYER` where
        it holds several layers.
    code : column of the area codes.
    crs : `pyproj.CRS` of the tiles, which polygons are brought into.
    bounds : (n, 4), west, south, east and north of what is to be covered [m].
    stated : CRS of a file that says none.

    Raises
    ------
    BoundaryError : no such file or column, no CRS, no polygon there, something else than polygons,
        or one without a code.
    """
    found = find_layer(source, what="areas", error=BoundaryError)
    own = _choose_crs(found, code, source, stated)
    geopandas = load_geo("geopandas")
    boxes = load_geo("shapely").box(*bounds.T)
    window = geopandas.GeoSeries(boxes, crs=crs).to_crs(own).total_bounds
    frame = load_geo("pyogrio").read_dataframe(
        found.path,
        layer=found.layer,
        columns=[code],
        bbox=tuple(window),
    )
    frame = frame.set_crs(own, allow_override=True)
    notes = []
    if found.n_without_shape:
        notes.append(f"{found.name}: {found.n_without_shape} polygons have no geometry")
    if not is_same_crs(own, crs):
        there = name_crs(crs)
        here = name_crs(own)
        notes.append(f"{found.name}: brought from {here} into {there}, as the raster is")
        frame = frame.to_crs(crs)
    has_shape = frame.geometry.notna() & ~frame.geometry.is_empty
    frame = frame[has_shape]
    if frame.empty:
        where = "{:.8g}, {:.8g}, {:.8g}, {:.8g}".format(*window)
        raise BoundaryError(
            f"areas {source}: no polygon lies where the raster does (in its CRS: {where}). "
            "Are these the boundaries of that place, and is the CRS right?"
        )
    codes = as_text(frame[code]).str.strip()
    n_lost = (codes == "").sum()
    if n_lost:
        raise BoundaryError(
            f"areas {source}: {n_lost} polygons have no {code!r}. Give them a code, or remove them."
        )
    polygons = _mend(frame.geometry, found.name, notes)
    return AreaPolygons(codes.to_numpy(dtype=object), polygons, notes)


def _choose_crs(
    found: PolygonLayer,
    code: str,
    source: str,
    stated: str | None,
) -> Any:
    """Check that the column is there; return the CRS."""
    if code not in found.columns:
        names = ", ".join(found.columns)
        hint = suggest(code, found.columns)
        raise BoundaryError(f"areas {source}: no column {code!r}; it has {names}.{hint}")
    return choose_crs(
        found.crs,
        stated,
        option="--areas-crs",
        what=f"areas {source}",
        error=BoundaryError,
    )


def _mend(polygons: Any, name: str, notes: list[str]) -> Any:
    """Make polygons valid, which else have no area; refuse what is no polygon."""
    others = set(polygons.geom_type) - {"Polygon", "MultiPolygon"}
    if others:
        kinds = ", ".join(sorted(others))
        raise BoundaryError(
            f"areas {name}: expected polygons, got {kinds}. Name the file of the boundaries."
        )
    corners = polygons.bounds.to_numpy()
    if not np.isfinite(corners).all():
        raise BoundaryError(
            f"areas {name}: a polygon has corners that are not finite numbers. Mend or remove it."
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # shapely warns of what is mended here, and said
        is_broken = ~polygons.is_valid
        n_broken = is_broken.sum()
        if n_broken == 0:
            return polygons
        notes.append(f"{name}: {n_broken} polygons cross themselves, and were mended")
        return polygons.make_valid()
