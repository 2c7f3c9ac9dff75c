"""Tables as text: read from CSV or Parquet, columns put into patterns, numbers told from what is none."""

from __future__ import annotations

import csv
import string
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, islice, repeat
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from extract.config.suggestions import suggest
from extract.errors import TableError

MISSING = {"", "na", "nan", "n/a", "null", "none"}
_ROWS = 16384  # of a CSV at once: pandas makes a Python object of every field before it packs them


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
    """Read the named columns as text ('' where empty), so that '007' stays '007'."""
    if not path.is_file():
        raise TableError(
            f"table {path}: no such file. Mend [tiles] table; paths are relative to the settings file."
        )
    try:
        if path.suffix.lower() in {".parquet", ".pq"}:
            check_columns(columns, pq.read_schema(path).names, f"table {path}")
            with pq.ParquetFile(path) as file:
                read = file.read(columns=columns).to_pandas(ignore_metadata=True)
            frame = pd.DataFrame({name: as_text(read[name]) for name in columns})
        else:
            check_columns(columns, _read_header(path), f"table {path}")
            frame = pd.concat(_stream_csv(path, columns, _ROWS), ignore_index=True)
    except pd.errors.EmptyDataError:
        raise TableError(f"table {path}: empty; expected a header and one row a tile.") from None
    except TableError:
        raise
    except UnicodeDecodeError as error:
        raise TableError(
            f'table {path}: not UTF-8 ({error}). Save it as "CSV UTF-8", or as Parquet.'
        ) from None
    except (ValueError, OSError, csv.Error) as error:
        raise TableError(
            f"table {path}: cannot be read as {path.suffix or 'CSV'}: {error}"
        ) from None
    if frame.empty:
        raise TableError(f"table {path}: no rows; expected one row a tile.")
    return frame


def _read_header(path: Path) -> list[str]:
    header = pd.read_csv(
        path,
        header=None,
        nrows=1,
        dtype=str,
        keep_default_na=False,
        encoding="utf-8-sig",
        index_col=False,
    )
    return [str(name) for name in header.iloc[0]]


def _stream_csv(path: Path, columns: list[str], n_rows: int) -> Iterator[pd.DataFrame]:
    _check_widths(path, len(_read_header(path)))
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


def _check_widths(path: Path, n_fields: int) -> None:
    """Refuse a row that says more than the header has names for: pandas would take its values under other names."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        if not any(line.count(",") >= n_fields for line in file):  # quick, and true of most tables
            return
        file.seek(0)
        csv.field_size_limit(1 << 30)  # polygons as text are longer than its default
        reader = csv.reader(file)
        for row in reader:
            if len(row) > n_fields and any(row[n_fields:]):
                raise TableError(
                    f"table {path}: line {reader.line_num} has {len(row)} fields, the header {n_fields}. Put texts "
                    "that hold a comma in double quotes."
                )


def stream_frame(path: Path, columns: list[str], n_rows: int) -> Iterator[pd.DataFrame]:
    """Return the named columns as `read_frame` does, some rows at a time; what is wrong with the file is for that one to say."""
    if path.suffix.lower() in {".parquet", ".pq"}:
        with pq.ParquetFile(path) as file:
            check_columns(columns, file.schema_arrow.names, f"table {path}")
            fractions = {name for name in columns if _has_fractions(file, name, n_rows)}
            for batch in file.iter_batches(n_rows, columns=columns):
                frame = batch.to_pandas()
                yield pd.DataFrame(
                    {
                        name: as_text(
                            frame[name].astype(object) if name in fractions else frame[name]
                        )
                        for name in columns
                    }
                )
        return
    check_columns(columns, _read_header(path), f"table {path}")
    yield from _stream_csv(path, columns, n_rows)


def _has_fractions(file: pq.ParquetFile, name: str, n_rows: int) -> bool:
    """Return whether a column holds numbers that are not whole; then the whole ones among them have a point too."""
    if not pa.types.is_floating(file.schema_arrow.field(name).type):
        return False
    pieces = (
        batch.column(0).drop_null().to_numpy()
        for batch in file.iter_batches(n_rows, columns=[name])
    )
    return any((piece != piece.round()).any() for piece in pieces)


def as_text(column: pd.Series[Any]) -> pd.Series[str]:
    """Write a typed column as a CSV would: whole numbers without a point, nothing where it is missing."""
    numbers = column.dropna()
    if pd.api.types.is_float_dtype(numbers) and (numbers == numbers.round()).all():
        return column.map(lambda v: "" if pd.isna(v) else str(int(v)))
    return column.map(lambda v: "" if pd.isna(v) else str(v))


def check_columns(columns: list[str], known: list[Any], where: str) -> None:
    """Refuse a table that lacks one of these columns, or has it twice."""
    for name in columns:
        if known.count(name) > 1:
            raise TableError(
                f"{where}: {known.count(name)} columns are named {name!r}. Rename all but the one that is meant."
            )
        if len(known) == 1 and ";" in str(known[0]):
            raise TableError(
                f"{where}: its columns are separated by ';'. Save it with commas (and points in numbers), "
                "or as Parquet."
            )
        if name not in known:
            raise TableError(
                f"{where}: no column {name!r}; it has {', '.join(map(str, known))}.{suggest(name, known)}"
            )


def name_braces(pattern: str, where: str) -> list[str]:
    """Name the columns that stand in braces in a pattern, and check how they are to be written there."""
    try:
        braces = [
            (name, spec)
            for _, name, spec, _ in string.Formatter().parse(pattern)
            if name is not None
        ]
        if not all(name for name, _ in braces):
            raise ValueError("empty braces")
        for _, spec in braces:
            format("", spec or "")
    except ValueError as error:
        raise TableError(
            f"{where} {pattern!r}: {error}. Write columns in braces, as 'LIDAR_{{id}}.png', or their first "
            "letters, as '{id:.2}'."
        ) from None
    return [name for name, _ in braces]


def fill_pattern(frame: pd.DataFrame, pattern: str) -> pd.Series[str]:
    """Put each row's columns into the braces of a pattern."""
    pieces = (frame.iloc[start : start + _ROWS] for start in range(0, len(frame), _ROWS))
    return pack_texts(chain.from_iterable(_fill(piece, pattern) for piece in pieces))


def pack_texts(texts: Iterable[str]) -> pd.Series[str]:
    """Pack texts as they come, so that no more than a piece is there as Python objects."""
    coming = iter(texts)
    packed = [
        pd.Series(piece, dtype=str) for piece in iter(lambda: list(islice(coming, _ROWS)), [])
    ]
    return pd.concat(packed, ignore_index=True) if packed else pd.Series([], dtype=str)


def _fill(frame: pd.DataFrame, pattern: str) -> list[str]:
    parts: list[Iterable[str]] = []
    for literal, name, spec, _ in string.Formatter().parse(pattern):
        parts.append(repeat(literal, len(frame)))
        if name:
            values = frame[name].str.strip().tolist()
            parts.append([format(value, spec) for value in values] if spec else values)
    return ["".join(row) for row in zip(*parts, strict=True)]


def parse_numbers(column: pd.Series[str]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Read text as numbers: (n,) NaN where there is none, and (n,) whether it is empty or says that it is missing."""
    text = column.str.strip()
    blank = text.str.lower().isin(MISSING).to_numpy()
    filled = text.where(~blank)
    try:
        numbers = (
            pa.array(filled, pa.string(), from_pandas=True)
            .cast(pa.float64())
            .to_numpy(zero_copy_only=False)
        )
    except pa.ArrowInvalid:  # some are no numbers, and pandas tells which
        numbers = pd.to_numeric(filled, errors="coerce").to_numpy()
    return np.asarray(numbers, np.float64), blank
