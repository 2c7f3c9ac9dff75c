"""Ids and vectors that something else made, in NumPy, HDF5 or Parquet; read by rows, never as a whole."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from extract.config.suggestions import suggest
from extract.errors import VectorFileError

_HDF5 = {".h5", ".hdf5", ".he5"}
_PARQUET = {".parquet", ".pq"}
_STEP = 4096  # rows of a Parquet file that are in memory at a time


class VectorSource(NamedTuple):
    """A file, and the dataset or column in it."""

    path: Path
    name: str

    def __str__(self) -> str:
        """Return it as it is written on the command line."""
        return f"{self.path}:{self.name}" if self.name else str(self.path)


class Vectors(Protocol):
    """(n, …) numbers on disk."""

    @property
    def shape(self) -> tuple[int, ...]: ...  # noqa: D102

    def take(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Read some rows, in that order."""


def parse_source(text: str) -> VectorSource:
    """Take `FILE` or `FILE:NAME` apart; a file that is there by the whole text is one.

    Raises
    ------
    VectorFileError : no such file, or of a kind that is not read.
    """
    path, _, name = (text, "", "") if Path(text).is_file() else text.rpartition(":")
    source = VectorSource(Path(path or name), name if path else "")
    if not source.path.is_file():
        raise VectorFileError(
            f"{text}: no such file. Write FILE, or FILE:NAME for a dataset of HDF5 or a column of Parquet."
        )
    if source.path.suffix.lower() not in {".npy"} | _HDF5 | _PARQUET:
        raise VectorFileError(
            f"{text}: expected .npy, .h5 or .parquet, got {source.path.suffix or 'no ending'!r}."
        )
    return source


def hash_sources(sources: list[VectorSource]) -> str:
    """SHA-256 over the names and the files."""
    digest = hashlib.sha256()
    for source in sources:
        with source.path.open("rb") as file:
            digest.update(
                f"{source.name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\0".encode()
            )
    return digest.hexdigest()


def read_ids(source: VectorSource) -> pd.Index[Any]:
    """Read ids as text, as the tile table writes them.

    Raises
    ------
    VectorFileError : no such dataset or column, not a list of whole numbers or texts, or an id twice.
    """
    suffix = source.path.suffix.lower()
    if suffix == ".npy":
        values = _load(source)
    elif suffix in _HDF5:
        with _open_dataset(source, default="id") as dataset:
            values = dataset.asstr()[:] if h5py.check_string_dtype(dataset.dtype) else dataset[:]
    else:
        values = _read_columns(source, [source.name or "id"])[source.name or "id"].to_numpy()
    ids = pd.Index(_as_text(np.asarray(values), source))
    twice = ids[ids.duplicated()].unique()
    if len(twice):
        raise VectorFileError(
            f"{source}: {len(twice)} ids stand in more than one row ({', '.join(twice[:3])}). "
            "Every vector needs an id of its own."
        )
    return ids


def _as_text(values: NDArray[Any], source: VectorSource) -> NDArray[Any]:
    if values.ndim != 1:
        raise VectorFileError(
            f"{source}: expected one id a row, got an array of shape {values.shape}."
        )
    if values.dtype.kind == "f" and np.isfinite(values).all() and (values == np.rint(values)).all():
        values = values.astype(np.int64)
    if values.dtype.kind == "S":
        values = np.char.decode(values, "utf-8")
    if values.dtype.kind not in "iuUO":
        raise VectorFileError(
            f"{source}: expected ids that are whole numbers or texts, got {values.dtype}."
        )
    return values.astype(str).astype(object)


@contextmanager
def open_vectors(source: VectorSource, *, scratch: Path, ids: VectorSource) -> Iterator[Vectors]:
    """Open vectors to be read by rows; a Parquet file, which has no such access, is laid out once in a nameless file.

    Parameters
    ----------
    scratch : a folder with room for the vectors of a Parquet file. ids : its columns are no vectors.

    Raises
    ------
    VectorFileError : no such dataset or column, or no numbers.
    """
    suffix = source.path.suffix.lower()
    with ExitStack() as stack:
        if suffix == ".npy":
            vectors: Vectors = InMemoryMap(_load(source))
        elif suffix in _HDF5:
            vectors = InDataset(stack.enter_context(_open_dataset(source, default="")))
        else:
            file = stack.enter_context(tempfile.TemporaryFile(dir=scratch))
            vectors = InMemoryMap(
                _lay_out(
                    source, file, without=(ids.name or "id") if ids.path == source.path else ""
                )
            )
        _check_numbers(vectors, source)
        yield vectors


class InMemoryMap:
    """Rows of an array that the system reads as they are asked for."""

    def __init__(self, array: NDArray[Any]) -> None:
        self._array = array
        self.shape = array.shape
        self.dtype = array.dtype

    def take(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Read some rows, in that order."""
        return np.asarray(self._array[rows])


class InDataset:
    """Rows of an HDF5 dataset: a stretch where the rows lie near each other, else one by one."""

    def __init__(self, dataset: h5py.Dataset) -> None:
        self._dataset = dataset
        self.shape = tuple(dataset.shape)
        self.dtype = dataset.dtype

    def take(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Read some rows, in that order."""
        if not len(rows):
            return np.zeros((0, *self.shape[1:]), self.dtype)
        first = int(rows.min())
        last = int(rows.max())
        if last - first < 4 * len(rows):
            return np.asarray(self._dataset[first : last + 1][rows - first])
        unique, inverse = np.unique(rows, return_inverse=True)
        return np.asarray(self._dataset[unique][inverse])


def _check_numbers(vectors: Any, source: VectorSource) -> None:
    if vectors.dtype.kind not in "fiu" or len(vectors.shape) < 2:
        raise VectorFileError(
            f"{source}: expected numbers, one row a tile, got {vectors.dtype} of shape {vectors.shape}."
        )


def _load(source: VectorSource) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(source.path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise VectorFileError(
            f"{source}: not a plain .npy array ({error}). Save texts as fixed width: "
            "np.save(path, ids.astype(str))."
        ) from None
    return array


@contextmanager
def _open_dataset(source: VectorSource, *, default: str) -> Iterator[Any]:
    try:
        file = h5py.File(source.path, "r")
    except OSError as error:
        raise VectorFileError(f"{source}: not a readable HDF5 file ({error}).") from None
    with file:
        known: list[str] = []
        file.visititems(
            lambda name, item: known.append(name) if isinstance(item, h5py.Dataset) else None
        )
        name = (source.name or default).strip("/")
        if name not in known:
            raise VectorFileError(
                f"{source}: no dataset {name!r}; it has {', '.join(known)}. "
                f"Write {source.path.name}:<dataset>.{suggest(name, known)}"
            )
        yield file[name]


def _read_columns(source: VectorSource, names: list[str]) -> pa.Table:
    try:
        known = pq.read_schema(source.path).names
        for name in names:
            if name not in known:
                raise VectorFileError(
                    f"{source}: no column {name!r}; it has {', '.join(known[:20])}.{suggest(name, known)}"
                )
        return pq.read_table(source.path, columns=names)
    except (pa.ArrowException, OSError) as error:
        raise VectorFileError(f"{source}: not a readable Parquet file ({error}).") from None


def _lay_out(source: VectorSource, file: Any, *, without: str) -> NDArray[Any]:
    """Write the vector columns of a Parquet file, or its one list column, as (n, d) float32."""
    try:
        parquet = pq.ParquetFile(source.path)
    except (pa.ArrowException, OSError) as error:
        raise VectorFileError(f"{source}: not a readable Parquet file ({error}).") from None
    with parquet:
        names = _vector_columns(parquet.schema_arrow, source, without)
        n = parquet.metadata.num_rows
        array = np.zeros((0, 0), np.float32)
        start = 0
        for batch in parquet.iter_batches(_STEP, columns=names):
            block = _as_block(batch, source)
            if not start:
                array = np.memmap(file, np.float32, "w+", shape=(n, block.shape[1]))
            if block.shape[1] != array.shape[1]:
                raise VectorFileError(
                    f"{source}: vectors of {block.shape[1]} and of {array.shape[1]} numbers; expected one length."
                )
            array[start : start + len(block)] = block
            start += len(block)
    return array


def _vector_columns(schema: pa.Schema, source: VectorSource, without: str) -> list[str]:
    """Name the column asked for (`e*` for all that begin with e), or every column of numbers or lists but the id."""
    if source.name:
        begin = source.name.removesuffix("*")
        names = [
            name
            for name in schema.names
            if name == source.name or (begin != source.name and name.startswith(begin))
        ]
    else:
        names = [
            f.name
            for f in schema
            if f.name != without
            and (pa.types.is_floating(f.type) or pa.types.is_integer(f.type) or _is_list(f.type))
        ]
    lists = [name for name in names if _is_list(schema.field(name).type)]
    if not names or (lists and len(names) > 1):
        raise VectorFileError(
            f"{source}: expected columns of numbers or one column of lists, got {', '.join(names) or 'none'}; "
            f"it has {', '.join(schema.names[:20])}. Write {source.path.name}:<column>, or :<beginning>*."
        )
    return names


def _is_list(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )


def _as_block(batch: pa.RecordBatch, source: VectorSource) -> NDArray[Any]:
    """Return some rows as (n, d); numbers that are missing are NaN."""
    first = batch.column(0)
    if not _is_list(first.type):
        return np.column_stack([column.to_numpy(zero_copy_only=False) for column in batch.columns])
    lengths = set(first.value_lengths().to_pylist())
    if len(lengths) != 1 or None in lengths:
        some = " and ".join(map(str, sorted(lengths, key=str)[:3]))
        raise VectorFileError(f"{source}: lists of {some} numbers; expected one length.")
    return np.asarray(first.flatten().to_numpy(zero_copy_only=False)).reshape(
        len(first), lengths.pop()
    )
