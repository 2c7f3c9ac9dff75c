"""Tiles from a made 1 m mosaic, and 64 bands pooled inside tiles: `make bench-tiles`."""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import pyproj
import rasterio
from joblib import cpu_count

from benchmarks.rows import Row, render_table
from extract.tiling.make_tiles import make_tiles
from extract.tiling.options import Request
from extract.timing.clock import peak_rss_bytes
from extract.zonal.pool_rasters import Reading, pool_rasters
from extract.zonal.rasters import read_rasters
from extract.zonal.zones import make_squares

GOAL, SIDE, CELL_M = 200.0, 1000, 1.0


def write_survey(folder: Path, *, n_km: int) -> Path:
    """Write files of 1 km, as surveys come: houses on uneven ground, float32, deflated."""
    rng = np.random.default_rng(0)
    for east in range(n_km):
        for north in range(n_km):
            heights = np.repeat(np.repeat(rng.uniform(0, 3, (50, 50)), 20, 0), 20, 1)
            for row, column in rng.integers(0, SIDE, (1500, 2)):
                heights[row : row + 12, column : column + 9] = rng.uniform(5, 15)
            heights += 0.02 * rng.standard_normal(heights.shape)
            transform = rasterio.Affine(
                CELL_M, 0, 400_000 + east * SIDE, 0, -CELL_M, 300_000 + (north + 1) * SIDE
            )
            with rasterio.open(
                folder / f"e{east}n{north}.tif",
                "w",
                driver="GTiff",
                width=SIDE,
                height=SIDE,
                count=1,
                dtype="float32",
                crs="EPSG:27700",
                transform=transform,
                nodata=-9999,
                compress="deflate",
                predictor=3,
                tiled=True,
            ) as file:
                file.write(heights.astype(np.float32), 1)
    return folder


def write_embeddings(path: Path, *, n_cells: int) -> Path:
    """Write 64 bands of 8 bits at 10 m, as embeddings of places are published."""
    rng = np.random.default_rng(0)
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=n_cells,
        height=n_cells,
        count=64,
        dtype="int8",
        crs="EPSG:27700",
        transform=rasterio.Affine(10, 0, 400_000, 0, -10, 300_000),
        nodata=-128,
        compress="deflate",
        tiled=True,
        blockxsize=512,
        blockysize=512,
        interleave="pixel",
    ) as file:
        file.write(rng.integers(-100, 100, (64, n_cells, n_cells)).astype(np.int8))
    return path


def measure_pooling(folder: Path, *, n_km: int) -> list[Row]:
    """Pool every tile of 200 m, and read the raster by its blocks alone."""
    path = write_embeddings(folder / "embeddings.tif", n_cells=100 * n_km)
    inside = 200.0 * np.arange(5 * n_km) + 100
    x, y = np.meshgrid(400_000 + inside, 300_000 - inside)
    xy = np.column_stack([x.ravel(), y.ravel()])
    began = time.perf_counter()
    with rasterio.open(path) as file:
        for _, window in file.block_windows(1):
            file.read(window=window)
    read = time.perf_counter() - began
    began = time.perf_counter()
    zones = make_squares(xy, 200.0, pyproj.CRS("EPSG:27700"))
    pool_rasters(read_rasters(path), zones, Reading(("mean", "sd")))
    pooled = time.perf_counter() - began
    what = f"{len(xy)} tiles, mean and sd of 64 bands of 10 m"
    return [
        Row("pooling", what, len(xy) / pooled, unit="tiles/s", digits=0),
        Row("share of reading alone", what, read / pooled, at_least=0.3),
    ]


def main() -> None:
    """Print tiles per second and the peak of memory, for two sizes of the survey."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--km", type=int, nargs="+", default=[3, 6], help="sides of the surveys, in kilometres"
    )
    parser.add_argument("--embeddings-km", type=int, default=12, help="side of the raster of bands")
    parser.add_argument("--channels", default="height,slope,hillshade")
    asked, rows = parser.parse_args(), []
    for n_km in asked.km:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            (folder / "dsm").mkdir()
            request = Request(
                surface=write_survey(folder / "dsm", n_km=n_km),
                out=folder / "out",
                channels=tuple(asked.channels.split(",")),
            )
            made = make_tiles(request)
        peak = peak_rss_bytes() / 2**20
        what = f"{made.n_tiles} tiles of 1 m, {n_km * n_km} files, {cpu_count()} cores"
        rows += [
            Row("tiles/s", what, made.n_new / made.seconds, at_least=GOAL, digits=0),
            Row("peak", what, peak, unit="MiB"),
        ]
    with tempfile.TemporaryDirectory() as temporary:
        rows += measure_pooling(Path(temporary), n_km=asked.embeddings_km)
    print(render_table(rows))


if __name__ == "__main__":
    main()
