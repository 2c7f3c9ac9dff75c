"""Writing embeddings: shards, each whole or not there, and the virtual file that shows all of them as one."""

from __future__ import annotations

import hashlib
import json
import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from extract.embeddings import (
    OK,
    REJECTED,
    SCHEMA,
    SCHEMA_VERSION,
    EmbeddingsError,
    as_bytes,
    dataset_names,
    encode_ids,
    open_embeddings,
    read_columns,
    seal,
)
from extract.publish import publish

_CHUNK_BYTES = 1 << 19
_METADATA_BYTES = 1 << 18


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

    def __init__(self, path: Path, ids: pd.Series[Any], shapes: Mapping[str, tuple[int, ...]], *, dtype: str,
                 attributes: Mapping[str, Any], facts: np.dtype[Any] | None = None) -> None:
        self._path = path
        self._partial = path.with_name(f"{path.name}.{socket.gethostname()}-{os.getpid()}.partial")
        self._file = h5py.File(self._partial, "w", libver="v110")
        self._rows, self._n = 0, len(ids)
        try:
            self._create(ids, shapes, dtype=dtype, facts=facts)
            _write_attributes(self._file, attributes)
            _reserve(self._file, self._partial)
        except BaseException:
            self.discard()
            raise

    def _create(self, ids: pd.Series[Any], shapes: Mapping[str, tuple[int, ...]], *, dtype: str,
                facts: np.dtype[Any] | None) -> None:
        encoded = encode_ids(ids)
        self._file.create_dataset("id", data=encoded)
        self._file.create_dataset("status", (self._n,), np.uint8)
        self._file.create_dataset("reason", (self._n,), h5py.string_dtype())
        if facts is not None:
            self._file.create_dataset("pictures", (self._n,), facts)
        for name, shape in shapes.items():
            rows = max(1, min(self._n, _CHUNK_BYTES // (int(np.prod(shape)) * np.dtype(dtype).itemsize)))
            self._file.create_dataset(f"cuts/{name}", (self._n, *shape), dtype, chunks=(rows, *shape), fillvalue=np.nan)
        self._data = {name: self._file[name] for name in dataset_names(self._file)}
        self._hashes = {name: hashlib.sha256() for name in self._data}
        self._hashes["id"].update(as_bytes(encoded))

    def append(self, rows: Mapping[str, NDArray[Any]], reasons: Sequence[str], facts: NDArray[np.void] | None = None) -> None:
        """Write the next rows of every cut; NaN where there is a reason to reject the tile.

        Parameters
        ----------
        rows : cut → (n_rows, …), any float type.
        reasons : (n_rows,), why the tile was rejected; empty where it was not.
        facts : (n_rows,), what each picture tells; needed where the shard has `pictures`.
        """
        is_ok = np.array([not reason for reason in reasons])
        self._put("status", np.where(is_ok, OK, REJECTED).astype(np.uint8))
        self._put("reason", np.array(reasons, dtype=object))
        if facts is not None:
            self._put("pictures", facts)
        for name, values in rows.items():
            block = saturate(values, self._data[f"cuts/{name}"].dtype)
            if not is_ok.all():
                block = np.where(is_ok.reshape(-1, *[1] * (block.ndim - 1)), block, np.nan).astype(block.dtype)
            self._put(f"cuts/{name}", block)
        self._rows += len(is_ok)

    def _put(self, name: str, block: NDArray[Any]) -> None:
        self._data[name][self._rows:self._rows + len(block)] = block
        self._hashes[name].update(as_bytes(block))

    @property
    def is_full(self) -> bool:
        """Tell whether every row is written."""
        return self._rows == self._n

    def close(self) -> None:
        """Write the checksums, sync to disk, and give the shard its final name."""
        if not self.is_full:
            raise EmbeddingsError(f"{self._path.name}: {self._rows} of {self._n} rows written; not complete")
        for name, digest in self._hashes.items():
            self._data[name].attrs["sha256"] = digest.hexdigest()
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


def _reserve(file: h5py.File, path: Path) -> None:
    """Take the whole room of a shard now: HDF5 can crash the process when a disk fills up under it."""
    file.flush()
    n_bytes = sum(file[name].size * file[name].dtype.itemsize for name in dataset_names(file))
    with path.open("r+b") as handle:
        os.posix_fallocate(handle.fileno(), 0, n_bytes + _METADATA_BYTES)


def saturate(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Convert to the stored type; what exceeds its range becomes its largest value, never infinity."""
    if values.dtype == dtype and not np.isinf(values).any():
        return values
    largest = float(np.finfo(dtype).max)
    return np.clip(values, -largest, largest).astype(dtype)


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
                layout[start:stop] = h5py.VirtualSource(source, f"cuts/{name}", (stop - start, *shape), dtype)
            file.create_virtual_dataset(f"cuts/{name}", layout, fillvalue=np.nan)
        file.attrs["sha256"] = seal(file)
    publish(partial, path)


def _write_column(file: h5py.File, name: str, parts: list[NDArray[Any]]) -> None:
    values = np.concatenate(parts)
    if values.dtype.kind == "S":  # texts of several widths lose that they are UTF-8
        values = values.astype(h5py.string_dtype("utf-8", values.dtype.itemsize))
    file.create_dataset(name, data=values).attrs["sha256"] = hashlib.sha256(as_bytes(values)).hexdigest()


def _write_attributes(file: h5py.File, attributes: Mapping[str, Any]) -> None:
    file.attrs.update({"schema": SCHEMA, "schema_version": SCHEMA_VERSION, **attributes})
