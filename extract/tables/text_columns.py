"""Columns of text: what they are called, and patterns that are filled with them."""

from __future__ import annotations

import string
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import pandas as pd
import pyarrow as pa

from extract.config.suggestions import suggest
from extract.errors import TableError

_ROWS = 16384  # packed at once
_SEPARATORS = {";": "';'", "\t": "tabs"}


@contextmanager
def release_freed_memory() -> Iterator[None]:
    """Let Arrow return what it frees: its own allocator keeps several times what a table needs."""
    before = pa.default_memory_pool()
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        yield
    finally:
        pa.set_memory_pool(before)


def as_text(column: pd.Series[Any]) -> pd.Series[str]:
    """Write a typed column as a CSV would: whole numbers without a point, '' where missing."""
    values = column.dropna()
    if pd.api.types.is_float_dtype(values) and (values == values.round()).all():
        values = values.map(int)
    texts = values.map(str)
    return texts.reindex(column.index, fill_value="").astype(str)


def check_columns(columns: list[str], known: list[Any], where: str) -> None:
    """Refuse a table that lacks one of these columns, or has it twice.

    Raises
    ------
    TableError : names the column, and the nearest that is there.
    """
    for name in columns:
        n = known.count(name)
        if n > 1:
            raise TableError(
                f"{where}: {n} columns are named {name!r}. Rename all but the one that is meant."
            )
        if n == 1:
            continue
        for separator, word in _SEPARATORS.items():
            if len(known) == 1 and separator in str(known[0]):
                raise TableError(
                    f"{where}: its columns are separated by {word}. Save it with commas (and "
                    "points in numbers), or as Parquet."
                )
        names = ", ".join(map(str, filter(None, known)))
        raise TableError(f"{where}: no column {name!r}; it has {names}.{suggest(name, known)}")


def name_braces(pattern: str, where: str) -> list[str]:
    """List the columns that stand in braces in a pattern, and check their formats.

    Raises
    ------
    TableError : a brace is empty or open, or a format is none of text.
    """
    names = []
    try:
        for _, name, spec, _ in string.Formatter().parse(pattern):
            if name == "":
                raise ValueError("empty braces")
            format("", spec or "")
            if name is not None:
                names.append(name)
    except ValueError as error:
        raise TableError(
            f"{where} {pattern!r}: {error}. Write columns in braces, as 'LIDAR_{{id}}.png', or "
            "their first letters, as '{id:.2}'."
        ) from None
    return names


def fill_pattern(frame: pd.DataFrame, pattern: str) -> pd.Series[str]:
    """Put each row's columns into the braces of a pattern."""
    filled = pd.Series("", index=frame.index, dtype=str)
    for literal, name, spec, _ in string.Formatter().parse(pattern):
        filled = filled + literal
        if not name:
            continue
        values = frame[name].str.strip()
        if spec:
            values = pack_texts(format(value, spec) for value in values)
        filled = filled + values
    return filled


def pack_texts(texts: Iterable[str]) -> pd.Series[str]:
    """Pack texts as they come, so that no more than a piece is there as Python objects."""
    coming = iter(texts)
    pieces = [pd.Series([], dtype=str)]
    while piece := list(islice(coming, _ROWS)):
        packed = pd.Series(piece, dtype=str)
        pieces.append(packed)
    return pd.concat(pieces, ignore_index=True)
