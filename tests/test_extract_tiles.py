from __future__ import annotations

import time

import cv2
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from extract.errors import SettingsError, TableError
from extract.settings import ExtractSettings, read_settings
from extract.tables.tile_table import read_tiles

TWO = {'columns = ["income"]': 'columns = ["income", "kind"]'}


def read(path):
    return read_tiles(read_settings(path, ExtractSettings))


def folders(tmp_path, *, more="", layout='layout = "folders"', targets=""):
    for name in (
        "b/2.png",
        "a/1.png",
        "a/deep/3.JPG",
        "b/notes.txt",
        "a/.hidden/4.png",
        "outside.png",
    ):
        path = tmp_path / "pictures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cv2.imencode(".png", np.full((32, 32, 3), 9, np.uint8))[1].tobytes())
    path = tmp_path / "folders.toml"
    path.write_text(
        f'name = "f"\nout = "out"\n[tiles]\nimages = "pictures"\n{layout}\n{more}\n{targets}\n'
        '[extract]\ncuts = ["vgg16/block5_pool:avg"]\n'
    )
    return path


def test_a_text_target_is_a_class_and_numbers_keep_their_order(experiment):
    tiles = read(experiment(replace=TWO, kind=["urban", " rural", ""] * 4))
    assert (tiles.target_names, tiles.kind("income"), tiles.kind("kind")) == (
        ["income", "kind"],
        "number",
        "class",
    )
    assert list(tiles.targets) == ["income"]
    assert tiles.classes["kind"].tolist() == ["urban", "rural", None] * 4


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["True", "false", "TRUE", ""] * 3, ["true", "false", "true", None] * 3),
        ([True, False] * 6, ["true", "false"] * 6),
        (["6a", "6b", ""] * 4, ["6a", "6b", None] * 4),
        (["None", "nan", "NA", "low"] * 3, ["None", "nan", "NA", "low"] * 3),
    ],
)
def test_boolean_and_text_columns_are_classes(experiment, values, expected):
    assert read(experiment(replace=TWO, kind=values)).classes["kind"].tolist() == expected


def test_numbers_are_classes_where_the_settings_say_so(experiment):
    tiles = read(
        experiment(
            replace={'columns = ["income"]': 'columns = ["income"]\nclasses = ["code"]'},
            code=[1, 2] * 6,
        )
    )
    assert tiles.target_names == ["income", "code"]
    assert tiles.classes["code"].tolist() == ["1", "2"] * 6


def test_parquet_classes_are_those_of_the_csv(experiment):
    path = experiment(replace=TWO, kind=["a", None, "b"] * 4)
    frame = pd.read_csv(path.parent / "tiles.csv")
    expected = read(path).classes["kind"].tolist()
    frame.to_parquet(path.parent / "tiles.parquet")
    path.write_text(path.read_text().replace("tiles.csv", "tiles.parquet"))
    assert read(path).classes["kind"].tolist() == expected == ["a", None, "b"] * 4


@pytest.mark.parametrize("values", [["high"] + ["1"] * 11, ["0,5"] * 12, ["inf"] + ["1"] * 11])
def test_a_mixture_and_decimal_commas_stay_an_error(experiment, values):
    with pytest.raises(
        TableError, match=r"'kind' is not a number in .* rows.*Write numbers with a point"
    ):
        read(experiment(replace=TWO, kind=values))


def test_an_empty_target_is_a_number_without_values(experiment):
    assert read(experiment(replace=TWO, kind=[""] * 12)).targets["kind"].isna().all()


def test_a_folder_a_class_is_a_tile_table(tmp_path):
    tiles = read(folders(tmp_path))
    assert (
        tiles.id.tolist()
        == tiles.path.tolist()
        == tiles.area.tolist()
        == ["a/1.png", "a/deep/3.JPG", "b/2.png"]
    )
    assert tiles.classes["class"].tolist() == ["a", "a", "b"]
    assert (tiles.target_names, tiles.xy, tiles.targets.shape) == (["class"], None, (3, 0))


def test_settings_of_a_folder_a_class_survive_being_written_and_read(tmp_path):
    settings = read_settings(folders(tmp_path), ExtractSettings)
    assert ExtractSettings.model_validate(settings.as_json()) == settings


def test_the_area_of_a_folder_a_class_can_be_its_folder(tmp_path):
    assert read(folders(tmp_path, more='area = "folder"')).area.tolist() == ["a", "a/deep", "b"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"more": 'table = "t.csv"'}, 'table: layout = "folders" lists the pictures themselves'),
        ({"layout": ""}, "table: missing"),
        ({"layout": 'layout = "folder"'}, r"\[tiles\] layout: .*'folders'"),
    ],
)
def test_a_layout_that_contradicts_itself_is_refused(tmp_path, options, message):
    with pytest.raises(SettingsError, match=message):
        read_settings(folders(tmp_path, **options), ExtractSettings)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"targets": '[targets]\ncolumns = ["clas"]'},
            "no column 'clas'; it has id, class, folder, file. Did you mean 'class'",
        ),
        ({"more": 'x = "e"\ny = "n"'}, "no column 'e'"),
    ],
)
def test_a_folder_a_class_has_no_other_columns(tmp_path, options, message):
    with pytest.raises(TableError, match=message):
        read(folders(tmp_path, **options))


def test_folders_without_pictures_say_what_is_expected(tmp_path):
    path = folders(tmp_path)
    path.write_text(path.read_text().replace('"pictures"', '"pictures/a/deep"'))
    with pytest.raises(TableError, match="expected <class>/<picture>"):
        read(path)


def test_path_patterns_take_formats_and_stay_inside(experiment):
    path = experiment(replace={'"{id}.png"': '"{area}/x_{id:0>5}.png"'})
    assert read(path).path[3] == "A1/x_00003.png"
    with pytest.raises(
        TableError, match=r"line 2 names the picture '\.\./x_00000.png', which is outside"
    ):
        read(experiment(replace={'"{id}.png"': '"{area}/x_{id:0>5}.png"'}, area=[".."] * 12))
    assert (
        read(experiment(replace={'"{id}.png"': '"{area}/x.png"'}, area=["a..b"] * 12)).path[0]
        == "a..b/x.png"
    )


def test_the_hash_of_a_table_is_that_of_its_ids_and_paths(experiment):
    first = read(experiment()).sha256
    assert read(experiment(income=[5.0] * 12)).sha256 == first
    assert read(experiment(replace={'"{id}.png"': '"{id}.jpg"'})).sha256 != first


def test_a_large_table_opens_in_time_that_grows_with_its_rows(experiment):
    def seconds(n):
        path = experiment()
        pd.DataFrame({"id": np.arange(n), "area": "A", "x": 0.0, "y": 0.0, "income": 1.5}).to_csv(
            path.parent / "tiles.csv"
        )
        start = time.process_time()
        assert len(read(path).sha256) == 64
        return time.process_time() - start

    seconds(1000)
    assert seconds(200_000) < 20 * max(seconds(20_000), 0.05)


def test_a_column_that_stands_twice_is_refused_and_one_that_is_not_asked_for_may(experiment):
    settings = read_settings(experiment(), ExtractSettings)
    table = settings.tiles.table
    header, *rows = table.read_text().splitlines()
    table.write_text("\n".join([f"{header},note,note", *(f"{row},1,2" for row in rows)]) + "\n")
    assert len(read_tiles(settings)) == len(rows)
    table.write_text("\n".join([f"{header},id", *(f"{row},7" for row in rows)]) + "\n")
    with pytest.raises(
        TableError, match=r"2 columns are named 'id'\. Rename all but the one that is meant"
    ):
        read_tiles(settings)


def test_a_parquet_column_that_stands_twice_is_refused_likewise(experiment):
    path = experiment()
    frame = pd.read_csv(path.parent / "tiles.csv", dtype=str)
    plain = pa.Table.from_pandas(frame, preserve_index=False)
    for twice in ("note", frame.columns[0]):
        table = plain.append_column(twice, pa.array(["7"] * len(frame)))
        table = (
            table.append_column(twice, table.column(table.num_columns - 1))
            if twice == "note"
            else table
        )
        pq.write_table(table, path.parent / "tiles.parquet")
        path.write_text(path.read_text().replace("tiles.csv", "tiles.parquet"))
        if twice == "note":
            assert len(read(path)) == len(frame)
        else:
            with pytest.raises(TableError, match=f"2 columns are named '{twice}'"):
                read(path)


@pytest.mark.parametrize("more", [",", ",,", ",x"])
def test_rows_longer_than_the_header_are_refused_and_never_shift_the_columns(experiment, more):
    path = experiment()
    header, *rows = (path.parent / "tiles.csv").read_text().splitlines()
    (path.parent / "tiles.csv").write_text("\n".join([header, *(row + more for row in rows)]))
    if more.strip(","):
        with pytest.raises(
            TableError,
            match=r"line 2 has 6 fields, the header 5\. Put texts that hold a comma in double quotes",
        ):
            read(path)
    else:
        assert read(path).id.tolist() == list(range(12))


def test_a_comma_without_quotes_is_named_by_its_line(experiment):
    path = experiment()
    table = path.parent / "tiles.csv"
    table.write_text(table.read_text().replace("\n3,A1,", "\n3,St. John's, North,"))
    with pytest.raises(TableError, match="line 5 has 6 fields, the header 5"):
        read(path)


def test_a_table_that_is_not_utf_8_is_told_with_the_remedy(experiment):
    path = experiment()
    (path.parent / "tiles.csv").write_bytes(
        "id,area,x,y,income\n1,Zürich,0,0,1\n".encode("latin-1")
    )
    with pytest.raises(TableError, match=r"not UTF-8.*position 22.*CSV UTF-8"):
        read(path)
