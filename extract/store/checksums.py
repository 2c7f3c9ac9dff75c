"""Checksums of embeddings files: SHA-256 of whole datasets, and XXH3 of each chunk of a cut.

Everything is held against SHA-256 by `extract verify`. Whoever reads rows of a cut holds the chunks
that they lie in against their XXH3, which is as quick as memory.
"""

from __future__ import annotations

import hashlib
import json

import h5py
import numpy as np
import xxhash
from numpy.typing import NDArray

from extract.config.arrays import Array
from extract.files.hashing import hash_text

CHUNK_SUMS = "xxh3"  # attribute of a cut: (n_chunks,) uint64
_BLOCK_BYTES = 1 << 23


def dataset_names(file: h5py.File) -> list[str]:
    """Return the name of every dataset, as `id` or `cuts/<layer>:<pooling>`."""
    columns = [name for name in file if name != "cuts"]
    return columns + [f"cuts/{name}" for name in file["cuts"]]


def hash_rows(rows: Array) -> str:
    """Return the SHA-256 of some rows, as their dataset carries it."""
    return hashlib.sha256(as_bytes(rows)).hexdigest()


def as_bytes(rows: Array) -> bytes:
    """Return the bytes of some rows that the checksum of their dataset is taken over."""
    if rows.dtype == object:
        return "".join(f"{text}\0" for text in rows).encode()
    return np.ascontiguousarray(rows).tobytes()


def hash_dataset(dataset: h5py.Dataset) -> str:
    """Return the SHA-256 of a dataset, reading a few MiB at a time."""
    row_bytes = int(np.prod(dataset.shape[1:])) * dataset.dtype.itemsize
    step = max(1, _BLOCK_BYTES // max(1, row_bytes))
    rows = dataset.asstr() if dataset.dtype == object else dataset
    total = hashlib.sha256()
    for start in range(0, len(dataset), step):
        total.update(as_bytes(rows[start : start + step]))
    return total.hexdigest()


def hash_embeddings(file: h5py.File) -> str:
    """Return the SHA-256 of a file's attributes and of the checksums of its datasets."""
    attributes = {name: str(value) for name, value in file.attrs.items() if name != "sha256"}
    sums = {name: file[name].attrs.get("sha256") for name in dataset_names(file)}
    stated = {name: value for name, value in sums.items() if value is not None}
    text = json.dumps([attributes, stated], sort_keys=True)
    return hash_text(text)


def sum_chunk(rows: Array) -> int:
    """Return the XXH3 (64 bit) of the rows of one chunk."""
    return xxhash.xxh3_64_intdigest(rows.data)


class ChunkSums:
    """The checksums of the chunks of a cut, whose rows come in pieces of any length.

    Parameters
    ----------
    chunk_rows : rows of a chunk; the last chunk may have fewer.
    """

    def __init__(self, chunk_rows: int) -> None:
        self._chunk_rows = chunk_rows
        self._n_rows = 0
        self._sums: list[int] = []
        self._chunk = xxhash.xxh3_64()

    def update(self, rows: Array) -> None:
        """Take the next rows, (n_rows, …), C-contiguous."""
        start = 0
        while start < len(rows):
            lacking = self._chunk_rows - self._n_rows
            piece = rows[start : start + lacking]
            self._chunk.update(piece.data)
            self._n_rows += len(piece)
            start += lacking
            if self._n_rows == self._chunk_rows:
                self._end_chunk()

    def finish(self) -> NDArray[np.uint64]:
        """Return the checksums, (n_chunks,)."""
        if self._n_rows:
            self._end_chunk()
        return np.array(self._sums, np.uint64)

    def _end_chunk(self) -> None:
        self._sums.append(self._chunk.intdigest())
        self._chunk.reset()
        self._n_rows = 0
