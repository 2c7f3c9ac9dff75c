"""Check the columns of the tile table: ids, areas, targets, paths and places."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from extract.config.arrays import Floats, Ints
from extract.errors import TableError
from extract.settings import ExtractSettings, GridSection, TargetsSection
from extract.tables.numbers import (
    NumberFormat,
    are_meant_as_numbers,
    parse_numbers,
    suggest_remedy,
)
from extract.tables.text_columns import fill_pattern

_OUTSIDE = r"^/|(?:^|[/\\])\.\.(?:[/\\]|$)"
_WHOLE = r"0|-?[1-9]\d{0,17}"
_WHOLE_FLOAT = rf"(?:{_WHOLE})\.0"
_FILL_IN = "Fill them in, or remove those rows."


def empty_missing(frame: pd.DataFrame, missing: list[str]) -> pd.DataFrame:
    """Return a table in which cells that stand for no value are empty."""
    emptied = {}
    for name, column in frame.items():
        is_missing = column.str.strip().isin(missing)
        emptied[name] = column.mask(is_missing, "")
    return pd.DataFrame(emptied)


def drop_zero_fractions(column: pd.Series[str]) -> pd.Series[str]:
    """Return a column in which whole numbers that were written as floats, `1.0`, are `1`.

    A column with any other text is returned as it is.
    """
    if not column.iloc[0].strip().endswith(".0"):
        return column
    text = column.str.strip()
    is_whole = text.str.fullmatch(_WHOLE_FLOAT)
    if not is_whole[text != ""].all():
        return column
    return text.str.removesuffix(".0")


def read_target(column: pd.Series[str], said: TargetsSection, table: Path) -> pd.Series[Any]:
    """Read a target: float64 where it is a number, str objects and None where it is a class.

    A class is what `[targets] classes` names, and a column in which no value is a number, nor
    meant as one. Only an empty cell is a missing class.

    Raises
    ------
    TableError : some values are no numbers.
    """
    form = NumberFormat(said.decimal, said.thousands, said.percent)
    text = column.str.strip()
    known = text[text != ""]
    if column.name not in said.classes:
        numbers, blank = parse_numbers(column, form)
        is_number = np.isfinite(numbers)
        if blank.all() or is_number.any() or are_meant_as_numbers(known):
            is_wrong = ~is_number & ~blank
            if is_wrong.any():
                remedy = suggest_remedy(column[is_wrong], column[~blank])
                refuse_rows(is_wrong, column, table, "not a number", remedy)
            return pd.Series(numbers, name=column.name)
    lower = text.str.lower()
    if lower[known.index].isin(["true", "false"]).all():
        text = lower
    return text.astype(object).where(text != "", None)


def check_ids(column: pd.Series[str], table: Path) -> pd.Series[Any]:
    """Return the ids, as int64 where all are whole numbers.

    Raises
    ------
    TableError : an id is empty, or stands in two rows.
    """
    text = check_filled(column, table)
    ids: pd.Series[Any] = text
    if text.str.fullmatch(_WHOLE).all():
        whole = pa.array(text, pa.string()).cast(pa.int64())
        ids = pd.Series(whole.to_numpy(), name=text.name)
    twice = text[ids.duplicated()].unique()
    if len(twice):
        named = ", ".join(twice[:3])
        raise TableError(
            f"table {table}: {len(twice)} ids stand in more than one row ({named}). "
            "Every tile needs an id of its own: remove or rename those rows."
        )
    return ids


def refuse_rows(is_bad: Any, column: pd.Series[Any], table: Path, what: str, remedy: str) -> None:
    """Raise where a column has rows that cannot be used; names the first."""
    rows = np.flatnonzero(is_bad)
    if not len(rows):
        return
    row = rows[0]
    value = column.iloc[row]
    first = f"line {row + 2}"
    if value:
        first += f", {value!r}"
    raise TableError(
        f"table {table}: column {column.name!r} is {what} in {len(rows)} rows (first: {first}). "
        f"{remedy}"
    )


def check_filled(column: pd.Series[str], table: Path) -> pd.Series[str]:
    """Return a column without blanks around its texts.

    Raises
    ------
    TableError : a cell is empty.
    """
    text = column.str.strip()
    refuse_rows(text == "", column, table, "empty", _FILL_IN)
    return text


def fill_paths(frame: pd.DataFrame, pattern: str, table: Path) -> pd.Series[str]:
    """Return the path of each picture.

    Raises
    ------
    TableError : it leaves the images folder, or no file can be called so.
    """
    paths = fill_pattern(frame, pattern)
    has_nul = paths.str.contains("\0", regex=False)
    remedy = "No file can be called so: remove the character NUL."
    refuse_rows(has_nul, paths.rename(pattern), table, "no path", remedy)
    is_outside = paths.str.contains(_OUTSIDE)
    outside = np.flatnonzero(is_outside)
    if len(outside):
        row = outside[0]
        raise TableError(
            f"table {table}: line {row + 2} names the picture {paths.iloc[row]!r}, which is "
            "outside the images folder. Paths must stay inside it."
        )
    return paths


def read_places(
    frame: pd.DataFrame, ids: pd.Series[Any], settings: ExtractSettings
) -> Floats | None:
    """Return the tile centres, (n, 2) [m]; None where the settings do not say where tiles lie.

    Raises
    ------
    TableError : a coordinate is empty or no number; a grid without whole-number ids.
    """
    section = settings.tiles
    table = section.source
    if section.grid is not None:
        if ids.dtype != np.int64:
            raise TableError(
                f"table {table}: [tiles] grid needs whole-number ids, got {ids.iloc[0]!r}. "
                "Use x and y."
            )
        return grid_places(ids.to_numpy(), section.grid)
    if section.x is None or section.y is None:
        return None
    x = _read_metres(frame[section.x], table)
    y = _read_metres(frame[section.y], table)
    return np.column_stack([x, y])


def _read_metres(column: pd.Series[str], table: Path) -> Floats:
    numbers, blank = parse_numbers(column)
    is_wrong = ~np.isfinite(numbers) & ~blank
    refuse_rows(is_wrong, column, table, "not a number", "Write metres, with a point.")
    refuse_rows(blank, column, table, "empty", f"Every tile needs a place. {_FILL_IN}")
    return numbers


def grid_places(ids: Ints, grid: GridSection) -> Floats:
    """Return the tile centres that grid ids encode.

    Parameters
    ----------
    ids : (n,), column-major number of the grid square, counted from the north-west corner.
    grid : rows a column, side of a square [m], easting and northing of the corner [m].

    Returns
    -------
    (n, 2), easting and northing of the centres [m].
    """
    column, row = np.divmod(ids, grid.rows)
    east, north = grid.origin
    half = grid.size_m / 2
    x = east + grid.size_m * column + half
    y = north - grid.size_m * row - half
    return np.column_stack([x, y])
