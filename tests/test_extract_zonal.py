"""Rasters pooled inside tiles and areas."""

import json
from pathlib import Path
from typing import Any

import exactextract
import geopandas
import h5py
import numpy as np
import pandas as pd
import pyproj
import pytest
import rasterio
import shapely

from extract.errors import RasterError, RooflineError, VectorFileError
from extract.settings import ExtractSettings, read_settings
from extract.store.embeddings import Embeddings
from extract.store.incoming import ImportSummary
from extract.zonal.pool_rasters import Reading, pool_rasters
from extract.zonal.pooling import parse_pools, pool_cells
from extract.zonal.raster_embeddings import RasterRequest, embed_rasters
from extract.zonal.rasters import decode, read_rasters
from extract.zonal.zones import Zones, make_squares

OSGB = pyproj.CRS("EPSG:27700")
WEST, NORTH = 530_000.0, 180_000.0


def write(path: Path, cells: np.ndarray, *, cell: float = 10.0, **profile: Any) -> Path:
    """Write (bands, rows, columns) in the national grid, 16 by 16 cells a block."""
    bands, rows, columns = cells.shape
    facts = {
        "driver": "GTiff",
        "count": bands,
        "height": rows,
        "width": columns,
        "dtype": cells.dtype,
        "crs": "EPSG:27700",
        "transform": rasterio.Affine(cell, 0, WEST, 0, -cell, NORTH),
        "tiled": True,
        "blockxsize": 16,
        "blockysize": 16,
    } | profile
    with rasterio.open(path, "w", **facts) as file:
        file.write(cells)
    return path


def draw(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def squares(n: int, size_m: float = 73.0, **options: int) -> Zones:
    """Return tiles at odd places inside 600 m by 600 m."""
    inside = np.random.default_rng(1).uniform(50, 550, (n, 2))
    xy = np.column_stack([WEST + inside[:, 0], NORTH - inside[:, 1]])
    return make_squares(xy, size_m, OSGB, **options)


def test_statistics_are_those_of_exactextract(tmp_path: Path) -> None:
    path = write(tmp_path / "r.tif", draw((3, 60, 60)))
    zones = squares(20)
    pools = ("mean", "sd", "min", "max", "p10", "p50")
    pooled = pool_rasters(read_rasters(path), zones, Reading(pools))
    features = [
        {"type": "Feature", "properties": {}, "geometry": shapely.geometry.mapping(shape)}
        for shape in zones.shapes
    ]
    ops = ["mean", "stdev", "min", "max", "quantile(q=0.1)", "median"]
    names = ["mean", "stdev", "min", "max", "quantile_10", "median"]
    expected = exactextract.exact_extract(str(path), features, ops)
    for zone, found in enumerate(expected):
        right = [[found["properties"][f"band_{b}_{name}"] for b in (1, 2, 3)] for name in names]
        np.testing.assert_allclose(pooled.values[zone], right, atol=1e-5)
    np.testing.assert_allclose(pooled.share, 1, atol=1e-6)


def test_areas_of_any_shape_are_those_of_exactextract(tmp_path: Path) -> None:
    path = write(tmp_path / "r.tif", draw((2, 60, 60)))
    corners = np.array([[53, 71], [480, 130], [333, 520], [90, 400]])
    area = shapely.Polygon(corners * [1, -1] + [WEST, NORTH])
    pooled = pool_rasters(read_rasters(path), Zones(np.array([area]), OSGB), Reading(("mean",)))
    feature = {"type": "Feature", "properties": {}, "geometry": shapely.geometry.mapping(area)}
    right = exactextract.exact_extract(str(path), [feature], ["mean"])[0]["properties"]
    for band in (0, 1):
        assert pooled.values[0, 0, band] == pytest.approx(right[f"band_{band + 1}_mean"], abs=1e-6)


def test_edges_count_by_the_ground_that_they_share(tmp_path: Path) -> None:
    cells = np.array([[[1, 2, 4]]], np.float32)
    path = write(tmp_path / "r.tif", cells, blockxsize=16, blockysize=16)
    zones = make_squares(np.array([[WEST + 12.5, NORTH - 5.0]]), 10.0, OSGB)  # 2.5 and 7.5 m
    pooled = pool_rasters(read_rasters(path), zones, Reading(("mean", "sd")))
    np.testing.assert_allclose(pooled.values[0, :, 0], [1.75, np.sqrt(0.25 * 0.75)], atol=1e-6)


def test_a_raster_in_degrees_gives_the_same(tmp_path: Path) -> None:
    to_degrees = pyproj.Transformer.from_crs(OSGB, 4326, always_xy=True)
    to_metres = pyproj.Transformer.from_crs(4326, OSGB, always_xy=True)

    def height(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.sin(x / 150) + np.cos(y / 90)

    west, south = to_degrees.transform(WEST, NORTH - 700)
    east, north = to_degrees.transform(WEST + 700, NORTH)
    n = 400
    step_x, step_y = (east - west) / n, (north - south) / n
    lon = west + step_x * (np.arange(n) + 0.5)
    lat = north - step_y * (np.arange(n) + 0.5)
    x, y = to_metres.transform(*np.meshgrid(lon, lat))
    degrees = write(
        tmp_path / "d.tif",
        height(x, y)[None].astype(np.float32),
        crs="EPSG:4326",
        transform=rasterio.Affine(step_x, 0, west, 0, -step_y, north),
    )
    inside = WEST + 2 * (np.arange(350) + 0.5)
    down = NORTH - 2 * (np.arange(350) + 0.5)
    values = height(*np.meshgrid(inside, down))[None].astype(np.float32)
    metres = write(tmp_path / "m.tif", values, cell=2.0)
    zones = squares(10)
    reading = Reading(("mean", "sd"))
    one = pool_rasters(read_rasters(metres), zones, reading)
    other = pool_rasters(read_rasters(degrees), zones, reading)
    np.testing.assert_allclose(other.values, one.values, atol=1e-3)


def test_two_sheets_give_what_one_gives_and_cells_without_data_are_left_out(
    tmp_path: Path,
) -> None:
    cells = draw((4, 60, 60))
    cells[:, 20:30, 20:30] = -9
    whole = write(tmp_path / "whole.tif", cells, nodata=-9)
    (tmp_path / "sheets").mkdir()
    write(tmp_path / "sheets/a.tif", cells[:, :, :24], nodata=-9)
    east = rasterio.Affine(10, 0, WEST + 240, 0, -10, NORTH)
    write(tmp_path / "sheets/b.tif", cells[:, :, 24:], nodata=-9, transform=east)
    zones = squares(30)
    reading = Reading(("mean", "sd", "p90"))
    one = pool_rasters(read_rasters(whole), zones, reading)
    other = pool_rasters(read_rasters(tmp_path / "sheets"), zones, reading)
    np.testing.assert_allclose(other.values, one.values, atol=1e-9)
    np.testing.assert_allclose(other.share, one.share, atol=1e-6)
    hole = shapely.box(WEST + 200, NORTH - 300, WEST + 300, NORTH - 200)
    right = 1 - shapely.area(shapely.intersection(zones.shapes, hole)) / 73**2
    np.testing.assert_allclose(one.share, right, atol=1e-5)
    assert (np.isnan(one.values).all(axis=(1, 2)) == (right < 1e-9)).all()


def test_bands_in_groups_and_zones_in_pieces_give_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rasters = read_rasters(write(tmp_path / "r.tif", draw((5, 60, 60))))
    reading = Reading(("mean", "max"))
    whole = pool_rasters(rasters, squares(9), reading)
    seen: list[tuple[int, int]] = []
    monkeypatch.setattr("extract.zonal.pool_rasters._MOST_NUMBERS", 130)
    parts = pool_rasters(
        rasters, squares(9), reading, on_zones=lambda done, todo: seen.append((done, todo))
    )
    np.testing.assert_allclose(parts.values, whole.values, rtol=1e-12)
    assert len(seen) > 3
    assert seen[-1] == (9, 9)


def test_parts_of_a_tile_run_row_by_row_from_the_north_west(tmp_path: Path) -> None:
    cells = np.arange(16, dtype=np.float32).reshape(1, 4, 4)
    path = write(tmp_path / "r.tif", cells)
    zones = make_squares(np.array([[WEST + 20, NORTH - 20]]), 40.0, OSGB, n_parts=4)
    pooled = pool_rasters(read_rasters(path), zones, Reading(("mean",)))
    np.testing.assert_allclose(pooled.values[:, 0, 0], np.arange(16), atol=1e-6)


def test_scale_offset_and_the_code_of_alphaearth(tmp_path: Path) -> None:
    stored = np.array([[[-127, 0, 64]]], np.int8)
    path = write(tmp_path / "r.tif", stored, nodata=-128)
    with rasterio.open(path, "r+") as file:
        file.scales = (0.5,)
        file.offsets = (3.0,)
    zones = make_squares(np.array([[WEST + 25, NORTH - 5]]), 10.0, OSGB)
    pooled = pool_rasters(read_rasters(path), zones, Reading(("mean",)))
    assert pooled.values.item() == pytest.approx(64 * 0.5 + 3)
    np.testing.assert_allclose(
        decode(np.array([-127.5, 0, 63.75, -128]), "alphaearth"), [-1, 0, 0.25, np.nan], atol=1e-12
    )


def test_rows_that_run_to_the_north_give_the_same(tmp_path: Path) -> None:
    cells = draw((2, 60, 50))
    to_south = write(tmp_path / "a.tif", cells)
    upwards = rasterio.Affine(10, 0, WEST, 0, 10, NORTH - 600)
    to_north = write(tmp_path / "b.tif", cells[:, ::-1], transform=upwards)
    zones = squares(12)
    reading = Reading(("mean", "max"))
    one = pool_rasters(read_rasters(to_south), zones, reading)
    other = pool_rasters(read_rasters(to_north), zones, reading)
    assert read_rasters(to_north)[0].bounds == read_rasters(to_south)[0].bounds
    np.testing.assert_allclose(other.values, one.values, rtol=1e-12)
    np.testing.assert_allclose(other.share, one.share)


def test_a_code_beside_a_scale_is_refused(tmp_path: Path) -> None:
    raster = write(tmp_path / "dem.tif", draw((1, 30, 30)))
    with rasterio.open(raster, "r+") as file:
        file.scales = (0.5,)
    with pytest.raises(RasterError, match=r"states a scale.*Leave --code out"):
        embed(write_table(tmp_path), raster, code="alphaearth")


def test_percentiles_of_equal_weights_are_numpys() -> None:
    cells = draw((1, 37)).astype(np.float64)
    names = tuple(f"p{q}" for q in (0, 10, 25, 50, 90, 100))
    pooled = pool_cells(cells, np.full(37, 1 / 37), names)[:, 0]
    np.testing.assert_allclose(pooled, np.percentile(cells, [0, 10, 25, 50, 90, 100]), atol=1e-12)


def test_a_zone_without_cells_has_no_statistics() -> None:
    pooled = pool_cells(np.empty((3, 0)), np.empty(0), ("mean", "sd", "min", "p50"))
    assert pooled.shape == (4, 3)
    assert np.isnan(pooled).all()


@pytest.mark.parametrize("text", ["", "mean,median", "mean,mean", "p101", "p-1"])
def test_what_is_no_statistic_is_refused(text: str) -> None:
    with pytest.raises(RasterError, match="--pool"):
        parse_pools(text)


def test_a_raster_of_another_place_is_refused_with_both_extents(tmp_path: Path) -> None:
    path = write(tmp_path / "r.tif", draw((1, 60, 60)))
    elsewhere = make_squares(np.array([[100_000.0, 200_000.0]]), 200.0, OSGB)
    with pytest.raises(RasterError, match=r"spans 530000 .* and they span 99900 199900"):
        pool_rasters(read_rasters(path), elsewhere, Reading(("mean",)))


def write_table(folder: Path, **tiles: str) -> Path:
    """Write a table of 9 tiles of 100 m in three areas, and settings."""
    xy = [(WEST + 100 * i + 50, NORTH - 100 * j - 50) for j in range(3) for i in range(3)]
    frame = pd.DataFrame(xy, columns=["x", "y"])
    frame["id"] = range(9)
    frame["area"] = np.repeat(["a", "b", "c"], 3)
    frame["income"] = np.arange(9.0)
    frame.to_csv(folder / "t.csv", index=False)
    keys = {"x": "x", "y": "y", "crs": "EPSG:27700"} | tiles
    lines = "".join(f'{key} = "{value}"\n' for key, value in keys.items() if value)
    path = folder / "s.toml"
    path.write_text(
        f'name = "s"\nout = "out"\n[tiles]\ntable = "t.csv"\nimages = "."\narea = "area"\n{lines}'
        'size_m = 100\n[targets]\ncolumns = ["income"]\n[extract]\ncuts = ["dem/2024:flat"]\n'
    )
    return path


def embed(path: Path, raster: Path, **request: Any) -> ImportSummary:
    fresh = request.pop("fresh", False)
    made = RasterRequest(
        sources={request.pop("name", "dem/2024"): raster},
        reading=Reading(request.pop("pools", ("mean", "sd")), request.pop("code", "stored")),
        **request,
    )
    return embed_rasters(read_settings(path, ExtractSettings), made, fresh=fresh)


def read_vectors(summary: ImportSummary) -> tuple[np.ndarray, np.ndarray]:
    with Embeddings(summary.path) as embeddings:
        return embeddings.read(embeddings.cuts[0]), embeddings.is_ok


def test_statistics_become_a_cut_and_tiles_without_data_are_rejected(tmp_path: Path) -> None:
    cells = draw((2, 30, 30))
    cells[:, :10, :6] = -9  # 60 % of the first tile
    raster = write(tmp_path / "dem.tif", cells, nodata=-9)
    done = embed(write_table(tmp_path), raster)
    values, is_ok = read_vectors(done)
    assert np.flatnonzero(~is_ok).tolist() == [0]
    assert done.n_absent == 1
    tile = cells[:, 10:20, 20:30].reshape(2, -1)  # the sixth
    np.testing.assert_allclose(values[5], [*tile.mean(axis=1), *tile.std(axis=1)], atol=2e-3)
    with h5py.File(next((tmp_path / "out/features/dem").glob("*.h5"))) as file:
        facts = json.loads(file.attrs["imported_from"])
        assert facts["2024:flat"]["bands"] == ["B1", "B2"]
        assert "EPSG:27700" in facts["2024:flat"]["crs"]
        assert b"has data for 40 % of it" in b"".join(file["reason"][:])
    with pytest.raises(VectorFileError, match="--fresh"):
        embed(tmp_path / "s.toml", raster)
    assert embed(tmp_path / "s.toml", raster, least=0.3, fresh=True).n_absent == 0


def test_a_map_holds_the_means_of_parts(tmp_path: Path) -> None:
    cells = draw((3, 30, 30))
    raster = write(tmp_path / "dem.tif", cells)
    done = embed(write_table(tmp_path), raster, pools=("mean",), n_parts=5)
    values, _ = read_vectors(done)
    assert values.shape == (9, 5, 5, 3)
    right = cells[:, 10:20, 20:30].reshape(3, 5, 2, 5, 2).mean(axis=(2, 4))
    np.testing.assert_allclose(values[5], np.moveaxis(right, 0, 2), atol=2e-3)


def test_rows_of_an_area_have_the_statistics_of_its_polygon(tmp_path: Path) -> None:
    cells = draw((1, 30, 30))
    raster = write(tmp_path / "dem.tif", cells)
    shapes = [shapely.box(WEST, NORTH - 100 * j - 100, WEST + 300, NORTH - 100 * j) for j in (0, 1)]
    frame = geopandas.GeoDataFrame({"code": ["a", "b"]}, geometry=shapes, crs="EPSG:27700")
    frame.to_file(tmp_path / "areas.gpkg")
    path = write_table(tmp_path, x="", y="", crs="")
    done = embed(path, raster, areas=(str(tmp_path / "areas.gpkg"), "code"))
    values, is_ok = read_vectors(done)
    assert np.flatnonzero(~is_ok).tolist() == [6, 7, 8]
    np.testing.assert_allclose(values[3:6, 0], cells[0, 10:20].mean(), atol=1e-3)


@pytest.mark.parametrize(
    ("tiles", "request_", "message"),
    [
        ({"crs": ""}, {}, r"\[tiles\] x and y, size_m, crs: not all are set"),
        ({}, {"name": "dem"}, "--as dem: expected <product>/<version>"),
        ({}, {"n_parts": 2}, "a map holds means alone"),
        ({}, {"areas": ("none.gpkg", "code")}, "none.gpkg"),
    ],
)
def test_what_cannot_be_pooled_is_refused(
    tmp_path: Path, tiles: dict[str, str], request_: dict[str, Any], message: str
) -> None:
    raster = write(tmp_path / "dem.tif", draw((1, 30, 30)))
    path = write_table(tmp_path, **tiles)
    with pytest.raises(RooflineError, match=message):
        embed(path, raster, **request_)
    assert not (tmp_path / "out/features/dem.h5").exists()


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        ({"crs": None}, "does not say what its coordinates mean"),
        ({"transform": rasterio.Affine(10, 1, WEST, 0, -10, NORTH)}, "rows from west to east"),
        ({"dtype": "complex64"}, "real numbers"),
    ],
)
def test_headers_that_are_no_map_are_refused(
    tmp_path: Path, profile: dict[str, Any], message: str
) -> None:
    path = tmp_path / "dem.tif"
    write(path, draw((1, 30, 30)), **profile)
    with pytest.raises(RasterError, match=message):
        read_rasters(path)
