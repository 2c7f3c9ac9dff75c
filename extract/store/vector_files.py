"""Read ids and vectors that something else made, from NumPy, HDF5 or Parquet files."""

from __future__ import annotations

import fnmatch
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from extract.config.arrays import Ints
from extract.config.suggestions import suggest
from extract.errors import VectorFileError
from extract.store.embeddings import Array

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


def hash_sources(sources: list[VectorSource]) -> str:
    """Return the SHA-256 of the names and the files."""
    digest = hashlib.sha256()
    for source in sources:
        with source.path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"{source.name}\0{content}\0".encode())
    return digest.hexdigest()


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
            _check_known(source, "column", name, file.schema_arrow.names)
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
def open_vectors(source: VectorSource, *, ids: VectorSource) -> Iterator[Vectors]:
    """Open vectors, to be read by `take_rows`; only those of a Parquet file are read as a whole.

    Parameters
    ----------
    ids : its column is no vector.

    Raises
    ------
    VectorFileError : no such dataset or column, or no numbers.
    """
    if source.suffix in _HDF5:
        with _open_dataset(source, default="") as dataset:
            _check_numbers(dataset, source)
            yield dataset
        return
    if source.suffix == ".npy":
        vectors = _map_array(source)
    else:
        id_column = (ids.name or "id") if ids.path == source.path else ""
        vectors = _read_columns(source, id_column=id_column)
    _check_numbers(vectors, source)
    yield vectors


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


def _read_columns(source: VectorSource, *, id_column: str) -> Array:
    """Read columns of numbers, or one column of lists: (n, d); missing numbers are NaN.

    The columns are the one that the source names, those that begin as it says (`e*`), or without
    a name all of numbers or lists but the ids'.
    """
    with _open_parquet(source) as file:
        schema = file.schema_arrow
        names = [field.name for field in schema if _is_vector(field.type)]
        if source.name:
            names = fnmatch.filter(schema.names, source.name)
        elif id_column in names:
            names.remove(id_column)
        has_list = any(_is_list(schema.field(name).type) for name in names)
        if not names or (has_list and len(names) > 1):
            raise VectorFileError(
                f"{source}: expected columns of numbers or one column of lists, got "
                f"{', '.join(names) or 'none'}; it has {', '.join(schema.names[:20])}. "
                f"Write {source.path.name}:<column>, or :<beginning>*."
            )
        table = file.read(names)
    if not has_list:
        return table.to_pandas().to_numpy()
    lengths = pc.unique(pc.list_value_length(table.column(0))).to_pylist()
    if len(lengths) != 1 or None in lengths:
        some = " and ".join(sorted(map(str, lengths))[:3])
        raise VectorFileError(f"{source}: lists of {some} numbers; expected one length.")
    return pc.list_flatten(table.column(0)).to_numpy().reshape(-1, lengths[0])


def _is_vector(kind: pa.DataType) -> bool:
    return pa.types.is_floating(kind) or pa.types.is_integer(kind) or _is_list(kind)


def _is_list(kind: pa.DataType) -> bool:
    return isinstance(kind, pa.ListType | pa.LargeListType | pa.FixedSizeListType)
