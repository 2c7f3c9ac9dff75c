"""The pieces of a place's table are those of the whole table, in every file format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from extract.errors import TableError
from extract.settings import read_settings
from extract.tables.tile_table import read_tiles
from models.data.place_settings import PlaceSettings
from models.predicting import place as place_module
from models.predicting.place import Place, hash_tiles

N = 50
TEXT = """name = "new"
[tiles]
table = "{name}"
images = "."
area = "area"
x = "x"
y = "y"
groups = ["district", "area"]
"""


def write(folder: Path, name: str, **columns: Any) -> PlaceSettings:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "id": np.arange(N) + 7,
            "area": [f"é{i % 9}" for i in range(N)],
            "x": rng.normal(size=N),
            "y": 2.5,
            "district": rng.choice(["a", "", "NA"], N),
            **columns,
        }
    )
    if name.endswith("csv"):
        frame.to_csv(folder / name, index=False)
    else:
        frame.to_parquet(folder / name, index=False, row_group_size=11)
    (folder / "new.toml").write_text(TEXT.format(name=name))
    return read_settings(folder / "new.toml", PlaceSettings)


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Place, "piece_tiles", 7)
    monkeypatch.setattr(place_module, "_HASH_TILES", 7)


def open_table(settings: PlaceSettings) -> Place:
    """Open a place without features."""
    return Place(settings=settings, features=[], embedding=None, is_ok=None, is_training=False)


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
@pytest.mark.parametrize(
    "ids",
    [
        np.arange(N) + 7,
        [f"00{i}" for i in range(N)],
        np.arange(N) * 1.0,
        np.arange(N) + 0.5,
        [str(i) if i else "a" for i in range(N)],
    ],
)
def test_pieces_are_those_of_the_whole_table(tmp_path: Path, name: str, ids: Any) -> None:
    settings = write(tmp_path, name, id=ids)
    whole = read_tiles(settings)
    start = 0
    for rows, piece in open_table(settings).pieces():
        assert rows == slice(start, start + len(piece))
        assert len(piece) <= 7
        assert piece.id.astype(str).tolist() == whole.id.iloc[rows].astype(str).tolist()
        assert piece.area.tolist() == whole.area.iloc[rows].tolist()
        np.testing.assert_array_equal(piece.xy, whole.xy[rows])
        assert piece.groups.to_dict("list") == whole.groups.iloc[rows].to_dict("list")
        start = rows.stop
    assert start == N
    assert hash_tiles(settings) == whole.sha256


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        ({"x": [*range(N - 1), np.nan]}, r"column 'x' is empty in 1 rows \(first: line 51\)"),
        (
            {"area": [*["a"] * 40, "", *["b"] * 9]},
            r"column 'area' is empty in 1 rows \(first: line 42\)",
        ),
        (
            {"id": [*range(N - 1), 0]},
            r"1 ids stand in more than one row \(0\)|an id stands in more than one row",
        ),
        (
            {"y": [*["1"] * 48, "far", "2"]},
            r"column 'y' is not a number in 1 rows \(first: line 50, 'far'\)",
        ),
        ({"x": np.inf}, "column 'x' is not a number"),
    ],
)
def test_what_is_wrong_in_a_later_piece_is_told_with_its_line(
    tmp_path: Path, columns: dict[str, Any], text: str
) -> None:
    with pytest.raises(TableError, match=text):
        list(open_table(write(tmp_path, "t.csv", **columns)).pieces())


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("t.csv", b""),
        ("t.csv", b"id,area,x,y,district\n"),
        ("t.parquet", b"PAR1PAR1"),
        ("t.csv", b"id,area\n1,2\n"),
        ("t.csv", b"\xff\xfe\x00"),
    ],
)
def test_what_is_no_such_table_is_refused(tmp_path: Path, name: str, data: bytes) -> None:
    settings = write(tmp_path, name)
    (tmp_path / name).write_bytes(data)
    with pytest.raises(TableError, match=r"empty|no rows|cannot be read|no column|not UTF-8"):
        list(open_table(settings).pieces())
