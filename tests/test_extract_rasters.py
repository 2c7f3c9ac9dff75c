"""Tiles from rasters lie where they should, have no seams, name the right area, and survive a
kill.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from made_rasters import NORTH, WEST, make_heights, write_areas, write_mosaic, write_raster
from typer.testing import CliRunner

from extract.cli import app
from extract.errors import OptionError, RasterError, TableError
from extract.settings import ExtractSettings, read_settings
from extract.tables.tile_table import read_tiles
from extract.tiling.make_tiles import make_tiles
from extract.tiling.options import Request, name_columns, parse_stretch
from extract.timing.clock import Clock

pytest.importorskip("rasterio")
SOUTH = NORTH - 800.0
LABELLED = {"labels": Path("l.csv"), "areas": "a.shp", "area_code": "code"}


@pytest.fixture
def survey(tmp_path: Path) -> Path:
    """800 m × 800 m at 2 m, in four files: 16 tiles of 200 m."""
    return write_mosaic(tmp_path / "dsm", make_heights(400, 400), side=200)


def make(surface: Path, out: str = "town", **said: Any) -> Path:
    folder = surface.parent / out
    make_tiles(Request(surface=surface, out=folder, **said))
    return folder


def picture(folder: Path, name: str) -> np.ndarray:
    return cv2.imread(str(folder / "images" / name), cv2.IMREAD_UNCHANGED)


def halves(folder: Path, **said: Any) -> str:
    """Areas: W is the western half, E the eastern."""
    boxes = {"W": (WEST, SOUTH, WEST + 400, NORTH), "E": (WEST + 400, SOUTH, WEST + 800, NORTH)}
    return str(write_areas(folder / "areas.gpkg", boxes, **said))


def write_labels(folder: Path, text: str = "code,income,kind\nW,1.5,x\nE,2.5,y\n") -> Path:
    (folder / "labels.csv").write_text(text)
    return folder / "labels.csv"


def test_tiles_lie_on_the_lattice_and_show_the_heights_that_are_there(tmp_path: Path) -> None:
    heights = np.zeros((400, 400), np.float32)
    heights[:100, 100:200] = 20.0  # the northern tile of the second column
    terrain = write_raster(tmp_path / "dtm.tif", np.zeros_like(heights))
    folder = make(
        write_raster(tmp_path / "dsm.tif", heights), terrain=terrain, channels=("height",)
    )
    table = pd.read_csv(folder / "tiles.csv")
    assert len(table) == 16
    assert table["x"].tolist() == [WEST + 100 + 200 * (k // 4) for k in range(16)]
    assert table["y"].tolist() == [SOUTH + 100 + 200 * (k % 4) for k in range(16)]
    for name in table["id"]:
        inside = picture(folder, f"{name}.png")[
            1:-1, 1:-1
        ]  # at its edge a tile blends into the next
        assert (inside == (128 if name == "e400200n299800" else 0)).all(), name


def test_the_written_settings_are_read_by_the_next_command(survey: Path, tmp_path: Path) -> None:
    areas = halves(tmp_path)
    folder = make(
        survey,
        areas=areas,
        area_code="code",
        labels=write_labels(tmp_path),
        targets=("income",),
        groups=("kind",),
    )
    settings = read_settings(folder / "town.toml", ExtractSettings)
    tiles = read_tiles(settings)
    assert (folder / settings.reports["boundaries"]).samefile(areas)
    assert settings.reports["boundaries_code"] == "code"
    assert (settings.tiles.size_m, settings.tiles.crs, settings.name) == (
        200.0,
        "EPSG:27700",
        "town",
    )
    assert tiles.area.tolist() == ["W"] * 8 + ["E"] * 8
    assert tiles.targets["income"].tolist() == [1.5] * 8 + [2.5] * 8
    assert tiles.groups["kind"].tolist() == ["x"] * 8 + ["y"] * 8
    assert all((settings.tiles.images / path).is_file() for path in tiles.path)
    assert not list(folder.rglob("*.partial"))


@pytest.mark.parametrize("channels", [("height", "slope", "roughness"), ("colours",)])
@pytest.mark.parametrize("cell_m", [2.0, 0.5])
def test_tiles_have_no_seams(tmp_path: Path, channels: tuple[str, ...], cell_m: float) -> None:
    side = round(400 / cell_m)
    surface = write_raster(
        tmp_path / "dsm.tif", make_heights(side, side, cell_m=cell_m), cell_m=cell_m
    )
    said = {"channels": channels, "opening_m": 20.0, "format": "tiff"}
    small = make(surface, "small", **said)
    large = make(surface, "large", size_m=400, pixels=448, **said)
    parts = [
        [picture(small, f"e{400000 + east}n{299600 + north}.tiff") for east in (0, 200)]
        for north in (200, 0)
    ]
    together = np.vstack([np.hstack(row) for row in parts])
    np.testing.assert_allclose(together, picture(large, "e400000n299600.tiff"), atol=1e-3)


def test_a_mosaic_gives_the_tiles_of_the_merged_raster(tmp_path: Path) -> None:
    heights = make_heights(400, 400)
    heights[50:90, 180:230] = -9999
    one = make(write_raster(tmp_path / "dsm.tif", heights), "one", stride_m=100)
    many = make(write_mosaic(tmp_path / "parts", heights, side=130), "many", stride_m=100)
    assert (one / "tiles.csv").read_text() == (many / "tiles.csv").read_text()
    assert (one / "skipped.csv").read_text() == (many / "skipped.csv").read_text()
    names = sorted(path.name for path in (one / "images").iterdir())
    assert names == sorted(path.name for path in (many / "images").iterdir())
    assert all((picture(one, name) == picture(many, name)).all() for name in names)


def test_many_small_blocks_give_the_same_tiles_as_one(
    survey: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = make(survey, "one", stride_m=100)
    monkeypatch.setattr("extract.tiling.lattice._BLOCK_CELLS", 1)
    many = make(survey, "many", stride_m=100, workers=3)
    assert (one / "tiles.csv").read_text() == (many / "tiles.csv").read_text()
    for path in (one / "images").iterdir():
        assert path.read_bytes() == (many / "images" / path.name).read_bytes()


def test_tiles_without_enough_data_are_listed_and_holes_are_transparent(tmp_path: Path) -> None:
    heights = make_heights(400, 400)
    heights[:90, :100] = -9999
    heights[100:105, :100] = np.nan
    folder = make(write_raster(tmp_path / "dsm.tif", heights))
    skipped = pd.read_csv(folder / "skipped.csv")
    assert skipped["id"].tolist() == ["e400000n299800"]
    assert skipped["reason"].tolist() == ["90.2 % of it has no data"]
    assert not (folder / "images" / "e400000n299800.png").exists()
    hole = picture(folder, "e400000n299600.png")
    assert hole.shape == (224, 224, 4)
    assert hole[:11].max() == 0
    assert hole[12:, :, 3].min() == 255
    table = pd.read_csv(folder / "tiles.csv").set_index("id")
    assert table.loc["e400000n299600", "nodata"] == pytest.approx(0.05, abs=0.003)
    assert picture(folder, "e400200n299600.png").shape == (224, 224, 3)


def test_one_stretch_holds_for_all_tiles_and_is_written_down(survey: Path) -> None:
    narrow = make(survey, "narrow", channels=("height",), stretch=parse_stretch(["height=0:10"]))
    wide = make(survey, "wide", channels=("height",), stretch={"height": (0.0, 20.0)})
    for path in (narrow / "images").iterdir():
        one, other = picture(narrow, path.name).astype(int), picture(wide, path.name).astype(int)
        assert (np.abs(one - 2 * other)[one < 254] <= 2).all()
    assert json.loads((narrow / "tiles.json").read_text())["stretch"] == {
        "height": [0.0, 10.0, "m"]
    }
    assert "height 0 to 10 m" in (narrow / "narrow.toml").read_text()


def test_float_tiles_decode_to_the_pixels_of_the_others(survey: Path) -> None:
    from extract.tables.tile_reader import TileReader

    batches = []
    for kind in ("png", "tiff"):
        folder = make(survey, kind, format=kind)
        (folder / f"{kind}.toml").write_text(
            (folder / f"{kind}.toml").read_text() + '[targets]\ncolumns = ["nodata"]\n'
        )
        settings = read_settings(folder / f"{kind}.toml", ExtractSettings)
        batches.append(TileReader(settings, read_tiles(settings)).read(range(16), Clock()))
    assert batches[1].reasons == [""] * 16
    assert np.abs(batches[0].pictures.astype(int) - batches[1].pictures).max() <= 1


def test_the_area_is_that_of_the_centre_or_of_the_largest_overlap(
    survey: Path, tmp_path: Path
) -> None:
    boxes = {
        "small": (WEST + 90, NORTH - 110, WEST + 110, NORTH - 90),
        "large": (WEST, NORTH - 90, WEST + 800, NORTH),
    }
    areas = str(write_areas(tmp_path / "areas.gpkg", boxes))
    centre = pd.read_csv(make(survey, "c", areas=areas, area_code="code") / "tiles.csv")
    assert centre[["id", "area"]].to_numpy().tolist() == [["e400000n299800", "small"]]
    overlap = pd.read_csv(
        make(survey, "o", areas=areas, area_code="code", rule="overlap") / "tiles.csv"
    )
    assert overlap["area"].tolist() == ["large"] * 4
    skipped = pd.read_csv(survey.parent / "c" / "skipped.csv")
    assert (len(skipped), skipped["reason"].unique().tolist()) == (
        15,
        ["its centre lies in no area"],
    )


def test_polygons_in_another_crs_are_brought_into_the_rasters_and_it_is_said(
    survey: Path, tmp_path: Path
) -> None:
    here = make(survey, "here", areas=halves(tmp_path), area_code="code")
    away = halves(tmp_path / "other", to="EPSG:4326")
    made = make_tiles(Request(surface=survey, out=tmp_path / "away", areas=away, area_code="code"))
    assert (here / "tiles.csv").read_text() == (tmp_path / "away" / "tiles.csv").read_text()
    assert made.notes == ["areas.gpkg: brought from EPSG:4326 into EPSG:27700, as the raster is"]


def test_a_second_call_does_nothing_and_keeps_settings_that_were_edited(survey: Path) -> None:
    folder = make(survey)
    (folder / "town.toml").write_text("# mine\n")
    before = {
        path: path.stat().st_mtime_ns
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }
    made = make_tiles(Request(surface=survey, out=folder))
    assert (made.n_tiles, made.n_new) == (16, 0)
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_pictures_that_were_deleted_are_made_again(survey: Path) -> None:
    folder = make(survey)
    (folder / "images" / "e400000n299600.png").unlink()
    assert make_tiles(Request(surface=survey, out=folder)).n_new == 16
    assert picture(folder, "e400000n299600.png").shape == (224, 224, 3)


def test_other_options_and_other_rasters_are_refused_until_fresh(survey: Path) -> None:
    folder = make(survey)
    with pytest.raises(RasterError, match=r"options.pixels was 224, now 100"):
        make(survey, pixels=100)
    make_tiles(Request(surface=survey, out=folder, pixels=100), fresh=True)
    assert picture(folder, "e400000n299600.png").shape == (100, 100, 3)
    write_raster(survey / "r0c0.tif", make_heights(200, 200, seed=1).astype(np.float64))
    with pytest.raises(RasterError, match=r"inputs.surface"):
        make(survey, pixels=100)


def test_a_folder_with_files_of_someone_else_is_refused(survey: Path) -> None:
    (survey.parent / "town").mkdir()
    (survey.parent / "town" / "thesis.docx").touch()
    with pytest.raises(RasterError, match=r"holds files \(thesis.docx\) and no tiles made before"):
        make(survey)


KILLED = """
import os, signal, sys
from pathlib import Path
import extract.tiling.lattice, extract.tiling.tileset
from extract.tiling.make_tiles import make_tiles
from extract.tiling.options import Request
extract.tiling.lattice._BLOCK_CELLS = 1
make_tiles(Request(surface=Path(sys.argv[1]), out=Path(sys.argv[2]), workers=1),
           on_tiles=lambda done, *_: os.kill(os.getpid(), signal.SIGKILL) if done == 5 else None)
"""


def test_a_killed_call_goes_on_and_gives_the_same_folder(
    survey: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("extract.tiling.lattice._BLOCK_CELLS", 1)
    whole, killed = make(survey, "whole"), survey.parent / "killed"
    assert (
        subprocess.run([sys.executable, "-c", KILLED, survey, killed], check=False).returncode
        == -signal.SIGKILL
    )
    assert not (killed / "tiles.csv").exists()
    with (killed / "progress.jsonl").open("a") as file:
        file.write("[9, [0.")  # a line that the kill cut off
    assert make_tiles(Request(surface=survey, out=killed)).n_new == 11
    for path in whole.rglob("*"):
        if path.is_file() and path.name not in (".lock", "whole.toml", "tiles.json"):
            assert path.read_bytes() == (killed / path.relative_to(whole)).read_bytes(), path
    assert not (killed / "progress.jsonl").exists()


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (
            {"channels": ("height", "slop", "hillshade")},
            "unknown channel 'slop'.*Did you mean 'slope'",
        ),
        (
            {"channels": ("height", "slope")},
            "expected one or three of .* or colours alone, got height, slope",
        ),
        ({"areas": "a.shp"}, "--areas and --area-code go together"),
        ({"labels": Path("l.csv")}, "name the polygons with --areas"),
        ({"targets": ("income",)}, "name that file with --labels"),
        ({"size_m": 0.0}, "--size-m: expected metres above 0"),
        ({"opening_m": 9e5}, "--opening-m: expected metres above 0 and at most 1,000, got 900000"),
        ({"max_nodata": 1.0}, "--max-nodata: expected a share"),
        ({"stretch": {"roughness": (0, 1)}}, "'roughness' is none of the channels"),
        ({"stretch": {"colours": (0, 1)}, "channels": ("colours",)}, "colours have none"),
        ({"channels": ("height", "height", "height")}, "expected three that differ"),
        ({"targets": ("a", "a"), **LABELLED}, "'a' stands there twice"),
        (
            {"targets": ("a",), "groups": ("b", "a"), **LABELLED},
            "'a' stands there twice.*cannot be a group",
        ),
        ({"targets": ("code",), **LABELLED}, "'code' is the column of the area codes"),
    ],
)
def test_options_that_cannot_be_are_refused(said: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Request(surface=Path("s"), out=Path("o"), **said)


def test_a_tile_smaller_than_a_cell_is_refused_before_anything_is_planned(survey: Path) -> None:
    for option, said in (("--size-m", {"size_m": 0.5}), ("--stride-m", {"stride_m": 0.5})):
        with pytest.raises(
            OptionError, match=f"{option}.*: expected at least a cell of the surface, . m, got 0.5"
        ):
            make(survey, "small", **said)


@pytest.mark.parametrize(
    "text", ["height", "height=3", "height=3:1", "height=a:b", "height=0:inf", "height=nan:1"]
)
def test_a_stretch_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(OptionError, match="expected CHANNEL=LOW:HIGH with LOW below HIGH"):
        parse_stretch([text])
    with pytest.raises(OptionError, match="each channel once"):
        parse_stretch(["height=0:1", "height=0:2"])


@pytest.mark.parametrize(
    ("text", "targets", "message"),
    [
        ("code,income\nW,1\nW,2\n", ("income",), r"1 areas stand in more than one row \(W\)"),
        (
            "code,income\nX,1\n",
            ("income",),
            r"none of its areas \(X, …\) holds a tile; the tiles lie in E, W",
        ),
        (
            "code,income\nW,1\n",
            ("incom",),
            "no column 'incom'; it has code, income. Did you mean 'income'",
        ),
        ("code,income\nW,1\n", (), "say what is to be predicted, as --targets income"),
        ("code,area\nW,1\n", ("area",), "'area' has a name that the tile table needs"),
        ("", ("income",), "empty; expected a header"),
        ("code,income\n", ("income",), "no rows; expected one row"),
        ("code;income\nW;1\n", ("income",), "separated by ';'"),
        ("code,income\nW,1,7\nE,2,8\n", ("income",), "line 2 has 3 fields, the header 2"),
        ("code,income,income\nW,1,7\n", ("income",), "2 columns are named 'income'"),
        (
            "code,income\nW,1\nE,n.a.\n",
            ("income",),
            "is not a number in 1 of 2 areas \\(E: 'n.a.'\\)",
        ),
        ('code,income\nW,"1,5"\nE,"2,5"\n', ("income",), "is not a number in 2 of 2 areas"),
        ("code,income\nW,1\nE,inf\n", ("income",), "is not a number in 1 of 2 areas"),
        ("code,income\nW,\nE\nX,1\n", ("income",), "empty in all 2 areas that hold tiles"),
        ("code,name\nW,Westham\nE,Eastham\n", ("name",), "text that no two of 2 areas share"),
    ],
)
def test_labels_that_cannot_be_used_say_why(
    survey: Path, text: str, targets: tuple[str, ...], message: str
) -> None:
    tmp_path = survey.parent
    with pytest.raises(TableError, match=message):
        make(
            survey,
            areas=halves(tmp_path),
            area_code="code",
            labels=write_labels(tmp_path, text),
            targets=targets,
        )
    assert not (tmp_path / "town").exists()


def test_codes_of_another_name_and_targets_with_commas_are_found(survey: Path) -> None:
    labels = write_labels(survey.parent, 'LSOA code,"Education, Skills",income\nW,1,3\nE,2,4\n')
    targets = name_columns(["Education, Skills", "income"], labels)
    assert targets == name_columns(['"Education, Skills",income'], labels)
    said = {"areas": halves(survey.parent), "area_code": "code", "labels": labels}
    with pytest.raises(TableError, match=r"no column 'code', as the polygons have.*--label-code"):
        make(survey, targets=targets, **said)
    folder = make(survey, targets=targets, label_code="LSOA code", **said)
    table = pd.read_csv(folder / "tiles.csv").groupby("area")
    assert table["Education, Skills"].first().to_dict() == {"E": 2.0, "W": 1.0}
    assert table["income"].first().to_dict() == {"E": 4.0, "W": 3.0}


def test_spaces_and_a_byte_order_mark_in_labels_are_no_part_of_them(survey: Path) -> None:
    labels = write_labels(survey.parent, "\ufeff code , income \n W ,1\n E ,2\n")
    folder = make(
        survey, areas=halves(survey.parent), area_code="code", labels=labels, targets=("income",)
    )
    table = pd.read_csv(folder / "tiles.csv")
    assert table.groupby("area")["income"].unique().map(list).to_dict() == {"E": [2.0], "W": [1.0]}


def test_where_no_tile_is_left_it_says_why(tmp_path: Path) -> None:
    with pytest.raises(RasterError, match=r"no tile is left of 1: 1 lack data, 0 lie in no area"):
        make(write_raster(tmp_path / "dsm.tif", np.full((100, 100), -9999, np.float32)))


def test_the_command_says_what_came_of_it_and_what_is_next(survey: Path, tmp_path: Path) -> None:
    words = [
        "tiles",
        "--surface",
        survey,
        "--areas",
        halves(tmp_path),
        "--area-code",
        "code",
        "--labels",
        write_labels(tmp_path),
        "--targets",
        "income",
        "--out",
        tmp_path / "town",
    ]
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.stderr
    assert "tiles: 16; left out: 0 for want of data, 0 in no area" in done.stdout
    assert f"next: roofline all --config {tmp_path / 'town' / 'town.toml'}" in done.stderr
    words += ["--format", "pgn"]
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 1
    assert done.stderr == "error: --format: expected png or tiff, got 'pgn'. Did you mean 'png'?\n"


def test_without_the_extra_the_error_names_it(
    survey: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rasterio", None)
    with pytest.raises(
        ImportError, match=r"need rasterio.*pip install -c constraints.txt -e '.\[geo\]'"
    ):
        make(survey)


def test_real_tiles_have_the_area_and_labels_of_their_centres_polygon(
    shared: Path, tmp_path: Path
) -> None:
    import geopandas

    areas, labels = (
        shared / "data/london_areas/london-2011-lsoa-gen20.shp",
        shared / "data/london_areas/london_lsoa_labels.csv",
    )
    surface = shared / "data/london_lidar/tq3080_DSM_2M.asc"
    made = make_tiles(
        Request(
            surface=surface,
            out=tmp_path / "tq",
            crs="EPSG:27700",
            areas=str(areas),
            area_code="LSOA11CD",
            labels=labels,
            targets=("income", "health"),
        )
    )
    table = pd.read_csv(tmp_path / "tq" / "tiles.csv")
    assert (len(table), made.n_outside, made.n_nodata) == (
        19,
        6,
        0,
    )  # the centres of six lie in the Thames
    polygons = geopandas.read_file(areas).set_index("LSOA11CD").geometry
    centres = geopandas.GeoSeries.from_xy(table["x"], table["y"], crs=polygons.crs)
    assert [
        polygons[area].contains(centre) for area, centre in zip(table["area"], centres, strict=True)
    ] == [True] * 19
    wanted = pd.read_csv(labels).set_index("LSOA11CD").loc[table["area"]]
    assert table["health"].tolist() == wanted["health"].tolist()
    skipped = pd.read_csv(tmp_path / "tq" / "skipped.csv")
    outside = geopandas.GeoSeries.from_xy(skipped["x"], skipped["y"], crs=polygons.crs)
    assert not any(polygons.contains(centre).any() for centre in outside)


def test_real_tiles_look_and_are_placed_as_the_well_known_ones(
    shared: Path, tmp_path: Path
) -> None:
    import geopandas

    known = pd.read_csv(shared / "data/london_lidar/EmbeddingData.csv").iloc[::12]
    areas = str(shared / "data/london_areas/london-2011-lsoa-gen20.shp")
    make_tiles(
        Request(
            surface=shared / "data/london_lidar/tq3080_DSM_2M.asc",
            out=tmp_path / "tq",
            crs="EPSG:27700",
            stride_m=50,
            channels=("colours",),
            areas=areas,
            area_code="LSOA11CD",
        )
    )
    table = pd.read_csv(tmp_path / "tq" / "tiles.csv").set_index(["x", "y"])
    polygons = geopandas.read_file(areas).set_index("LSOA11CD").geometry
    for row in known.itertuples():
        ours = table.loc[row.centre_e, row.centre_n]
        one = cv2.imread(str(shared / f"data/london_lidar/LIDAR/LIDAR_{row.id}.png"))
        polygon, centre = (
            polygons[row.LSOA11CD],
            polygons.from_xy([row.centre_e], [row.centre_n])[0],
        )
        assert (
            ours["area"] == row.LSOA11CD or polygon.distance(centre) < 20
        )  # the boundaries are generalised to 20 m
        assert (
            np.corrcoef(one.ravel(), picture(tmp_path / "tq", f"{ours['id']}.png").ravel())[0, 1]
            > 0.9
        )
