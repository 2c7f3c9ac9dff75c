"""Tables as spreadsheets and pandas leave them are read right, or refused with what to write."""

from __future__ import annotations

import gzip

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from extract.errors import SettingsError, TableError
from extract.settings import ExtractSettings, read_settings
from extract.tables.tile_table import read_tiles, stream_tiles

HEADER = "id,area,y"
FRAME = pd.DataFrame({"id": [1, 2, 3], "area": ["a", "b", "c"], "y": [1.5, 2.0, np.nan]})


@pytest.fixture
def read(tmp_path):
    """Read a table of a few rows, whole and in pieces, which must agree."""

    def read_table(content, *, name="tiles.csv", targets="", tiles="", column="columns"):
        path = tmp_path / name
        if isinstance(content, list):
            content = "\n".join([HEADER, *content]) + "\n"
        if isinstance(content, str):
            content = content.encode()
        if isinstance(content, pa.Table):
            pq.write_table(content, path)
        else:
            path.write_bytes(content)
        settings = tmp_path / "s.toml"
        settings.write_text(
            f'name = "s"\n[tiles]\ntable = "{name}"\nimages = "."\narea = "area"\n{tiles}\n'
            f'[targets]\n{column} = ["y"]\n{targets}\n[extract]\ncuts = ["pixels/8:map"]\n'
        )
        read = read_settings(settings, ExtractSettings)
        tiles = read_tiles(read)
        pieces = list(stream_tiles(read, n_rows=2))
        assert [row for piece in pieces for row in piece.id] == tiles.id.tolist()
        return tiles

    return read_table


def labels(tiles):
    return tiles.classes["y"].tolist()


def numbers(tiles):
    return tiles.targets["y"].tolist()


def test_words_for_nothing_are_names_of_areas_and_classes(read):
    tiles = read(["nan,None,None", "NA,nan,High", "none,NA,"])
    assert tiles.id.tolist() == ["nan", "NA", "none"]
    assert tiles.area.tolist() == ["None", "nan", "NA"]
    assert labels(tiles) == ["None", "High", None]


def test_what_the_settings_list_is_missing_in_every_column(read):
    tiles = read(["1,a,[c]", "2,b,High", "3,c, -"], tiles='missing = ["[c]", "-"]')
    assert labels(tiles) == [None, "High", None]
    assert numbers(read(["1,a,[c]", "2,b,5"], tiles='missing = ["[c]"]'))[1] == 5
    with pytest.raises(TableError, match="column 'area' is empty in 1 rows"):
        read(["1,[c],1"], tiles='missing = ["[c]"]')


@pytest.mark.parametrize(
    ("values", "said", "expected"),
    [
        (["12%", "13.5 %"], "percent = true", [12, 13.5]),
        (["31 500", "1 200 000"], 'thousands = " "', [31500, 1200000]),
        (["31\u202f500", "7"], 'thousands = " "', [31500, 7]),
        (['"1,310,500"', "12"], 'thousands = ","', [1310500, 12]),
        (['"1.310,5"', "7"], 'thousands = ".", decimal = ","', [1310.5, 7]),
        (['"0,5"', '"-1,25"'], 'decimal = ","', [0.5, -1.25]),
        (["31'500", "1\u2019200"], 'thousands = "\'"', [31500, 1200]),
        (['"12,5%"', '"1,5%"'], 'decimal = ",", percent = true', [12.5, 1.5]),
    ],
)
def test_numbers_as_text_are_refused_with_the_setting_that_reads_them(read, values, said, expected):
    rows = [f"{i},a{i},{value}" for i, value in enumerate(values)]
    first = values[0].strip('"')
    with pytest.raises(TableError, match=r"column 'y' is not a number in .* rows") as refused:
        read(rows)
    assert f"(first: line 2, {first!r})" in str(refused.value)
    assert f"[targets] {said} makes it {expected[0]:.12g}." in str(refused.value)
    assert numbers(read(rows, targets=said.replace(", ", "\n"))) == expected


def test_one_text_that_two_formats_read_is_shown_in_both(read):
    with pytest.raises(TableError) as refused:
        read(['1,a,"1,310"', '2,b,"2,500"'])
    assert '[targets] thousands = "," makes it 1310.' in str(refused.value)
    assert '[targets] decimal = "," makes it 1.31.' in str(refused.value)


@pytest.mark.parametrize(
    "value", ['"£31,500"', "<5", "2021-01-01", "10-19", "€ 5", "5 km", "½", "inf"]
)
def test_digits_without_letters_are_never_made_classes_unless_named_so(read, value):
    rows = [f"1,a,{value}", f"2,b,{value}"]
    with pytest.raises(TableError, match=r"Name the column in \[targets\] classes where"):
        read(rows)
    assert labels(read(rows, column="classes")) == [value.strip('"')] * 2


@pytest.mark.parametrize(
    "values", [["1a1", "2b"], ["E01000001", "A1"], ["class 1", "class 2"], ["1st", "2nd"]]
)
def test_codes_with_letters_are_classes(read, values):
    assert labels(read([f"{i},a,{value}" for i, value in enumerate(values)])) == values


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (["12%", "13"], "percent = true"),
        (['"13,10"', "1"], 'thousands = ","'),
        (["1.5", "2"], 'decimal = ","'),
        (['"1,2,3"', "1"], 'thousands = ","'),
    ],
)
def test_what_the_stated_format_does_not_read_is_refused(read, values, said):
    with pytest.raises(TableError, match="column 'y' is not a number in 1 rows"):
        read([f"{i},a,{value}" for i, value in enumerate(values)], targets=said)


def test_one_mark_cannot_be_both(read):
    with pytest.raises(SettingsError, match="decimal and thousands are both ','"):
        read(["1,a,1"], targets='decimal = ","\nthousands = ","')


def test_a_mark_for_suppressed_values_is_named_with_the_setting(read):
    with pytest.raises(TableError, match=r'\[tiles\] missing = \["\[c\]"\] makes it a missing'):
        read(["1,a,[c]", "2,b,5", "3,c,6"])


@pytest.mark.parametrize(
    "text",
    [
        "id,area,y,,\n1,a,3,,\n2,b,4,,\n",
        "id,area,y\n1,a,3,,\n2,b,4,,\n",
        " id ,area, y\n1,a,3\n2,b,4\n",
        "id,area,y\n1,a,3\n2,b,4\n,,\n,,\n\n",
        'id,area,y\r\n1,a,3\r\n2,b,4\r\n"","",""\r\n',
        "id,area,y\r1,a,3\r2,b,4\r",
        "\ufeffid,area,y\n1,a,3\n2,b,4\n,,\n",
    ],
)
def test_empty_columns_and_rows_of_a_spreadsheet_are_left_out(read, text):
    tiles = read(text)
    assert (tiles.id.tolist(), tiles.area.tolist(), numbers(tiles)) == ([1, 2], ["a", "b"], [3, 4])
    squeezed = read(gzip.compress(text.encode(), mtime=0), name="tiles.csv.gz")
    assert squeezed.id.tolist() == [1, 2]


def test_an_empty_row_between_others_is_named_by_its_line(read):
    with pytest.raises(TableError, match=r"column 'id' is empty in 1 rows \(first: line 3\)"):
        read(["1,a,3", ",,", "2,b,4"])


def as_bytes(name):
    table = pa.Table.from_pandas(FRAME)
    return table.set_column(FRAME.columns.get_loc(name), name, table[name].cast(pa.binary()))


def as_decimal():
    table = pa.Table.from_pandas(FRAME)
    return table.set_column(0, "id", table["id"].cast(pa.decimal128(22, 1)))


@pytest.mark.parametrize(
    "table",
    [
        pa.Table.from_pandas(FRAME),
        pa.Table.from_pandas(FRAME.sample(frac=1, random_state=1).set_index("id")),
        pa.Table.from_pandas(FRAME.assign(area=FRAME["area"].astype("category"))),
        pa.Table.from_pandas(FRAME.convert_dtypes()),
        pa.Table.from_pandas(FRAME.assign(id=FRAME["id"].astype(float))),
        as_bytes("area"),
        as_decimal(),
    ],
)
def test_parquet_of_any_types_is_read_as_the_same_text(read, table):
    tiles = read(table, name="tiles.parquet")
    order = np.argsort(tiles.id.to_numpy())
    assert tiles.id.iloc[order].tolist() == [1, 2, 3]
    assert tiles.area.iloc[order].tolist() == ["a", "b", "c"]
    np.testing.assert_array_equal(tiles.targets["y"].iloc[order], [1.5, 2, np.nan])


def test_whole_numbers_written_as_floats_name_the_same_tiles_and_areas(read):
    tiles = read(["1.0,10.0,3", "2.0,10.0,4"])
    assert (tiles.id.dtype, tiles.id.tolist()) == (np.int64, [1, 2])
    assert (tiles.path.tolist(), tiles.area.tolist()) == (["1.png", "2.png"], ["10", "10"])


@pytest.mark.parametrize("ids", [("1.0", "1.5"), ("1.0", "2"), ("1.00", "2.00"), ("1.0", "b.0")])
def test_ids_that_are_not_all_whole_floats_stay_text(read, ids):
    assert read([f"{ids[0]},a,3", f"{ids[1]},b,4"]).id.tolist() == list(ids)


def test_a_category_that_is_missing_is_an_empty_cell(read):
    area = FRAME["area"].astype("category").where([True, False, True])
    with pytest.raises(TableError, match=r"column 'area' is empty in 1 rows \(first: line 3\)"):
        read(pa.Table.from_pandas(FRAME.assign(area=area)), name="tiles.parquet")


def test_large_whole_ids_beside_a_gap_elsewhere_keep_every_digit(read):
    ids = [2**60, 2**60 + 1, 2**60 + 2]
    tiles = read(pa.Table.from_pandas(FRAME.assign(id=ids)), name="tiles.parquet")
    assert tiles.id.tolist() == [str(one) for one in ids]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.parquet", b"PAR1 nonsense PAR1", r"cannot be read as \.parquet: .*Save it anew"),
        ("t.parquet", b"", r"cannot be read as \.parquet: .*Save it anew"),
        ("t.csv.gz", b"plain", r"cannot be read as \.gz: Not a gzipped file"),
        (
            "t.csv.gz",
            gzip.compress(b"id,area,y\n" * 99, mtime=0)[:-9],
            "ended before the end-of-stream",
        ),
        ("t.csv", "id,area,y\n1,a,2\n".encode("utf-16"), "not UTF-8.*CSV UTF-8"),
        ("t.csv", "id\tarea\ty\n1\ta\t2\n", "separated by tabs"),
        ("t.csv", "id;area;y\n1;a;2\n", "separated by ';'"),
        ("t.csv", "id,area,y\n,,\n", "no rows"),
    ],
)
def test_what_is_no_table_is_one_line_with_file_and_remedy(read, name, content, message):
    with pytest.raises(TableError, match=message) as refused:
        read(content, name=name)
    assert name in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_path_with_a_nul_is_refused(read):
    with pytest.raises(TableError, match="is no path in 1 rows"):
        read(["1\0,a,2", "2,b,3"])


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("scale = " + "[" * 3000 + "]" * 3000, "cannot be read: maximum recursion depth"),
        ("size_m = " + "1" * 5000, r"cannot be read: .*4300 digits"),
        ('images = "a\\u0000b"', r"\[tiles\] images: a path cannot hold the character NUL"),
    ],
)
def test_settings_that_no_parser_takes_are_one_line(tmp_path, said, message):
    path = tmp_path / "s.toml"
    path.write_text(
        f'name = "s"\n[extract]\ncuts = ["pixels/8:map"]\n[tiles]\ntable = "t.csv"\n'
        f'area = "area"\n{said}\n'
    )
    with pytest.raises(SettingsError, match=message) as refused:
        read_settings(path, ExtractSettings)
    assert "s.toml" in str(refused.value)


def test_lists_in_a_column_are_refused(read):
    table = pa.Table.from_pandas(FRAME.assign(area=[[1], [2], [3]]))
    with pytest.raises(TableError, match="column 'area' holds lists"):
        read(table, name="tiles.parquet")
