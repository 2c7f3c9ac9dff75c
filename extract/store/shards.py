"""Writing embeddings: shards, each whole or not there, and the virtual file that shows all of them as one."""

from __future__ import annotations

import hashlib
import json
import math
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from extract.errors import EmbeddingsError
from extract.files.atomic import publish
from extract.store.embeddings import (
    OK,
    REJECTED,
    SCHEMA,
    SCHEMA_VERSION,
    as_bytes,
    dataset_names,
    encode_ids,
    open_embeddings,
    read_columns,
    seal,
)

_CHUNK_BYTES = 1 << 19
_METADATA_BYTES = 1 << 18
_INDEX_BYTES = 16  # where a chunk lies
_TEXT_BYTES = 40  # of a text of any length beside its letters: a place in its dataset, and a head in HDF5's heap


class ShardWriter:
    """Write one shard: rows in order, then `close` makes it complete under its final name.

    Nothing with the final name exists before every byte is on disk, so that a kill at any moment leaves either a
    whole shard or a `.partial` file, which the next run removes. The partial's name is this process's own: two workers
    that make the same shard do not write into one file.

    Parameters
    ----------
    path : final name, `part-00000.h5`.
    ids : (n,), int64 or text.
    shapes : dataset name of each cut (`<layer>:<pooling>`) and the shape of one row.
    dtype : float16 or float32.
    attributes : root attributes; values that HDF5 can hold.
    facts : type of the rows of `pictures`, or None where there are none.

    Raises
    ------
    OSError : the disk lacks the room; all of it is reserved before anything is written.
    """

    def __init__(
        self,
        path: Path,
        ids: pd.Series[Any],
        shapes: Mapping[str, tuple[int, ...]],
        *,
        dtype: str,
        attributes: Mapping[str, Any],
        facts: np.dtype[Any] | None = None,
    ) -> None:
        self._path = path
        self._partial = path.with_name(f"{path.name}.{socket.gethostname()}-{os.getpid()}.partial")
        self._file = h5py.File(self._partial, "w", libver="v110")
        self._n_rows = 0
        self._columns = {
            "id": encode_ids(ids),
            "status": np.zeros(len(ids), np.uint8),
            "reason": np.full(len(ids), "", object),
        }
        if facts is not None:
            self._columns["pictures"] = np.zeros(len(ids), facts)
        try:
            self._create(shapes, dtype=dtype)
            _write_attributes(self._file, attributes)
            _reserve(self._file, self._partial)
        except BaseException:
            self.discard()
            raise

    def _create(self, shapes: Mapping[str, tuple[int, ...]], *, dtype: str) -> None:
        for name, values in self._columns.items():
            self._file.create_dataset(
                name, values.shape, h5py.string_dtype() if values.dtype == object else values.dtype
            )
        self._cuts = {
            name: _CutWriter(self._file, name, (self._n, *shape), dtype)
            for name, shape in shapes.items()
        }

    @property
    def _n(self) -> int:
        return len(self._columns["id"])

    def append(
        self,
        rows: Mapping[str, NDArray[Any]],
        reasons: Sequence[str],
        facts: NDArray[np.void] | None = None,
    ) -> None:
        """Write the next rows of every cut; NaN where there is a reason to reject the tile.

        Parameters
        ----------
        rows : cut → (n_rows, …), any float type.
        reasons : (n_rows,), why the tile was rejected; empty where it was not.
        facts : (n_rows,), what each picture tells; needed where the shard has `pictures`.

        Raises
        ------
        ValueError : rows of other cuts, of another number or of another shape.
        """
        if rows.keys() != self._cuts.keys():
            raise ValueError(
                f"expected rows of {', '.join(self._cuts)}, got those of {', '.join(rows) or 'none'}"
            )
        is_bad = np.array([bool(reason) for reason in reasons])
        now = slice(self._n_rows, self._n_rows + len(is_bad))
        self._columns["status"][now] = np.where(is_bad, REJECTED, OK)
        self._columns["reason"][now] = reasons
        if facts is not None:
            self._columns["pictures"][now] = facts
        for name, values in rows.items():
            self._cuts[name].append(values, is_bad)
        self._n_rows = now.stop

    @property
    def is_full(self) -> bool:
        """Return whether every row is written."""
        return self._n_rows == self._n

    def close(self) -> None:
        """Write the checksums, sync to disk, and give the shard its final name."""
        if not self.is_full:
            raise EmbeddingsError(
                f"{self._path.name}: {self._n_rows} of {self._n} rows written; not complete"
            )
        texts = [len(text.encode()) for text in self._columns["reason"] if text]
        if texts:
            _reserve(self._file, self._partial, texts=sum(texts) + _TEXT_BYTES * len(texts))
        for name, values in self._columns.items():
            self._file[name][:] = values
            self._file[name].attrs["sha256"] = hashlib.sha256(as_bytes(values)).hexdigest()
        for cut in self._cuts.values():
            cut.finish()
        self._file.attrs["sha256"] = seal(self._file)
        self._file.flush()
        n_bytes = self._file.id.get_filesize()
        self._file.close()
        os.truncate(self._partial, n_bytes)  # what was reserved and not needed
        publish(self._partial, self._path)

    def discard(self) -> None:
        """Drop what was written; called when the shard cannot be finished."""
        try:
            self._file.close()
        finally:
            self._partial.unlink(missing_ok=True)


class _CutWriter:
    """Rows of one cut, gathered to whole chunks that HDF5 takes as they are: by itself it would fill and copy each first."""

    def __init__(self, file: h5py.File, name: str, shape: tuple[int, ...], dtype: str) -> None:
        n_rows = max(
            1, min(shape[0], _CHUNK_BYTES // (math.prod(shape[1:]) * np.dtype(dtype).itemsize))
        )
        self._data = file.create_dataset(
            f"cuts/{name}", shape, dtype, chunks=(n_rows, *shape[1:]), fillvalue=np.nan
        )
        self._chunk = np.empty(self._data.chunks, dtype)
        self._start = self._n_rows = 0  # of the chunk: its first row, and how many it has
        self._digest = hashlib.sha256()

    def append(self, values: NDArray[Any], is_bad: NDArray[np.bool_]) -> None:
        """Take the next rows; NaN where they are bad."""
        if values.shape != (expected := (len(is_bad), *self._chunk.shape[1:])):
            raise ValueError(f"{self._data.name}: expected rows {expected}, got {values.shape}")
        values = saturate(values, self._chunk.dtype)
        for start, stop in self._pieces(len(values)):
            rows = self._chunk[self._n_rows : self._n_rows + stop - start]
            rows[:] = values[start:stop]
            rows[is_bad[start:stop]] = np.nan
            self._n_rows += len(rows)
            if self._n_rows == len(self._chunk):
                self._flush()

    def _pieces(self, n_rows: int) -> Iterator[tuple[int, int]]:
        """Cut rows where a chunk is full."""
        start = 0
        while start < n_rows:
            stop = min(n_rows, start + len(self._chunk) - self._n_rows)
            yield start, stop
            start = stop

    def _flush(self) -> None:
        self._digest.update(self._chunk[: self._n_rows].reshape(-1).data)
        self._chunk[self._n_rows :] = np.nan
        self._data.id.write_direct_chunk((self._start, *[0] * (self._data.ndim - 1)), self._chunk)
        self._start = self._start + self._n_rows
        self._n_rows = 0

    def finish(self) -> None:
        """Write the last rows and the checksum."""
        if self._n_rows:
            self._flush()
        self._data.attrs["sha256"] = self._digest.hexdigest()


def _reserve(file: h5py.File, path: Path, *, texts: int = 0) -> None:
    """Take the whole room of a shard now: HDF5 can crash the process when a disk fills up under it.

    Parameters
    ----------
    texts : what the reasons take [bytes]; their places are counted without.
    """
    file.flush()
    n_bytes = sum(_count_bytes(file[name]) for name in dataset_names(file))
    with path.open("r+b") as handle:
        os.posix_fallocate(handle.fileno(), 0, n_bytes + texts + _METADATA_BYTES)


def _count_bytes(data: h5py.Dataset) -> int:
    """Count what a dataset takes on disk; the last chunk is whole."""
    n_chunks = 0 if data.chunks is None else math.ceil(data.shape[0] / data.chunks[0])
    n_rows = n_chunks * data.chunks[0] if data.chunks else data.shape[0]
    itemsize = _TEXT_BYTES if data.dtype == object else data.dtype.itemsize
    return int(n_rows * math.prod(data.shape[1:]) * itemsize) + n_chunks * _INDEX_BYTES


def saturate(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Convert to the stored type; what exceeds its range becomes its largest value, never infinity."""
    if values.dtype == dtype and not _has_infinity(values):
        return values
    largest = float(np.finfo(dtype).max)
    return np.clip(values, -largest, largest).astype(dtype)


def _has_infinity(values: NDArray[Any]) -> bool:
    if values.dtype != np.float16:
        return bool(np.isinf(values).any())
    return bool(
        ((values.view(np.uint16) & 0x7FFF) == 0x7C00).any()
    )  # NumPy takes float16 one by one, ten times as long


def write_virtual(path: Path, shards: Sequence[Path]) -> None:
    """Write the file that shows all shards as one: cuts virtual, the rest copied, attributes of the first shard."""
    partial = path.with_name(path.name + ".partial")
    with open_embeddings(shards[0]) as first:
        own = {"schema", "schema_version", "sha256"}
        attributes = {name: value for name, value in first.attrs.items() if name not in own}
        cuts = {name: (data.shape[1:], data.dtype) for name, data in first["cuts"].items()}
    with h5py.File(partial, "w", libver="latest") as file:
        _write_attributes(file, {**attributes, "shards": json.dumps([s.name for s in shards])})
        for name, parts in read_columns(shards).items():
            _write_column(file, name, parts)
            n_rows = [len(part) for part in parts]
        starts = np.cumsum([0, *n_rows])
        for name, (shape, dtype) in cuts.items():
            layout = h5py.VirtualLayout((sum(n_rows), *shape), dtype)
            for start, stop, shard in zip(starts[:-1], starts[1:], shards, strict=True):
                source = f"{shard.parent.name}/{shard.name}"
                layout[start:stop] = h5py.VirtualSource(
                    source, f"cuts/{name}", (stop - start, *shape), dtype
                )
            file.create_virtual_dataset(f"cuts/{name}", layout, fillvalue=np.nan)
        file.attrs["sha256"] = seal(file)
    publish(partial, path)


def _write_column(file: h5py.File, name: str, parts: list[NDArray[Any]]) -> None:
    values = np.concatenate(parts)
    if values.dtype.kind == "S":  # texts of several widths lose that they are UTF-8
        values = values.astype(h5py.string_dtype("utf-8", values.dtype.itemsize))
    file.create_dataset(name, data=values).attrs["sha256"] = hashlib.sha256(
        as_bytes(values)
    ).hexdigest()


def _write_attributes(file: h5py.File, attributes: Mapping[str, Any]) -> None:
    file.attrs.update({"schema": SCHEMA, "schema_version": SCHEMA_VERSION, **attributes})
