from __future__ import annotations

import re

import pytest

from extract.config.cuts import parse_cut
from extract.errors import SettingsError, TableError
from extract.settings import ExtractSettings, read_settings
from extract.tables.tile_table import read_tiles


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("batch = 4", "bach = 4", "unknown key 'bach'.*Did you mean 'batch'"),
        ("batch = 4", "batch = 'four'", r"\[extract\] batch: .*got 'four'"),
        (
            "batch = 4",
            "batch = '4'",
            r"\[extract\] batch: expected a whole number, without quotes, got '4'",
        ),
        (
            "batch = 4",
            "workers = true",
            r"\[extract\] workers: expected a whole number, without quotes, got True",
        ),
        (
            'area = "area"',
            'area = "area"\nscales = [[0, 1], [5, 5], [0, 1]]',
            r"\[tiles\] scales: expected \[low, high\] with low < high, got \[5\.0, 5\.0\]",
        ),
        (
            'area = "area"',
            'area = "area"\nscale = [0, 1]\nscales = [[0, 1], [0, 1], [0, 1]]',
            "either scale, for all colours, or scales",
        ),
        (
            'area = "area"',
            'area = "area"\nbands = [0, 1, 2]',
            r"\[tiles\] bands: .* greater than or equal to 1, got 0",
        ),
        (
            'area = "area"',
            'area = "area"\nscale = ["0", 100]',
            r"\[tiles\] scale: expected a number, without quotes, got '0'",
        ),
        (
            'area = "area"',
            'area = "area"\nbackground = [1, true, 3]',
            r"\[tiles\] background: expected a whole number, without quotes, got True",
        ),
        ("batch = 4", "batch = 4.5", r"\[extract\] batch: .*got 4.5"),
        (
            'area = "area"',
            'area = "area"\nstrict = "yes"',
            r"\[tiles\] strict: expected true or false, got 'yes'",
        ),
        (
            'area = "area"',
            'area = "area"\nstrict = 1',
            r"\[tiles\] strict: expected true or false, got 1",
        ),
        ("batch = 4", "batch = ", "not TOML"),
        (":avg", ":average", "unknown pooling 'average'.*Did you mean 'avg'"),
        (
            "mobilenetv2/block_1_expand_relu:avg",
            "block_1",
            "expected '<backbone>/<layer>:<pooling>'",
        ),
        (
            'weights = "random:0"',
            'weights = { vgg16 = "x.h5" }',
            "no cut uses the backbone 'vgg16'",
        ),
        ('weights = "random:0"', 'weights = "imagnet"', "expected 'imagenet'"),
        (
            'weights = "random:0"',
            "weights = 5",
            r"^[^\n]*\[extract\] weights: expected 'imagenet'[^\n]*got 5$",
        ),
        (
            'weights = "random:0"',
            'weights = ["imagenet"]',
            r"^[^\n]*expected 'imagenet'[^\n]*got \['imagenet'\]$",
        ),
        (
            'weights = "random:0"',
            "weights = { mobilenetv2 = 3 }",
            r"^[^\n]*expected 'imagenet'[^\n]*got 3$",
        ),
        ('weights = "random:0"', 'weights = { mobilenetv2 = "random:x" }', "got 'random:x'"),
        (
            'area = "area"',
            'area = "area"\ngroups = ["x", "x"]',
            r"\[tiles\] groups: x is listed twice",
        ),
        ('y = "y"', "", "x and y go together"),
        ('path = "{id}.png"', 'path = "../{id}.png"', "inside the images folder"),
        ('area = "area"', "", "area: missing"),
    ],
)
def test_bad_settings_are_refused_with_the_remedy(experiment, old, new, message):
    with pytest.raises(SettingsError, match=re.compile(message, re.DOTALL)):
        read_settings(experiment(replace={old: new}), ExtractSettings)


def test_settings_that_notepad_saved_are_read(experiment):
    path = experiment()
    path.write_text("\ufeff" + path.read_text().lstrip(), encoding="utf-8")
    assert read_settings(path, ExtractSettings).name == "small"
    path.write_text(
        path.read_text(encoding="utf-8-sig").replace("small", "Zürich"), encoding="latin-1"
    )
    with pytest.raises(SettingsError, match="Save it as UTF-8"):
        read_settings(path, ExtractSettings)


def test_a_table_with_semicolons_says_so(experiment):
    path = experiment()
    table = path.parent / "tiles.csv"
    table.write_text(table.read_text().replace(",", ";"))
    with pytest.raises(TableError, match=r"separated by ';'\. Save it with commas"):
        read_tiles(read_settings(path, ExtractSettings))


def test_no_settings_file_says_so(tmp_path):
    with pytest.raises(SettingsError, match="no such file"):
        read_settings(tmp_path / "none.toml", ExtractSettings)


def test_cut_is_written_as_it_is_read():
    assert str(parse_cut("vgg16/block5_pool:avg")) == "vgg16/block5_pool:avg"


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"id": [0] * 12}, "stand in more than one row"),
        ({"area": [""] + ["A"] * 11}, "'area' is empty in 1 rows.*line 2"),
        ({"income": ["high"] + ["1"] * 11}, "'income' is not a number in 1 rows.*'high'"),
        ({"x": [None] + [1.0] * 11}, "column .x. is empty in 1 rows.*line 2.*needs a place"),
    ],
)
def test_bad_table_is_refused_with_the_remedy(experiment, columns, message):
    with pytest.raises(TableError, match=message):
        read_tiles(read_settings(experiment(**columns), ExtractSettings))


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("{}.png", "empty braces"),
        ("{id:.x}.png", "precision"),
        ("{id:5d}.png", "code 'd'"),
        ("{id.png", "expected '}'"),
    ],
)
def test_braces_that_cannot_be_filled_are_refused_with_the_remedy(experiment, path, message):
    with pytest.raises(TableError, match=rf"\[tiles\] path.*{message}.*LIDAR_\{{id\}}.png"):
        read_tiles(read_settings(experiment(replace={"{id}.png": path}), ExtractSettings))


def test_unknown_column_names_the_nearest(experiment):
    with pytest.raises(TableError, match=r"no column 'incom'.*Did you mean 'income'"):
        read_tiles(read_settings(experiment(replace={'["income"]': '["incom"]'}), ExtractSettings))


def test_empty_table_is_refused(experiment):
    path = experiment()
    (path.parent / "tiles.csv").write_text("")
    with pytest.raises(TableError, match="empty"):
        read_tiles(read_settings(path, ExtractSettings))


def test_missing_targets_are_nan_and_text_ids_stay_text(experiment):
    tiles = read_tiles(
        read_settings(
            experiment(id=[f"00{i}" for i in range(12)], income=[None] + [1.0] * 11),
            ExtractSettings,
        )
    )
    assert tiles.id[0] == "000"
    assert tiles.targets["income"].isna().sum() == 1


def test_grid_ids_give_the_places_of_the_real_grid(experiment):
    grid = "grid = { rows = 248, size_m = 200, origin = [501550, 203425] }"
    tiles = read_tiles(
        read_settings(
            experiment(replace={'x = "x"\ny = "y"': grid}, id=[*range(11), 249]), ExtractSettings
        )
    )
    assert tiles.xy[-1].tolist() == [501550 + 200 + 100, 203425 - 200 - 100]
