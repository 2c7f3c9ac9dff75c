"""Write embeddings: shards that are whole or not there, and the virtual file over all of them."""

from __future__ import annotations

import hashlib
import json
import math
import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from extract.config.arrays import Array, Bools
from extract.config.stored_type import saturate
from extract.errors import EmbeddingsError
from extract.files.atomic import name_place, publish, write_atomically
from extract.store.checksums import CHUNK_SUMS, ChunkSums, dataset_names, hash_embeddings, hash_rows
from extract.store.columns import encode_ids, read_columns
from extract.store.schema import (
    OK,
    REJECTED,
    SCHEMA,
    SCHEMA_VERSION,
    ShardAttributes,
    open_embeddings,
)

_CHUNK_BYTES = 1 << 19
_METADATA_BYTES = 1 << 18
_INDEX_BYTES = 32  # of the address of a chunk, and its checksum
_TEXT_BYTES = 40  # of a text beside its letters: an address in its dataset, and a heap header
_BLOCK = bytes(1 << 20)
_LIBVER = "v110"  # HDF5 2.0 writes types as "latest" that HDF5 1.14 cannot read


class ShardWriter:
    """Write one shard: `append` rows in order, then `close` gives it its final name.

    Nothing with the final name exists before every byte is on disk, so that a kill at any moment
    leaves a whole shard or a `.partial` file, which the next run removes. The partial file's name
    is this process's own: two workers that make the same shard do not write into one file.

    Parameters
    ----------
    path : final name, `part-00000.h5`.
    ids : (n_tiles,), int64 or text.
    shapes : shape of one row of each cut, by its dataset name `<layer>:<pooling>`.
    dtype : float16 or float32, of all cuts or of each.
    attributes : root attributes.
    facts : type of the rows of `pictures`, or None where there are neither these nor stamps.

    Raises
    ------
    OSError : the disk lacks the space; all of it is reserved before anything is written.
    """

    def __init__(
        self,
        path: Path,
        ids: pd.Series[Any],
        shapes: Mapping[str, tuple[int, ...]],
        *,
        dtype: str | Mapping[str, str],
        attributes: ShardAttributes | Mapping[str, Any],
        facts: np.dtype[Any] | None = None,
    ) -> None:
        self._path = path
        self._partial = path.with_name(f"{path.name}.{socket.gethostname()}-{os.getpid()}.partial")
        self._file = h5py.File(self._partial, "w", libver=_LIBVER)
        of_each = dict.fromkeys(shapes, dtype) if isinstance(dtype, str) else dtype
        self._dtypes = {name: np.dtype(of_each[name]) for name in shapes}
        self._n_tiles = len(ids)
        self._n_rows = 0
        self._columns = {
            "id": encode_ids(ids),
            "status": np.zeros(len(ids), np.uint8),
            "reason": np.full(len(ids), "", object),
        }
        if facts is not None:
            self._columns["pictures"] = np.zeros(len(ids), facts)
            self._columns["stamp"] = np.zeros(len(ids), np.uint64)
        self._digests = {name: hashlib.sha256() for name in shapes}
        self._chunk_sums: dict[str, ChunkSums] = {}
        try:
            self._create_datasets(shapes)
            _write_attributes(self._file, attributes)
            self._reserve()
        except BaseException:
            self.discard()
            raise

    def _create_datasets(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        for name, values in self._columns.items():
            kind = h5py.string_dtype() if values.dtype == object else values.dtype
            self._file.create_dataset(name, values.shape, kind)
        for name, shape in shapes.items():
            dtype = self._dtypes[name]
            fitting = _CHUNK_BYTES // (math.prod(shape) * dtype.itemsize)
            chunk_rows = max(1, min(self._n_tiles, fitting))
            self._chunk_sums[name] = ChunkSums(chunk_rows)
            self._file.create_dataset(
                f"cuts/{name}",
                (self._n_tiles, *shape),
                dtype,
                chunks=(chunk_rows, *shape),
                fillvalue=np.nan,
            )

    def append(
        self,
        rows: Mapping[str, Array],
        reasons: Sequence[str],
        facts: NDArray[np.void] | None = None,
        stamps: NDArray[np.uint64] | None = None,
    ) -> None:
        """Write the next rows of every cut; NaN where the tile is rejected.

        Parameters
        ----------
        rows : cut → (n_rows, …), any float type.
        reasons : (n_rows,), why the tile is rejected; empty where it is not.
        facts : (n_rows,), statistics of each picture; needed where the shard has `pictures`.
        stamps : (n_rows,), by which a picture that was replaced is noticed; 0 where unknown.

        Raises
        ------
        ValueError : rows of other cuts, of another number or of another shape.
        """
        if rows.keys() != self._digests.keys():
            raise ValueError(
                f"expected rows of {', '.join(self._digests)}, got those of "
                f"{', '.join(rows) or 'none'}"
            )
        is_bad = np.array([bool(reason) for reason in reasons])
        now = slice(self._n_rows, self._n_rows + len(is_bad))
        self._columns["status"][now] = np.where(is_bad, REJECTED, OK)
        self._columns["reason"][now] = reasons
        if facts is not None:
            self._columns["pictures"][now] = facts
        if stamps is not None:
            self._columns["stamp"][now] = stamps
        for name, values in rows.items():
            self._append_cut(name, values, is_bad, now)
        self._n_rows = now.stop

    def _append_cut(self, name: str, values: Array, is_bad: Bools, now: slice) -> None:
        data = self._file[f"cuts/{name}"]
        expected = (len(is_bad), *data.shape[1:])
        if values.shape != expected:
            raise ValueError(f"{data.name}: expected rows {expected}, got {values.shape}")
        stored = saturate(values, self._dtypes[name])
        if is_bad.any():
            stored = stored.copy()
            stored[is_bad] = np.nan
        stored = np.ascontiguousarray(stored)
        data[now] = stored
        self._digests[name].update(stored.reshape(-1).data)
        self._chunk_sums[name].update(stored)

    @property
    def is_full(self) -> bool:
        """Whether every row is written."""
        return self._n_rows == self._n_tiles

    def close(self) -> None:
        """Write the checksums, sync to disk, and give the shard its final name."""
        if not self.is_full:
            raise EmbeddingsError(
                f"{self._path.name}: {self._n_rows} of {self._n_tiles} rows written; not complete"
            )
        lengths = [len(text.encode()) for text in self._columns["reason"] if text]
        if lengths:
            self._reserve(text_bytes=sum(lengths) + _TEXT_BYTES * len(lengths))
        for name, values in self._columns.items():
            self._file[name][:] = values
            self._file[name].attrs["sha256"] = hash_rows(values)
        for name, digest in self._digests.items():
            attributes = self._file[f"cuts/{name}"].attrs
            attributes["sha256"] = digest.hexdigest()
            attributes[CHUNK_SUMS] = self._chunk_sums[name].finish()
        self._file.attrs["sha256"] = hash_embeddings(self._file)
        self._file.flush()
        n_bytes = self._file.id.get_filesize()
        self._file.close()
        os.truncate(self._partial, n_bytes)  # what was reserved and not needed
        publish(self._partial, self._path)

    def discard(self) -> None:
        """Remove what is not finished; nothing is left to remove after `close`."""
        try:
            self._file.close()
        finally:
            self._partial.unlink(missing_ok=True)

    def _reserve(self, *, text_bytes: int = 0) -> None:
        """Take the disk space of the whole shard: HDF5 can crash where a disk fills up under it.

        Parameters
        ----------
        text_bytes : what the reasons take [bytes]; their addresses are counted without.
        """
        self._file.flush()
        n_bytes = sum(_count_bytes(self._file[name]) for name in dataset_names(self._file))
        reserve_space(self._partial, n_bytes + text_bytes + _METADATA_BYTES)


def reserve_space(path: Path, n_bytes: int) -> None:
    """Make a file at least so long, on disk: by one call on Linux, elsewhere by writing zeros."""
    with name_place(path), path.open("r+b") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, n_bytes)
            return
        for start in range(file.seek(0, os.SEEK_END), n_bytes, len(_BLOCK)):
            file.write(_BLOCK[: n_bytes - start])


def _count_bytes(data: h5py.Dataset) -> int:
    """Return what a dataset takes on disk [bytes]; its last chunk is whole."""
    itemsize = _TEXT_BYTES if data.dtype == object else data.dtype.itemsize
    if not data.chunks:
        return int(data.size) * itemsize
    n_chunks = math.ceil(data.shape[0] / data.chunks[0])
    return n_chunks * (math.prod(data.chunks) * itemsize + _INDEX_BYTES)


def write_virtual(path: Path, shards: Sequence[Path], **attributes_of_all: str) -> None:
    """Write the file over all shards: virtual cuts, copies of the rest, the first's attributes.

    Parameters
    ----------
    attributes_of_all : in place of the first shard's.
    """
    with open_embeddings(shards[0]) as first:
        own = ("schema", "schema_version", "sha256")
        attributes = {name: value for name, value in first.attrs.items() if name not in own}
        cuts = {name: (data.shape[1:], data.dtype) for name, data in first["cuts"].items()}
    attributes |= attributes_of_all
    attributes["shards"] = json.dumps([shard.name for shard in shards])
    columns = read_columns(shards)
    stops = np.cumsum([len(part) for part in columns["id"]]).tolist()
    starts = [0, *stops[:-1]]
    with write_atomically(path) as partial, h5py.File(partial, "w", libver=_LIBVER) as file:
        _write_attributes(file, attributes)
        for name, parts in columns.items():
            _write_column(file, name, np.concatenate(parts))
        for name, (shape, dtype) in cuts.items():
            layout = h5py.VirtualLayout((stops[-1], *shape), dtype)
            for start, stop, shard in zip(starts, stops, shards, strict=True):
                source = f"{shard.parent.name}/{shard.name}"
                layout[start:stop] = h5py.VirtualSource(
                    source, f"cuts/{name}", (stop - start, *shape), dtype
                )
            file.create_virtual_dataset(f"cuts/{name}", layout, fillvalue=np.nan)
        file.attrs["sha256"] = hash_embeddings(file)


def _write_column(file: h5py.File, name: str, values: Array) -> None:
    if values.dtype.kind == "S":  # texts of several widths lose that they are UTF-8
        values = values.astype(h5py.string_dtype("utf-8", values.dtype.itemsize))
    file.create_dataset(name, data=values).attrs["sha256"] = hash_rows(values)


def _write_attributes(file: h5py.File, attributes: Mapping[str, Any]) -> None:
    file.attrs.update({"schema": SCHEMA, "schema_version": SCHEMA_VERSION, **attributes})
