"""Read tables as text, fill patterns with their columns, and parse their numbers."""

from __future__ import annotations

import csv
import string
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from extract.config.arrays import Bools, Floats
from extract.config.suggestions import suggest
from extract.errors import TableError

MISSING = {"", "na", "nan", "n/a", "null", "none"}
_ROWS = 16384  # read at once: pandas makes a Python object of every field before it packs them


@contextmanager
def release_freed_memory() -> Iterator[None]:
    """Let Arrow return what it frees: its own allocator keeps several times what a table needs."""
    before = pa.default_memory_pool()
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        yield
    finally:
        pa.set_memory_pool(before)


def read_frame(path: Path, columns: list[str]) -> pd.DataFrame:
    """Read the named columns of a CSV or Parquet table as text.

    Returns
    -------
    One column a name, '' where it is empty; '007' stays '007'.

    Raises
    ------
    TableError : no such file or column, no rows, or not such a table.
    """
    if not path.is_file():
        raise TableError(
            f"table {path}: no such file. Mend [tiles] table; paths are relative to the settings "
            "file."
        )
    try:
        pieces = list(stream_frame(path, columns, _ROWS))
    except TableError:
        raise
    except UnicodeDecodeError as error:
        raise TableError(
            f'table {path}: not UTF-8 ({error}). Save it as "CSV UTF-8", or as Parquet.'
        ) from None
    except (ValueError, OSError, csv.Error) as error:
        kind = path.suffix or "CSV"
        raise TableError(f"table {path}: cannot be read as {kind}: {error}") from None
    if not any(map(len, pieces)):
        raise TableError(f"table {path}: no rows; expected one row a tile.")
    return pd.concat(pieces, ignore_index=True)


def stream_frame(path: Path, columns: list[str], n_rows: int) -> Iterator[pd.DataFrame]:
    """Yield the named columns as text, some rows at a time.

    Raises
    ------
    TableError : a column is not there, or twice; a row of a CSV is longer than its header.
    ValueError, OSError : not such a table.
    """
    if path.suffix.lower() in {".parquet", ".pq"}:
        yield from _stream_parquet(path, columns, n_rows)
        return
    _check_csv(path, columns)
    with pd.read_csv(
        path,
        dtype=str,
        keep_default_na=False,
        encoding="utf-8-sig",
        usecols=columns,
        index_col=False,
        chunksize=n_rows,
    ) as pieces:
        yield from pieces


def _stream_parquet(path: Path, columns: list[str], n_rows: int) -> Iterator[pd.DataFrame]:
    with pq.ParquetFile(path) as file:
        check_columns(columns, file.schema_arrow.names, f"table {path}")
        fractions = {name for name in columns if _has_fractions(file, name, n_rows)}
        for batch in file.iter_batches(n_rows, columns=columns):
            frame = batch.to_pandas()
            for name in fractions:
                frame[name] = frame[name].astype(object)
            yield pd.DataFrame({name: as_text(frame[name]) for name in columns})


def _has_fractions(file: pq.ParquetFile, name: str, n_rows: int) -> bool:
    """Return whether a column has a number that is not whole; all are then written with a point."""
    if not pa.types.is_floating(file.schema_arrow.field(name).type):
        return False
    for batch in file.iter_batches(n_rows, columns=[name]):
        numbers = batch.column(0).drop_null().to_numpy()
        if (numbers != numbers.round()).any():
            return True
    return False


def _check_csv(path: Path, columns: list[str]) -> None:
    """Refuse rows longer than the header: pandas would read their values under other names."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        header = next(filter(None, csv.reader(file)), None)
        if header is None:
            raise TableError(f"table {path}: empty; expected a header and one row a tile.")
        check_columns(columns, header, f"table {path}")
        n_fields = len(header)
        file.seek(0)
        if not any(line.count(",") >= n_fields for line in file):  # quick, true of most tables
            return
        file.seek(0)
        csv.field_size_limit(1 << 30)  # polygons as text are longer than its default
        reader = csv.reader(file)
        for row in reader:
            if any(row[n_fields:]):
                raise TableError(
                    f"table {path}: line {reader.line_num} has {len(row)} fields, the header "
                    f"{n_fields}. Put texts that hold a comma in double quotes."
                )


def as_text(column: pd.Series[Any]) -> pd.Series[str]:
    """Write a typed column as a CSV would: whole numbers without a point, '' where missing."""
    numbers = column.dropna()
    if pd.api.types.is_float_dtype(numbers) and (numbers == numbers.round()).all():
        numbers = numbers.map(int)
    return numbers.map(str).reindex(column.index, fill_value="").astype(str)


def check_columns(columns: list[str], known: list[Any], where: str) -> None:
    """Refuse a table that lacks one of these columns, or has it twice.

    Raises
    ------
    TableError : names the column, and the nearest that is there.
    """
    for name in columns:
        if known.count(name) > 1:
            raise TableError(
                f"{where}: {known.count(name)} columns are named {name!r}. Rename all but the one "
                "that is meant."
            )
        if len(known) == 1 and ";" in str(known[0]):
            raise TableError(
                f"{where}: its columns are separated by ';'. Save it with commas (and points in "
                "numbers), or as Parquet."
            )
        if name not in known:
            names = ", ".join(map(str, known))
            hint = suggest(name, known)
            raise TableError(f"{where}: no column {name!r}; it has {names}.{hint}")


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
        if name:
            values = frame[name].str.strip()
            filled = filled + (pack_texts(format(v, spec) for v in values) if spec else values)
    return filled


def pack_texts(texts: Iterable[str]) -> pd.Series[str]:
    """Pack texts as they come, so that no more than a piece is there as Python objects."""
    coming = iter(texts)
    pieces = [pd.Series([], dtype=str)]
    for piece in iter(lambda: list(islice(coming, _ROWS)), []):
        pieces.append(pd.Series(piece, dtype=str))
    return pd.concat(pieces, ignore_index=True)


def parse_numbers(column: pd.Series[str]) -> tuple[Floats, Bools]:
    """Read text as numbers.

    Returns
    -------
    (n,) numbers, NaN where there is none, and (n,) whether the text is empty or says so.
    """
    text = column.str.strip()
    blank = text.str.lower().isin(MISSING).to_numpy()
    filled = text.where(~blank)
    try:
        cast = pa.array(filled, pa.string(), from_pandas=True).cast(pa.float64())
        numbers = cast.to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid:  # some are no numbers, and pandas finds which
        numbers = pd.to_numeric(filled, errors="coerce").to_numpy()
    return np.asarray(numbers, np.float64), blank
