"""Read ids and vectors that something else made, from NumPy, HDF5 or Parquet files."""

from __future__ import annotations

import fnmatch
import string
from collections.abc import Iterator, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from extract.config.arrays import Array, Ints
from extract.config.suggestions import suggest
from extract.errors import VectorFileError
from extract.tables.parquet_index import list_index_columns, list_ranges

_HDF5 = {".h5", ".hdf5", ".he5"}
_PARQUET = {".parquet", ".pq"}

Vectors = Any  # (n, …) numbers: an array, mapped where the file allows it, or an HDF5 dataset


class VectorSource(NamedTuple):
    """A file, and the dataset or column in it."""

    path: Path
    name: str

    def __str__(self) -> str:
        """Return it as it is written on the command line."""
        return f"{self.path}:{self.name}" if self.name else str(self.path)

    @property
    def suffix(self) -> str:
        """The file's ending, in small letters."""
        return self.path.suffix.lower()


class OpenVectors(NamedTuple):
    """Vectors, and in words what was taken of their file."""

    values: Vectors
    taken: str


def parse_source(text: str) -> VectorSource:
    """Split `FILE` or `FILE:NAME`; the whole text is a file's name where there is such a file.

    Raises
    ------
    VectorFileError : no such file, or of a kind that is not read.
    """
    source = VectorSource(Path(text), "")
    if not source.path.is_file() and ":" in text:
        path, _, name = text.rpartition(":")
        source = VectorSource(Path(path), name)
    if not source.path.is_file():
        raise VectorFileError(
            f"{text}: no such file. Write FILE, or FILE:NAME for a dataset of HDF5 or a column of "
            "Parquet."
        )
    if source.suffix not in {".npy", *_HDF5, *_PARQUET}:
        raise VectorFileError(
            f"{text}: expected .npy, .h5 or .parquet, got {source.suffix or 'no ending'!r}."
        )
    return source


def read_ids(source: VectorSource) -> pd.Index[Any]:
    """Read ids as text, as the tile table writes them.

    Raises
    ------
    VectorFileError : no such dataset or column, not a list of whole numbers or texts, or an id
        twice.
    """
    if source.suffix == ".npy":
        values = _map_array(source)
    elif source.suffix in _HDF5:
        with _open_dataset(source, default="id") as dataset:
            is_text = h5py.check_string_dtype(dataset.dtype)
            values = dataset.asstr()[:] if is_text else dataset[:]
    else:
        with _open_parquet(source) as file:
            name = source.name or "id"
            ranges = list_ranges(file.schema_arrow)
            _check_known(source, "column", name, [*file.schema_arrow.names, *ranges])
            if name in ranges:
                values = np.array(ranges[name])
            else:
                values = file.read([name]).column(0).to_numpy()
    ids = pd.Index(_as_text(values, source))
    twice: Array = ids[ids.duplicated()].unique().to_numpy()
    if len(twice):
        raise VectorFileError(
            f"{source}: {len(twice)} ids stand in more than one row ({', '.join(twice[:3])}). "
            "Every vector needs an id of its own."
        )
    return ids


def _as_text(values: Array, source: VectorSource) -> Array:
    if values.ndim != 1:
        raise VectorFileError(
            f"{source}: expected one id a row, got an array of shape {values.shape}."
        )
    if values.dtype.kind == "f" and (values == np.rint(values)).all():
        values = values.astype(np.int64)
    if values.dtype.kind not in "iuUSO":
        raise VectorFileError(
            f"{source}: expected ids that are whole numbers or texts, got {values.dtype}."
        )
    return values.astype(str).astype(object)


@contextmanager
def open_vectors(source: VectorSource, *, not_vectors: Set[str]) -> Iterator[OpenVectors]:
    """Open vectors, to be read by `take_rows`; only those of a Parquet file are read as a whole.

    Parameters
    ----------
    not_vectors : columns that are no dimension of a vector: ids, and those of the tile table.

    Raises
    ------
    VectorFileError : no such dataset or column, or no numbers.
    """
    if source.suffix in _HDF5:
        with _open_dataset(source, default="") as dataset:
            _check_numbers(dataset, source)
            yield OpenVectors(dataset, _describe_shape(dataset))
        return
    if source.suffix == ".npy":
        vectors = _map_array(source)
        taken = _describe_shape(vectors)
    else:
        vectors, taken = _read_columns(source, not_vectors=not_vectors)
    _check_numbers(vectors, source)
    yield OpenVectors(vectors, taken)


def _describe_shape(vectors: Vectors) -> str:
    sizes = " × ".join(map(str, vectors.shape[1:]))
    return f"{sizes} numbers"


def take_rows(vectors: Vectors, rows: Ints) -> Array:
    """Read some rows, in that order; of HDF5 a stretch where they lie near each other."""
    if isinstance(vectors, np.ndarray):
        return np.asarray(vectors[rows])
    if not len(rows):
        return np.asarray(vectors[:0])
    first = int(rows.min())
    stop = int(rows.max()) + 1
    if stop - first <= 4 * len(rows):
        return np.asarray(vectors[first:stop][rows - first])
    unique, inverse = np.unique(rows, return_inverse=True)
    return np.asarray(vectors[unique][inverse])


def _check_numbers(vectors: Vectors, source: VectorSource) -> None:
    if vectors.dtype.kind not in "fiu" or vectors.ndim < 2:
        raise VectorFileError(
            f"{source}: expected numbers, one row a tile, got {vectors.dtype} of shape "
            f"{vectors.shape}."
        )


def _check_known(source: VectorSource, kind: str, name: str, known: list[str]) -> None:
    if name not in known:
        raise VectorFileError(
            f"{source}: no {kind} {name!r}; it has {', '.join(known[:20])}. "
            f"Write {source.path.name}:<{kind}>.{suggest(name, known)}"
        )


def _map_array(source: VectorSource) -> Array:
    try:
        return np.asanyarray(np.load(source.path, mmap_mode="r", allow_pickle=False))
    except (ValueError, OSError, EOFError) as error:
        raise VectorFileError(
            f"{source}: not a plain .npy array ({error}). Save texts as fixed width: "
            "np.save(path, ids.astype(str))."
        ) from None


@contextmanager
def _open_dataset(source: VectorSource, *, default: str) -> Iterator[h5py.Dataset]:
    try:
        file = h5py.File(source.path, "r")
    except OSError as error:
        raise VectorFileError(f"{source}: not a readable HDF5 file ({error}).") from None
    with file:
        found: dict[str, Any] = {}
        file.visititems(found.__setitem__)
        known = [name for name, item in found.items() if isinstance(item, h5py.Dataset)]
        name = (source.name or default).strip("/")
        _check_known(source, "dataset", name, known)
        yield file[name]


@contextmanager
def _open_parquet(source: VectorSource) -> Iterator[pq.ParquetFile]:
    try:
        with pq.ParquetFile(source.path) as file:
            yield file
    except (pa.ArrowException, OSError) as error:
        raise VectorFileError(f"{source}: not a readable Parquet file ({error}).") from None


def _read_columns(source: VectorSource, *, not_vectors: Set[str]) -> tuple[Array, str]:
    """Read columns of numbers, or one column of lists: (n, d), and what was taken, in words.

    Missing numbers are NaN.
    """
    with _open_parquet(source) as file:
        schema = file.schema_arrow
        names = _choose_columns(
            source, schema, not_vectors=not_vectors | list_index_columns(schema)
        )
        table = file.read(names)
    left_out = [name for name in schema.names if name not in names]
    column = table.column(0)
    if not _is_list(column.type):
        taken = _describe_columns(names, left_out)
        return table.to_pandas(ignore_metadata=True).to_numpy(), taken
    lengths = pc.unique(pc.list_value_length(column)).to_pylist()
    if len(lengths) != 1 or None in lengths:
        some = " and ".join(sorted(map(str, lengths))[:3])
        raise VectorFileError(f"{source}: lists of {some} numbers; expected one length.")
    vectors = pc.list_flatten(column).to_numpy().reshape(-1, lengths[0])
    return vectors, _describe_columns([f"{names[0]}[0 … {lengths[0] - 1}]"], left_out)


def _choose_columns(source: VectorSource, schema: pa.Schema, *, not_vectors: Set[str]) -> list[str]:
    """Choose the columns that a source names, or without a name those that are a vector.

    These are one column of lists, or the columns of numbers that are named by one beginning and a
    number, as e0, e1, e2.
    """
    lists = [field.name for field in schema if _is_list(field.type)]
    numbers = [field.name for field in schema if _is_number(field.type)]
    usable = [*lists, *(name for name in numbers if name not in not_vectors)]
    if source.name:
        names = fnmatch.filter(usable, source.name)
    elif len(lists) == 1:
        names = lists
    else:
        families = _group_numbered(usable)
        names = families[0] if len(families) == 1 and not lists else []
    if not names or (len(names) > 1 and set(names) & set(lists)):
        raise VectorFileError(
            f"{source}: expected one column of lists, or columns of numbers with one beginning, as "
            f"e0 … e511, got {', '.join(usable[:20]) or 'none'} beside ids, index and the columns "
            f"of the tile table. Write {source.path.name}:<column>, or :<beginning>*."
        )
    return names


def _group_numbered(names: list[str]) -> list[list[str]]:
    """Group names that differ in the number at their end alone; a name by itself is no group."""
    groups: dict[str, list[str]] = {}
    for name in names:
        beginning = name.rstrip(string.digits)
        if beginning != name:
            groups.setdefault(beginning, []).append(name)
    return [group for group in groups.values() if len(group) > 1]


def _describe_columns(names: list[str], left_out: list[str]) -> str:
    """Say what was taken, as `512 numbers: e0 … e511; left out: id, income`."""
    ends = names[0] if len(names) == 1 else f"{names[0]} … {names[-1]}"
    taken = f"{len(names)} numbers: {ends}" if len(names) > 1 else ends
    if not left_out:
        return taken
    more = f" and {len(left_out) - 10} more" if len(left_out) > 10 else ""
    return f"{taken}; left out: {', '.join(left_out[:10])}{more}"


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_floating(kind) or pa.types.is_integer(kind)


def _is_list(kind: pa.DataType) -> bool:
    return isinstance(kind, pa.ListType | pa.LargeListType | pa.FixedSizeListType)
