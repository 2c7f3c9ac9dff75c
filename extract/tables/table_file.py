"""Read CSV and Parquet tables as text: the one way in for every command."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from extract.errors import InputError, TableError
from extract.tables.parquet_index import list_ranges
from extract.tables.text_columns import as_text, check_columns

_ROWS = 16384  # read at once: pandas makes a Python object of every field before it packs them
_EMPTY = ', \t\r\n"'  # what a line of empty cells is made of
_MAX_FIELD = 1 << 30  # polygons as text are longer than the default of the csv module
_UNREADABLE = (ValueError, OSError, EOFError, csv.Error, zlib.error)


def read_frame(path: Path, columns: list[str], *, what: str = "table") -> pd.DataFrame:
    """Read the named columns of a CSV (also `.csv.gz`) or Parquet table as text.

    Blanks around the names of columns, empty columns, and empty rows at the end are left out.

    Parameters
    ----------
    what : what the table is, for errors.

    Returns
    -------
    One column a name, '' where it is empty; '007' stays '007'.

    Raises
    ------
    TableError : no such file or column, no rows, or not such a table.
    """
    pieces = list(stream_frame(path, columns, _ROWS, what=what))
    if not any(map(len, pieces)):
        raise TableError(f"{what} {path}: no rows; expected one row a tile or area.")
    return pd.concat(pieces, ignore_index=True)


def stream_frame(
    path: Path, columns: list[str], n_rows: int, *, what: str = "table"
) -> Iterator[pd.DataFrame]:
    """Yield the named columns as text, some rows at a time; see `read_frame`.

    Raises
    ------
    TableError : a column is not there, or twice; a row of a CSV is longer than its header; not
        such a table.
    """
    with _name_faults(path, what):
        if _is_parquet(path):
            yield from _stream_parquet(path, columns, n_rows, what)
        else:
            yield from _stream_csv(path, columns, n_rows, what)


def list_columns(path: Path, *, what: str = "table") -> list[str]:
    """Return the names of all columns of a table; errors as `read_frame`."""
    with _name_faults(path, what):
        if _is_parquet(path):
            schema = pq.read_schema(path)
            return [*schema.names, *list_ranges(schema)]
        with _open_csv(path) as file:
            return _read_header(file, f"{what} {path}")


def _is_parquet(path: Path) -> bool:
    return path.suffix.lower() in {".parquet", ".pq"}


@contextmanager
def _name_faults(path: Path, what: str) -> Iterator[None]:
    """Turn what libraries say of an unreadable table into one line with file and remedy."""
    try:
        if not path.is_file():
            raise TableError(
                f"{what} {path}: no such file. Mend its path; in a settings file it is relative "
                "to the file."
            )
        yield
    except InputError:
        raise
    except UnicodeDecodeError as error:
        raise TableError(
            f'{what} {path}: not UTF-8 ({error}). Save it as "CSV UTF-8", or as Parquet.'
        ) from None
    except _UNREADABLE as error:
        kind = path.suffix or "CSV"
        reason, *_ = str(error).strip().splitlines() or [type(error).__name__]
        raise TableError(
            f"{what} {path}: cannot be read as {kind}: {reason}. Save it anew."
        ) from None


class _Survey(NamedTuple):
    """What a look through a CSV tells: its header, and how many characters hold its rows."""

    header: list[str]
    n_characters: int
    has_more: bool


class _Head(io.TextIOBase):
    """The first characters of a text file, as a file."""

    def __init__(self, file: TextIO, n_characters: int) -> None:
        self._file = file
        self._n_left = n_characters

    def read(self, size: int | None = -1) -> str:
        """Read at most `size` characters, or all that are left."""
        n = self._n_left
        if size is not None and size >= 0:
            n = min(n, size)
        text = self._file.read(n)
        self._n_left -= len(text)
        return text


def _open_csv(path: Path) -> TextIO:
    if path.suffix.lower() == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _stream_csv(path: Path, columns: list[str], n_rows: int, what: str) -> Iterator[pd.DataFrame]:
    survey = _survey_csv(path, columns, f"{what} {path}")
    places = sorted(map(survey.header.index, columns))
    names = [survey.header[place] for place in places]
    with _open_csv(path) as file:
        source = _Head(file, survey.n_characters) if survey.has_more else path
        with pd.read_csv(
            source,
            dtype=str,
            keep_default_na=False,
            encoding="utf-8-sig",
            usecols=places,
            index_col=False,
            chunksize=n_rows,
        ) as pieces:
            for piece in pieces:
                yield piece.set_axis(names, axis=1)[columns]


def _survey_csv(path: Path, columns: list[str], where: str) -> _Survey:
    """Look through a CSV, and refuse rows longer than its header.

    pandas would read their values under other names.
    """
    with _open_csv(path) as file:
        header = _read_header(file, where)
        check_columns(columns, header, where)
        n_fields = len(header)
        file.seek(0)
        has_long_lines = False
        n_read = 0
        n_characters = 0
        for line in file:
            n_read += len(line)
            if line.strip(_EMPTY):
                n_characters = n_read
            if line.count(",") >= n_fields:
                has_long_lines = True
        if has_long_lines:
            file.seek(0)
            _check_lengths(file, n_fields, where)
    return _Survey(header, n_characters, n_read > n_characters)


def _read_header(file: TextIO, where: str) -> list[str]:
    lines = csv.reader(file)
    header = next(filter(None, lines), None)
    if header is None:
        raise TableError(f"{where}: empty; expected a header and one row a tile.")
    return [name.strip() for name in header]


def _check_lengths(file: TextIO, n_fields: int, where: str) -> None:
    csv.field_size_limit(_MAX_FIELD)
    reader = csv.reader(file)
    for row in reader:
        if any(row[n_fields:]):
            raise TableError(
                f"{where}: line {reader.line_num} has {len(row)} fields, the header {n_fields}. "
                "Put texts that hold a comma in double quotes."
            )


def _stream_parquet(
    path: Path, columns: list[str], n_rows: int, what: str
) -> Iterator[pd.DataFrame]:
    with pq.ParquetFile(path) as file:
        ranges = list_ranges(file.schema_arrow)
        check_columns(columns, [*file.schema_arrow.names, *ranges], f"{what} {path}")
        stored = [name for name in columns if name not in ranges]
        for name in stored:
            if pa.types.is_nested(file.schema_arrow.field(name).type):
                raise TableError(
                    f"{what} {path}: column {name!r} holds lists; expected one value a row. "
                    "Name another column."
                )
        fractional = {name for name in stored if _has_fractions(file, name, n_rows)}
        n_seen = 0
        for batch in file.iter_batches(n_rows, columns=stored):
            texts = {}
            for name in stored:
                texts[name] = _read_column(batch.column(name), name in fractional)
            for name in ranges.keys() & set(columns):
                numbers = ranges[name][n_seen : n_seen + len(batch)]
                texts[name] = as_text(pd.Series(numbers))
            n_seen += len(batch)
            yield pd.DataFrame({name: texts[name] for name in columns})


def _has_fractions(file: pq.ParquetFile, name: str, n_rows: int) -> bool:
    """Return whether a column has a number that is not whole; all are then written with a point."""
    if not pa.types.is_floating(file.schema_arrow.field(name).type):
        return False
    for batch in file.iter_batches(n_rows, columns=[name]):
        numbers = batch.column(0).drop_null().to_numpy()
        if (numbers != numbers.round()).any():
            return True
    return False


def _read_column(column: pa.Array[Any], has_fractions: bool) -> pd.Series[str]:
    """Return the values of a column as text, '' where they are missing."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _read_column(column.dictionary_decode(), has_fractions)
    is_bytes = pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
    if is_bytes or pa.types.is_integer(kind):
        column = column.cast(pa.string())
    values = column.to_pandas()
    if pa.types.is_decimal(kind):
        values = values.map(lambda number: f"{number.normalize():f}", na_action="ignore")
    if has_fractions:
        values = values.astype(object)
    return as_text(values)
