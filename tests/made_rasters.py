"""Small surveys for the tests: heights with houses on a slope, written as rasters, and the polygons
of areas.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

WEST, NORTH = 400_000.0, 300_000.0


def make_heights(rows: int, columns: int, *, cell_m: float = 2.0, seed: int = 0) -> np.ndarray:
    """Return houses of 4 to 20 m on ground that rises by 1 in 50 to the east: (rows, columns)
    float32 [m].
    """
    rng = np.random.default_rng(seed)
    heights = np.tile(30 + np.arange(columns) * cell_m / 50, (rows, 1))
    for _ in range(rows * columns // 600):
        row, column, high = rng.integers(0, rows), rng.integers(0, columns), rng.uniform(4, 20)
        side = rng.integers(4, 14, 2)
        heights[row : row + side[0], column : column + side[1]] += high
    return (heights + 0.05 * rng.standard_normal(heights.shape)).astype(np.float32)


def write_raster(
    path: Path,
    heights: np.ndarray,
    *,
    west: float = WEST,
    north: float = NORTH,
    cell_m: float = 2.0,
    crs: str | None = "EPSG:27700",
    **said: Any,
) -> Path:
    """Write heights as a raster of the format that the suffix names."""
    rasterio = pytest.importorskip("rasterio")
    path.parent.mkdir(parents=True, exist_ok=True)
    driver = {".tif": "GTiff", ".asc": "AAIGrid"}[path.suffix]
    profile = {
        "driver": driver,
        "width": heights.shape[1],
        "height": heights.shape[0],
        "count": 1,
        "dtype": heights.dtype,
        "crs": crs,
        "transform": rasterio.Affine(cell_m, 0, west, 0, -cell_m, north),
        "nodata": -9999.0,
        **said,
    }
    with rasterio.open(path, "w", **profile) as file:
        file.write(heights, 1)
    return path


def write_mosaic(folder: Path, heights: np.ndarray, *, side: int, cell_m: float = 2.0) -> Path:
    """Write heights as files of `side` cells each."""
    for row in range(0, heights.shape[0], side):
        for column in range(0, heights.shape[1], side):
            write_raster(
                folder / f"r{row}c{column}.tif",
                heights[row : row + side, column : column + side],
                west=WEST + column * cell_m,
                north=NORTH - row * cell_m,
                cell_m=cell_m,
            )
    return folder


def write_areas(
    path: Path,
    boxes: dict[str, tuple[float, float, float, float]],
    *,
    crs: str | None = "EPSG:27700",
    to: str | None = None,
    column: str = "code",
) -> Path:
    """Write rectangles (west, south, east, north) as the polygons of areas, brought into another
    CRS where `to` says so.
    """
    geopandas, shapely = pytest.importorskip("geopandas"), pytest.importorskip("shapely")
    frame = geopandas.GeoDataFrame(
        {column: list(boxes)}, geometry=[shapely.box(*box) for box in boxes.values()], crs=crs
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    (frame.to_crs(to) if to else frame).to_file(path, engine="pyogrio")
    return path
