"""Which cells of a raster a zone covers, and how much of each."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from extract.config.arrays import Floats
from extract.tiling.geo import load_geo
from extract.zonal.rasters import Raster, Window


class Coverage(NamedTuple):
    """The cells of a raster that a zone covers.

    Attributes
    ----------
    window : the smallest one that holds them.
    share : (rows, columns) of the window, the part of the zone's ground that lies in each cell.
    """

    window: Window
    share: Floats


def measure_coverage(shapes: Any, raster: Raster) -> list[Coverage | None]:
    """Measure the exact part of each shape in each cell; None where it lies beside the raster.

    Parameters
    ----------
    shapes : (n,) shapely polygons in the CRS of the raster.
    """
    exactextract = load_geo("exactextract")
    shapely = load_geo("shapely")
    features = []
    for shape in shapes:
        geometry = shapely.geometry.mapping(shape)
        features.append({"type": "Feature", "properties": {}, "geometry": geometry})
    grid = _make_grid(raster)
    found = exactextract.exact_extract(grid, features, ["cell_id", "coverage"])
    in_cells = shapely.area(shapes) / (raster.cell_x * raster.cell_y)
    covered = []
    for one, n_cells in zip(found, in_cells, strict=True):
        facts = one["properties"]
        covered.append(_enclose(facts["cell_id"], facts["coverage"] / n_cells, raster.columns))
    return covered


def _enclose(cell: Any, share: Floats, n_columns: int) -> Coverage | None:
    """Return the smallest window around some cells, which are numbered row by row."""
    if len(cell) == 0:
        return None
    row, column = np.divmod(np.asarray(cell), n_columns)
    top = int(row.min())
    left = int(column.min())
    shares = np.zeros((int(row.max()) - top + 1, int(column.max()) - left + 1))
    shares[row - top, column - left] = share
    return Coverage(Window(top, left, *shares.shape), shares)


def _make_grid(raster: Raster) -> Any:
    """Return the cells of a raster without their values, as `exactextract` takes them."""
    source: Any = load_geo("exactextract.raster").RasterSource

    class Grid(source):
        def res(self) -> tuple[float, float]:
            return raster.cell_x, raster.cell_y

        def extent(self) -> tuple[float, float, float, float]:
            return raster.bounds

        def srs_wkt(self) -> None:
            return None

        def nodata_value(self) -> None:
            return None

        def read_window(self, _left: int, _top: int, columns: int, rows: int) -> Any:
            return np.zeros((rows, columns), np.uint8)

    return Grid()
