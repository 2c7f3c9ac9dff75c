"""Rasters and polygons that cannot be used say so in one line; those that can are read as they
are.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_rasters import NORTH, WEST, make_heights, write_areas, write_mosaic, write_raster

from extract.errors import BoundaryError, RasterError
from extract.tiling.boundaries import read_areas
from extract.tiling.geo import read_crs
from extract.tiling.mosaic import Mosaic, open_mosaic

rasterio = pytest.importorskip("rasterio")
HEIGHTS = make_heights(60, 90)
BOUNDS = np.array([[WEST, NORTH - 120, WEST + 180, NORTH]])
BOX = {"A": (WEST, NORTH - 120, WEST + 180, NORTH)}


def read_all(mosaic: Mosaic) -> np.ndarray:
    return mosaic.read(0, 0, 90, 60)


def test_a_mosaic_reads_as_rasterio_merges(tmp_path: Path) -> None:
    from rasterio.merge import merge

    folder = write_mosaic(tmp_path, HEIGHTS, side=25)
    over = np.where(HEIGHTS > 35, HEIGHTS + 1, -9999)[10:40, 50:90]
    write_raster(tmp_path / "over.tif", over, west=WEST + 170, north=NORTH - 20)
    mosaic = open_mosaic(folder)
    with pytest.warns(PendingDeprecationWarning):  # rasterio's own
        merged = merge([str(sheet.path) for sheet in mosaic.sheets], masked=True)[0][0]
    top, left = mosaic.origin[1] - NORTH, WEST - mosaic.origin[0]
    found = mosaic.read(round(left / 2), round(top / 2), 125, 60)
    np.testing.assert_array_equal(np.ma.filled(merged, np.nan), found)


def test_windows_reach_beyond_the_sheets_and_are_empty_there(tmp_path: Path) -> None:
    mosaic = open_mosaic(write_raster(tmp_path / "a.tif", HEIGHTS))
    window = mosaic.read(-5, -3, 100, 70)
    np.testing.assert_array_equal(window[3:63, 5:95], HEIGHTS)
    assert np.isnan(window).sum() == 7000 - HEIGHTS.size


def test_an_ascii_grid_and_a_vrt_read_as_the_geotiff(tmp_path: Path) -> None:
    tif = write_raster(tmp_path / "a.tif", HEIGHTS)
    write_raster(tmp_path / "a.asc", HEIGHTS, crs=None)
    vrt = tmp_path / "a.vrt"
    from rasterio.shutil import copy

    copy(str(tif), str(vrt), driver="VRT")
    (tmp_path / "a.prj").unlink(missing_ok=True)
    np.testing.assert_allclose(
        read_all(open_mosaic(tmp_path / "a.asc", crs="EPSG:27700")), HEIGHTS, atol=1e-3
    )
    np.testing.assert_array_equal(read_all(open_mosaic(vrt)), HEIGHTS)


def test_scaled_integers_and_stated_nodata_are_heights(tmp_path: Path) -> None:
    stored = np.rint(HEIGHTS * 100).astype(np.int16)
    stored[0, 0] = -32768
    path = write_raster(tmp_path / "a.tif", stored, nodata=None)
    with rasterio.open(path, "r+") as file:
        file.scales = (0.01,)
    found = read_all(open_mosaic(path, nodata=-32768))
    assert np.isnan(found[0, 0])
    np.testing.assert_allclose(found[1:], HEIGHTS[1:], atol=0.006)


def test_undeclared_nodata_is_no_height_and_the_option_is_named(tmp_path: Path) -> None:
    heights = HEIGHTS.copy()
    heights[3, 4] = -9999
    path = write_raster(tmp_path / "a.tif", heights, nodata=None)
    with pytest.raises(
        RasterError, match=r"1 cells of -9999 m, which is no height.*--nodata -9999"
    ):
        read_all(open_mosaic(path))
    assert np.isnan(read_all(open_mosaic(path, nodata=-9999))).sum() == 1


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"crs": None}, r"does not say what its coordinates mean .*Say it, as --crs EPSG:27700"),
        ({"crs": "EPSG:4326"}, r"projected metres, got EPSG:4326 \(degree\).*gdalwarp -t_srs"),
        ({"crs": "EPSG:2263"}, r"projected metres, got EPSG:2263 \(US survey foot\)"),
        ({"transform": rasterio.Affine(2, 0.1, WEST, 0, -2, NORTH)}, "square cells, north up"),
        ({"transform": rasterio.Affine(2, 0, WEST, 0, -3, NORTH)}, "square cells, north up"),
        ({"transform": rasterio.Affine(2, 0, WEST, 0, 2, NORTH)}, "square cells, north up"),
    ],
)
def test_rasters_of_no_use_say_why(tmp_path: Path, said: dict[str, Any], message: str) -> None:
    with pytest.raises(RasterError, match=message):
        open_mosaic(write_raster(tmp_path / "a.tif", HEIGHTS, **said))


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"west": WEST + 181}, "0.5 cells beside the grid of"),
        ({"cell_m": 1.0}, "cells of 1 m, .* beside the grid .*gdalwarp -tr 2 2 -tap"),
        ({"crs": "EPSG:32630"}, "in EPSG:32630, but .* is in EPSG:27700"),
    ],
)
def test_sheets_that_do_not_fit_together_say_which(
    tmp_path: Path, said: dict[str, Any], message: str
) -> None:
    write_raster(tmp_path / "a.tif", HEIGHTS)
    write_raster(tmp_path / "b.tif", HEIGHTS, **said)
    with pytest.raises(RasterError, match=message):
        open_mosaic(tmp_path)


def test_a_crs_that_contradicts_the_file_is_refused(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", HEIGHTS)
    with pytest.raises(RasterError, match="says that it is in EPSG:27700, not in EPSG:32630"):
        open_mosaic(path, crs="EPSG:32630")
    with pytest.raises(
        ValueError, match="expected a coordinate reference system, as EPSG:27700, got 'here'"
    ):
        open_mosaic(path, crs="here")


def test_what_is_no_raster_says_so(tmp_path: Path) -> None:
    with pytest.raises(RasterError, match="no such file or folder"):
        open_mosaic(tmp_path / "none.tif")
    with pytest.raises(RasterError, match=r"no .tif, .tiff or .asc in this folder"):
        open_mosaic(tmp_path)
    (tmp_path / "a.las").touch()
    with pytest.raises(RasterError, match=r"expected .tif, .tiff, .asc, .vrt, or a folder"):
        open_mosaic(tmp_path / "a.las")


def find(path: str, code: str = "code", **said: Any) -> Any:
    return read_areas(path, code, crs=read_crs("EPSG:27700", what="test"), bounds=BOUNDS, **said)


@pytest.mark.parametrize("name", ["a.gpkg", "a.shp", "a.geojson"])
def test_boundaries_of_every_format_are_read(tmp_path: Path, name: str) -> None:
    areas = find(
        str(
            write_areas(tmp_path / name, {**BOX, "B": (WEST + 1e5, NORTH, WEST + 2e5, NORTH + 1e5)})
        )
    )
    assert areas.codes.tolist() == ["A"]
    assert areas.find(
        np.array([[WEST, NORTH - 60], [WEST + 170, NORTH - 60]]), size_m=40, rule="centre"
    ).tolist() == ["A", ""]


def test_polygons_without_a_crs_need_one_stated(tmp_path: Path) -> None:
    path = str(write_areas(tmp_path / "a.shp", BOX))
    (tmp_path / "a.prj").unlink()
    with pytest.raises(BoundaryError, match=r"a .prj is missing.*--areas-crs EPSG:27700"):
        find(path)
    assert find(path, stated="EPSG:27700").codes.tolist() == ["A"]
    with pytest.raises(BoundaryError, match="no polygon lies where the raster does"):
        find(path, stated="EPSG:32630")


def test_boundaries_of_no_use_say_why(tmp_path: Path) -> None:
    path = str(write_areas(tmp_path / "a.gpkg", {**BOX, "B": BOX["A"]}))
    with pytest.raises(BoundaryError, match=r"no column 'cod'; it has code. Did you mean 'code'"):
        find(path, "cod")
    with pytest.raises(BoundaryError, match="no such file"):
        find(str(tmp_path / "none.shp"))
    (tmp_path / "b.geojson").write_text("{")
    with pytest.raises(BoundaryError, match="cannot be read"):
        find(str(tmp_path / "b.geojson"))
    with pytest.raises(
        BoundaryError,
        match=r"says that it is in EPSG:27700, not in EPSG:4326. Leave --areas-crs out",
    ):
        find(path, stated="EPSG:4326")


def test_layers_are_named_and_codes_that_are_numbers_are_whole(tmp_path: Path) -> None:
    import geopandas
    import shapely

    path = tmp_path / "two.gpkg"
    for layer, code in (("old", 7.0), ("new", 8.0)):
        geopandas.GeoDataFrame(
            {"code": [code]}, geometry=[shapely.box(*BOX["A"])], crs="EPSG:27700"
        ).to_file(path, layer=layer)
    with pytest.raises(
        BoundaryError, match=r"expected a layer of old, new. Write it as two.gpkg:old"
    ):
        find(str(path))
    assert find(f"{path}:new").codes.tolist() == ["8"]


@pytest.mark.parametrize(
    ("geometry", "message"),
    [
        ("POINT (400010 299990)", "expected polygons, got Point"),
        ("code", "1 polygons have no 'code'"),
    ],
)
def test_points_and_polygons_without_a_code_are_refused(
    tmp_path: Path, geometry: str, message: str
) -> None:
    import geopandas
    import shapely

    shapes = [
        shapely.box(*BOX["A"]),
        shapely.box(*BOX["A"]) if geometry == "code" else shapely.from_wkt(geometry),
    ]
    codes = ["A", None if geometry == "code" else "B"]
    geopandas.GeoDataFrame({"code": codes}, geometry=shapes, crs="EPSG:27700").to_file(
        tmp_path / "a.gpkg"
    )
    with pytest.raises(BoundaryError, match=message):
        find(str(tmp_path / "a.gpkg"))


def test_a_polygon_that_crosses_itself_is_mended_and_it_is_said(tmp_path: Path) -> None:
    import geopandas
    import shapely

    bow = shapely.Polygon(
        [(WEST, NORTH), (WEST + 100, NORTH - 100), (WEST + 100, NORTH), (WEST, NORTH - 100)]
    )
    geopandas.GeoDataFrame({"code": ["A"]}, geometry=[bow], crs="EPSG:27700").to_file(
        tmp_path / "a.gpkg"
    )
    areas = find(str(tmp_path / "a.gpkg"))
    assert areas.notes == ["a.gpkg: 1 polygons cross themselves, and were mended"]
    assert areas.find(np.array([[WEST, NORTH - 60]]), size_m=20, rule="overlap").tolist() == ["A"]


def test_a_terrain_has_to_lie_on_the_grid_of_the_surface(tmp_path: Path) -> None:
    surface = open_mosaic(write_raster(tmp_path / "a.tif", HEIGHTS))
    beside = write_raster(tmp_path / "b.tif", HEIGHTS, west=WEST + 4, north=NORTH + 6)
    found = open_mosaic(beside, grid=surface).read(2, 0, 85, 57)
    np.testing.assert_array_equal(found, HEIGHTS[3:60, :85])
    with pytest.raises(RasterError, match=r"0.5 cells beside the grid of .*a.tif"):
        open_mosaic(write_raster(tmp_path / "c.tif", HEIGHTS, west=WEST + 1), grid=surface)


@pytest.mark.parametrize("shared", [0, 20, 30, 90])
def test_two_rasters_of_one_ground_are_refused_by_name(tmp_path: Path, shared: int) -> None:
    write_raster(tmp_path / "a_dtm.tif", HEIGHTS)
    write_raster(tmp_path / "b_dsm.tif", HEIGHTS, west=WEST + 2 * (90 - shared))
    if shared <= 20:  # of 90 columns
        assert len(open_mosaic(tmp_path).sheets) == 2
        return
    with pytest.raises(RasterError, match=r"a_dtm.tif and .*b_dsm.tif share .*% of their ground"):
        open_mosaic(tmp_path)


def test_metres_of_web_mercator_are_refused_with_the_zone_to_use(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", HEIGHTS, west=0, north=6_700_000, crs="EPSG:3857")
    with pytest.raises(RasterError, match=r"EPSG:3857, of which 1.60 m are one.*EPSG:32631"):
        open_mosaic(path)
    for crs in ("EPSG:32631", "EPSG:3035", "EPSG:2154"):
        path = write_raster(tmp_path / "b.tif", HEIGHTS, west=500_000, north=6_700_000, crs=crs)
        if crs == "EPSG:3035":
            path = write_raster(tmp_path / "b.tif", HEIGHTS, west=3.6e6, north=3.2e6, crs=crs)
        assert open_mosaic(path).cell_m == 2.0


def test_heights_above_a_datum_are_the_same_places(tmp_path: Path) -> None:
    write_raster(tmp_path / "a.tif", HEIGHTS, crs="EPSG:7405")
    write_raster(tmp_path / "b.tif", HEIGHTS, west=WEST + 180)
    assert len(open_mosaic(tmp_path).sheets) == 2
    assert len(open_mosaic(tmp_path, crs="EPSG:27700").sheets) == 2


def test_a_local_crs_gives_way_to_the_one_that_is_stated(tmp_path: Path) -> None:
    local = 'LOCAL_CS["site",UNIT["metre",1]]'
    path = write_raster(tmp_path / "a.tif", HEIGHTS, crs=local)
    with pytest.raises(RasterError, match=r"does not say what its coordinates mean.*--crs"):
        open_mosaic(path)
    assert open_mosaic(path, crs="EPSG:27700").crs.to_epsg() == 27700


def test_files_of_macos_beside_rasters_are_passed_over(tmp_path: Path) -> None:
    write_raster(tmp_path / "a.tif", HEIGHTS)
    (tmp_path / "._a.tif").write_bytes(b"\0\5\26\7" + bytes(60))
    assert len(open_mosaic(tmp_path).sheets) == 1


@pytest.mark.filterwarnings("ignore:'crs' was not provided:UserWarning")
def test_metres_without_a_crs_in_a_geojson_need_one_stated(tmp_path: Path) -> None:
    path = write_areas(tmp_path / "a.geojson", BOX, crs=None)
    with pytest.raises(BoundaryError, match=r"does not say what .*--areas-crs EPSG:27700"):
        find(str(path))
    assert find(str(path), stated="EPSG:27700").codes.tolist() == ["A"]


def test_a_zip_a_folder_and_a_geodatabase_are_read(tmp_path: Path) -> None:
    write_areas(tmp_path / "shapes" / "a.shp", BOX)
    assert find(str(tmp_path / "shapes")).codes.tolist() == ["A"]
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for part in (tmp_path / "shapes").iterdir():
            archive.write(part, f"deep/{part.name}")
        archive.writestr("__MACOSX/deep/._a.shp", b"x")
    assert find(str(tmp_path / "a.zip")).codes.tolist() == ["A"]
    write_areas(tmp_path / "shapes" / "b.shp", BOX)
    with pytest.raises(BoundaryError, match=r"expected a layer of"):
        find(str(tmp_path / "shapes"))
    assert find(f"{tmp_path / 'shapes'}:b").codes.tolist() == ["A"]
    with zipfile.ZipFile(tmp_path / "a.zip", "a") as archive:
        archive.write(tmp_path / "shapes" / "b.shp", "b.shp")
    with pytest.raises(BoundaryError, match=r"expected one file of polygons in the zip, got b.shp"):
        find(str(tmp_path / "a.zip"))
    import geopandas
    import shapely

    frame = geopandas.GeoDataFrame({"code": ["A"]}, geometry=[shapely.box(*BOX["A"])])
    frame.set_crs("EPSG:27700").to_file(tmp_path / "a.gdb", driver="OpenFileGDB", layer="areas")
    assert find(str(tmp_path / "a.gdb")).codes.tolist() == ["A"]
    (tmp_path / "download").mkdir()
    (tmp_path / "a.gdb").rename(tmp_path / "download" / "a.gdb")
    (tmp_path / "download" / "about.txt").write_text("of 2011")
    assert find(str(tmp_path / "download")).codes.tolist() == ["A"]
    write_areas(tmp_path / "download" / "b.gpkg", BOX)
    message = r"expected one file of polygons in the folder, got a.gdb, b.gpkg"
    with pytest.raises(BoundaryError, match=message):
        find(str(tmp_path / "download"))


def test_xml_in_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.geojson").write_text("<OGRVRTDataSource/>")
    with pytest.raises(BoundaryError, match="XML, which may name data in other places"):
        find(str(tmp_path))


def test_xml_in_a_zip_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.geojson", "<OGRVRTDataSource/>")
    with pytest.raises(BoundaryError, match="XML, which may name data in other places"):
        find(str(tmp_path / "a.zip"))


def test_polygons_without_a_geometry_are_counted(tmp_path: Path) -> None:
    import geopandas
    import shapely

    shapes = [shapely.box(*BOX["A"]), None]
    frame = geopandas.GeoDataFrame({"code": ["A", "B"]}, geometry=shapes, crs="EPSG:27700")
    frame.to_file(tmp_path / "a.gpkg")
    areas = find(str(tmp_path / "a.gpkg"))
    assert areas.codes.tolist() == ["A"]
    assert areas.notes == ["a.gpkg: 1 polygons have no geometry"]
