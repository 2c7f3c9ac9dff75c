"""Tiles and areas as GeoPackage, in the coordinates of their table, for QGIS and the like."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from extract.config.arrays import Floats
from extract.tiling.geo import load_geo

WRITTEN = "2000-01-01T00:00:00.000Z"  # so that the same rows give the same bytes


class GeoPackage:
    """Writes tiles piece by piece into the layer `tiles`, then areas into the layer `areas`.

    Of each tile 24 bytes stay in memory, from which the areas get their shapes.

    Parameters
    ----------
    path : ends in `.gpkg`; what stands there is removed.
    crs : of x and y, as "EPSG:27700".
    size_m : side of a tile's square [m]; 0 for points.
    """

    def __init__(self, path: Path, crs: str, size_m: float) -> None:
        self._path = path
        self._crs = crs
        self._size_m = size_m
        self._areas: list[pd.DataFrame] = []
        path.unlink(missing_ok=True)

    def write(self, table: pd.DataFrame) -> None:
        """Write the tiles of a piece."""
        xy = table[["x", "y"]].to_numpy(np.float64)
        shapes = draw_squares(xy, self._size_m)
        write_layer(self._path, "tiles", table, shapes, self._crs)
        areas = table["area"].astype(str).astype("category")
        self._areas.append(pd.DataFrame({"area": areas, "x": table["x"], "y": table["y"]}))

    def write_areas(self, areas: pd.DataFrame) -> None:
        """Write areas, the column `area` of which names those of the tiles, as their tiles lie."""
        tiles = pd.concat(self._areas)
        place = pd.Index(areas["area"]).get_indexer(pd.Index(tiles["area"].astype(str)))
        shapes = draw_squares(tiles[["x", "y"]].to_numpy(np.float64), self._size_m)
        geopandas = load_geo("geopandas")
        frame = geopandas.GeoDataFrame({"place": place}, geometry=shapes)
        merged = frame.dissolve(by="place").geometry.reindex(range(len(areas)))
        write_layer(self._path, "areas", areas, merged.to_numpy(), self._crs)

    def end(self, path: Path) -> None:
        """Finish the file, and give it another name."""
        set_date(self._path)
        self._path.replace(path)


def draw_squares(xy: Floats, size_m: float) -> Any:
    """Return squares about centres (n, 2), or points where `size_m` is 0, as shapely draws them."""
    shapely = load_geo("shapely")
    if not size_m:
        return shapely.points(xy)
    low = xy - size_m / 2
    high = xy + size_m / 2
    return shapely.box(low[:, 0], low[:, 1], high[:, 0], high[:, 1])


def write_layer(path: Path, layer: str, table: pd.DataFrame, shapes: Any, crs: Any) -> None:
    """Append rows with their shapes (n,) to a layer of a GeoPackage, which is made where it lacks.

    Where some shapes of a layer have several parts, all are written as such.
    """
    geopandas = load_geo("geopandas")
    frame = geopandas.GeoDataFrame(table, geometry=shapes, crs=crs)
    load_geo("pyogrio").write_dataframe(
        frame,
        path,
        layer=layer,
        driver="GPKG",
        append=path.is_file(),
    )


def set_date(path: Path) -> None:
    """Set the date of a GeoPackage's layers to one that does not depend on the clock."""
    with closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE gpkg_contents SET last_change = ?", [WRITTEN])
        database.commit()
