"""What a stranger may have written: paths that climb out, archives, pictures, embeddings,
predictions and rasters.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

import h5py
import made_experiment
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from extract.errors import (
    BoundaryError,
    EmbeddingsError,
    ImageSourceError,
    RasterError,
    RunFileError,
    SettingsError,
    TableError,
)
from extract.settings import ExtractSettings, read_settings
from extract.store.embeddings import Embeddings
from extract.tables.tile_reader import TileReader
from extract.tables.tile_table import read_tiles
from extract.timing.clock import Clock
from models.cli import app
from models.store.runs import read_prediction_table, read_predictions, run_folder, write_run


def reasons(path: Path) -> list[str]:
    settings = read_settings(path, ExtractSettings)
    return TileReader(settings, read_tiles(settings)).read(range(3), Clock()).reasons


def pointing_at(experiment: Any, images: str, *names: str) -> Path:
    """Write settings whose pictures are named by a column."""
    return experiment(
        n=3,
        replace={'"{id}.png"': '"{picture}"', 'images = "tiles"': f'images = "{images}"'},
        picture=[*names, *["0.png"] * 3][:3],
    )


@pytest.mark.parametrize("pattern", ["../{id}.png", "/etc/{id}.png", "a/../../{id}.png"])
def test_patterns_that_climb_out_are_refused(experiment: Any, pattern: str) -> None:
    with pytest.raises(SettingsError, match="expected a pattern inside the images folder"):
        read_settings(experiment(replace={'"{id}.png"': f'"{pattern}"'}), ExtractSettings)


@pytest.mark.parametrize(
    "name", ["../secret.png", "/etc/passwd", "a/../../secret.png", "..", "a\\..\\..\\secret.png"]
)
def test_columns_that_climb_out_are_refused(experiment: Any, name: str) -> None:
    with pytest.raises(TableError, match="outside the images folder"):
        reasons(pointing_at(experiment, "tiles", name))


@pytest.mark.parametrize("is_folder", [False, True])
def test_links_that_point_out_are_followed_only_where_the_settings_say_so(
    experiment: Any, is_folder: bool
) -> None:
    path = pointing_at(experiment, "tiles", "out/0.png" if is_folder else "out.png")
    outside = path.parent / "outside"
    (path.parent / "tiles").rename(outside)
    (path.parent / "tiles").mkdir()
    (path.parent / "tiles" / "0.png").write_bytes((outside / "0.png").read_bytes())
    (path.parent / "tiles" / ("out" if is_folder else "out.png")).symlink_to(
        outside if is_folder else outside / "0.png"
    )
    assert reasons(path) == [
        "a link out of the images folder; [tiles] follow_links = true allows it",
        "",
        "",
    ]
    path.write_text(path.read_text().replace('area = "area"', 'area = "area"\nfollow_links = true'))
    assert reasons(path) == ["", "", ""]


def write_archive(path: Path, members: dict[str, bytes]) -> None:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in members.items():
                archive.writestr(name, data)
        return
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_members_that_climb_out_are_not_read_and_not_unpacked(experiment: Any, kind: str) -> None:
    path = pointing_at(experiment, f"t.{kind}", "evil.png")
    picture = (path.parent / "tiles" / "0.png").read_bytes()
    write_archive(
        path.parent / f"t.{kind}", {"../evil.png": picture, "/evil.png": picture, "0.png": picture}
    )
    assert reasons(path)[1:] == ["", ""]
    assert reasons(path)[0] in ("file missing", "a path that climbs out of the archive")
    assert not (path.parent / "evil.png").exists()
    for name in ("../evil.png", "/evil.png"):
        with pytest.raises(TableError, match="outside the images folder"):
            reasons(pointing_at(experiment, f"t.{kind}", name))


def test_an_archive_of_a_name_alone_is_refused(experiment: Any) -> None:
    path = pointing_at(experiment, "t.zip")
    (path.parent / "t.zip").write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(ImageSourceError, match="make the archive anew"):
        reasons(path)


def png(width: int, height: int, rows: bytes) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (png(1_000_000, 1_000_000, b""), "larger than [tiles] max_pixels"),
        (png(0, 5, b""), "image of 0 × 5 pixels"),
        (png(60, 60, bytes(10)), "image data damaged or truncated"),
        (b"II*\0\xff\xff\xff\xff", "not an image"),
        (b"\x80\x04\x95pickle", "not an image"),
        (b"<svg onload='x'/>", "not an image"),
    ],
)
def test_pictures_that_lie_are_rejected_with_the_reason(
    experiment: Any, data: bytes, reason: str
) -> None:
    path = pointing_at(experiment, "tiles", "bad.png")
    (path.parent / "tiles" / "bad.png").write_bytes(data)
    found = reasons(path)
    assert reason in found[0]
    assert found[1:] == ["", ""]


@pytest.fixture
def features(tmp_path: Path) -> Path:
    made_experiment.make_experiment(tmp_path)
    return tmp_path / "out" / "features" / "net.h5"


def replace_dataset(path: Path, name: str, make: Any) -> None:
    with h5py.File(path, "r+") as file:
        del file[name]
        make(file, name)


def test_embeddings_as_they_are_written_are_read(features: Path) -> None:
    with Embeddings(features) as embeddings:
        assert embeddings.read("last:avg").shape == (100, 6)


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        (
            "cuts/last:avg",
            lambda f, n: f.__setitem__(n, h5py.ExternalLink("/etc/other.h5", "/x")),
            "lies in another file",
        ),
        (
            "cuts/last:avg",
            lambda f, n: f.create_dataset(n, (100, 6), "f4", external=[("/etc/passwd", 0, 2400)]),
            "another file",
        ),
        ("cuts/last:avg", lambda f, n: f.create_dataset(n, (7, 6), "f4"), "has 7 rows, status 100"),
        ("cuts/last:avg", lambda f, n: f.create_dataset(n, (100, 6), "i4"), "no floats"),
        ("id", lambda f, n: f.__setitem__(n, h5py.SoftLink("/status")), "missing, or a link"),
        ("status", lambda f, n: None, "missing, or a link"),
        ("cuts", lambda f, n: f.create_dataset(n, (3,), "f4"), "not as `make features` writes it"),
    ],
)
def test_embeddings_that_lie_or_point_elsewhere_are_refused(
    features: Path, name: str, make: Any, message: str
) -> None:
    replace_dataset(features, name, make)
    with pytest.raises(EmbeddingsError, match=message):
        Embeddings(features)


def test_embeddings_whose_rows_lie_in_any_other_file_are_refused(features: Path) -> None:
    def elsewhere(file: h5py.File, name: str) -> None:
        layout = h5py.VirtualLayout((100, 6), "f4")
        layout[:] = h5py.VirtualSource("../../secret.h5", "x", (100, 6), "f4")
        file.create_virtual_dataset(name, layout)

    replace_dataset(features, "cuts/last:avg", elsewhere)
    with pytest.raises(EmbeddingsError, match="lies in files that are no shards"):
        Embeddings(features)


@pytest.mark.parametrize(
    ("attribute", "value", "message"),
    [
        ("shards", "not json", "not as `make features` writes it"),
        ("shards", '["../../other.h5"]', "shards outside their folder"),
        ("schema", "else", "expected schema"),
        ("schema_version", "many", "expected schema"),
        ("schema_version", 99, "written by a newer Roofline"),
    ],
)
def test_attributes_that_lie_are_refused(
    features: Path, attribute: str, value: Any, message: str
) -> None:
    with h5py.File(features, "r+") as file:
        file.attrs[attribute] = value
    with pytest.raises(EmbeddingsError, match=message):
        Embeddings(features)


@pytest.mark.parametrize(
    "data", [b"", b"\x89HDF\r\n\x1a\n" + bytes(500), b"PK\x03\x04", b"\x80\x04."]
)
def test_what_is_no_hdf5_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "net.h5").write_bytes(data)
    with pytest.raises(EmbeddingsError, match="not a readable HDF5 file"):
        Embeddings(tmp_path / "net.h5")


def flip_signs(features: Path) -> None:
    """Turn the sign of every tenth number of a shard, and nothing else of the file."""
    shard = features.with_suffix("") / "part-00000.h5"
    with h5py.File(shard) as file:
        chunk = file["cuts/last:avg"].id.get_chunk_info(0)
    content = bytearray(shard.read_bytes())
    for byte in range(chunk.byte_offset + 1, chunk.byte_offset + chunk.size, 20):
        content[byte] ^= 0x80  # float16, little-endian
    shard.write_bytes(content)


def test_fit_and_predict_end_with_an_error_where_the_signs_of_vectors_were_turned(
    features: Path,
) -> None:
    settings = features.parents[2] / "s.toml"
    runner = CliRunner()
    assert runner.invoke(app, ["fit", "--config", str(settings)]).exit_code == 0
    flip_signs(features)
    shutil.rmtree(features.parents[1] / "runs")
    predict = ["predict", "--config", str(settings), "--target", "income", "--model", "ridge"]
    for command in (predict, ["fit", "--config", str(settings)]):
        result = runner.invoke(app, command)
        assert result.exit_code == 1, result.output
        said = " ".join(result.output.split())
        assert "part-00000.h5: damaged: cuts/last:avg" in said
        assert "verify --set-aside" in said


CELL = ("area", "none", "mean")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    frame = pd.DataFrame(
        {
            "id": [1, 2],
            "fold": [0, 1],
            "target": "income",
            "truth": [1.0, 2.0],
            "prediction": [1.0, 2.0],
        }
    )
    write_run(run_folder(tmp_path, *CELL), frame, None, {})
    return run_folder(tmp_path, *CELL)


def reseal(run: Path) -> None:
    """State the hash of what stands there now, as whoever changed it could."""
    document = json.loads((run / "run.json").read_text())
    document["files"] = {}
    del document["sha256"]
    (run / "run.json").write_text(json.dumps(document))


@pytest.mark.parametrize("read", [read_predictions, read_prediction_table])
def test_predictions_that_were_changed_or_are_none_are_refused(
    tmp_path: Path, run: Path, read: Any
) -> None:
    file = run / "predictions.parquet"
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(RunFileError, match="not the file that `make models` wrote"):
        read(tmp_path, *CELL)
    reseal(run)
    with pytest.raises(RunFileError, match="not what `make models` writes"):
        read(tmp_path, *CELL)
    pd.DataFrame({"id": [1]}).to_parquet(file)
    with pytest.raises(RunFileError, match="not what `make models` writes"):
        read(tmp_path, *CELL)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        "[" * 100_000,
        '{"schema": "roofline.run"}',
        '{"schema": "roofline.run", "schema_version": "x"}',
    ],
)
def test_documents_that_are_none_are_refused(tmp_path: Path, run: Path, text: str) -> None:
    (run / "run.json").write_text(text)
    with pytest.raises(RunFileError):
        read_predictions(tmp_path, *CELL)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            "<SourceFilename>/vsicurl/https://example.org/a.tif</SourceFilename>",
            "holds '/vsi'.*no code is run",
        ),
        ("<SourceFilename>&#47;v&#x73;icurl&#47;a.tif</SourceFilename>", "holds '/vsi'"),
        ("<SourceFilename>HTTPS://example.org/a.tif</SourceFilename>", "holds '://'"),
        (
            "<sourcefilename>WMS:example.org/a</sourcefilename>",
            "names 'WMS:example.org/a', which is no file here",
        ),
        (
            '<SourceFilename relativeToVRT="1">service.tif</SourceFilename>',
            "service.tif', which is neither a GeoTIFF nor an .asc",
        ),
        (
            '<SourceFilename relativeToVRT="1">a.vrt</SourceFilename>',
            "a.vrt', which is neither a GeoTIFF nor an .asc",
        ),
        (
            '<SourceFilename xmlns="a">/etc/hostname</SourceFilename>',
            "names '/etc/hostname', which is neither",
        ),
        (
            "<PixelFunctionType>x</PixelFunctionType><PixelFunctionLanguage>Python</PixelFunctionLanguage>",
            "holds 'PixelFunction'",
        ),
        (
            '<VRTRasterBand subclass="VRTRawRasterBand"/>',
            "holds a VRTRawRasterBand, which may name anything",
        ),
        ("<SourceFilename>", "is no XML"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_vrt_that_reaches_out_or_brings_code_is_refused(
    tmp_path: Path, body: str, message: str, encoding: str
) -> None:
    pytest.importorskip("rasterio")
    from extract.tiling.mosaic import open_mosaic

    text = (
        '<VRTDataset rasterXSize="5" '
        f'rasterYSize="5"><VRTRasterBand>{body}</VRTRasterBand></VRTDataset>'
    )
    (tmp_path / "a.vrt").write_text(text, encoding=encoding)
    (tmp_path / "service.tif").write_text("<GDAL_WMS><Service name='TMS'/></GDAL_WMS>")
    with pytest.raises(RasterError, match=message):
        open_mosaic(tmp_path / "a.vrt")


def test_a_vrt_with_entities_of_its_own_is_refused(tmp_path: Path) -> None:
    from extract.tiling.vrt import check_vrt

    (tmp_path / "a.vrt").write_text(
        '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/hostname">]><VRTDataset>&b;</VRTDataset>'
    )
    with pytest.raises(RasterError, match="declares a document type"):
        check_vrt(tmp_path / "a.vrt")


def test_rasters_that_are_none_or_cut_off_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("rasterio")
    from made_rasters import make_heights, write_raster

    from extract.tiling.mosaic import open_mosaic

    (tmp_path / "a.tif").write_bytes(b"\x80\x04." + os.urandom(100))
    with pytest.raises(RasterError, match="cannot be read as a raster"):
        open_mosaic(tmp_path / "a.tif")
    path = write_raster(tmp_path / "b.tif", make_heights(300, 300))
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(RasterError, match="cannot be read as a raster"):
        open_mosaic(path).read(0, 0, 300, 300)


def test_a_header_that_claims_a_continent_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("rasterio")
    from extract.tiling.make_tiles import make_tiles
    from extract.tiling.options import Request

    head = (
        "ncols 2000000000\nnrows 2000000000\nxllcorner 0\nyllcorner 0\ncellsize 2\nNODATA_value "
        "-9999\n"
    )
    (tmp_path / "a.asc").write_text(head + "1 2 3\n" * 100)
    with pytest.raises(ValueError, match=r"cannot be read as a raster|Is a header wrong"):
        make_tiles(Request(surface=tmp_path / "a.asc", out=tmp_path / "out", crs="EPSG:27700"))


def test_an_ascii_grid_that_was_cut_off_is_refused_and_not_searched_for_ever(
    tmp_path: Path,
) -> None:
    pytest.importorskip("rasterio")
    from extract.tiling.mosaic import open_mosaic

    head = (
        "ncols 100\nnrows 3000\nxllcorner 530000\nyllcorner 180000\ncellsize 2\nNODATA_value "
        "-9999\n"
    )
    (tmp_path / "a.asc").write_text(head + ("1 " * 100 + "\n") * 1000)
    mosaic = open_mosaic(tmp_path / "a.asc", crs="EPSG:27700")
    assert mosaic.read(0, 900, 100, 100).shape == (100, 100)
    with pytest.raises(RasterError, match="File short, can't read line 1000"):
        mosaic.read(0, 2900, 100, 100)


@pytest.mark.parametrize(("corner", "cell"), [("1e300", "2"), ("530000", "nan"), ("530000", "1e9")])
def test_a_header_that_lies_nowhere_is_refused(tmp_path: Path, corner: str, cell: str) -> None:
    pytest.importorskip("rasterio")
    from extract.tiling.mosaic import open_mosaic

    (tmp_path / "a.asc").write_text(
        f"ncols 2\nnrows 1\nxllcorner {corner}\nyllcorner 180000\ncellsize {cell}\n1 2\n"
    )
    with pytest.raises(RasterError, match="which is nowhere on Earth"):
        open_mosaic(tmp_path / "a.asc", crs="EPSG:27700")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_boundaries_that_are_a_virtual_layer_in_disguise_are_refused(
    tmp_path: Path, encoding: str
) -> None:
    pytest.importorskip("geopandas")
    from extract.tiling.boundaries import read_areas

    text = (
        "<OGRVRTDataSource><OGRVRTLayer "
        'name="a"><SrcDataSource>/vsicurl/http://localhost/a.gpkg</SrcDataSource></OGRVRTLayer>'
    )
    (tmp_path / "a.geojson").write_text(f"\n{text}</OGRVRTDataSource>", encoding=encoding)
    with pytest.raises(BoundaryError, match="XML, which may name data in other places"):
        read_areas(
            str(tmp_path / "a.geojson"), "code", crs="EPSG:27700", bounds=np.array([[0.0, 0, 1, 1]])
        )


def test_boundaries_with_endless_corners_are_refused(tmp_path: Path) -> None:
    geopandas, shapely = pytest.importorskip("geopandas"), pytest.importorskip("shapely")
    from extract.tiling.boundaries import read_areas
    from extract.tiling.geo import read_crs

    shapes = [shapely.box(0, 0, 1, 1), shapely.Polygon([(0, 0), (np.inf, 0), (1, 1)])]
    geopandas.GeoDataFrame({"code": ["A", "B"]}, geometry=shapes, crs="EPSG:27700").to_file(
        tmp_path / "a.gpkg"
    )
    with pytest.raises(BoundaryError, match="corners that are not finite numbers"):
        read_areas(
            str(tmp_path / "a.gpkg"),
            "code",
            crs=read_crs("EPSG:27700", what="test"),
            bounds=np.array([[0.0, 0, 9, 9]]),
        )
