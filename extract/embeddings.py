"""The embeddings on disk: shards, the virtual file over them, their writer and their reader.

Schema `roofline.embeddings`, version 1. To raise it: add one to `SCHEMA_VERSION`, teach `_open` the old version,
keep a golden file of it under `tests/golden`, and write a line in CHANGELOG.md.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

SCHEMA = "roofline.embeddings"
SCHEMA_VERSION = 1
OK, REJECTED = 1, 2
_CHUNK_BYTES = 1 << 19
_METADATA_BYTES = 1 << 18


class EmbeddingsError(ValueError):
    """An embeddings file is missing, damaged, or of another schema; the text says which and what to do."""


class ShardWriter:
    """Write one shard: rows in order, then `close` makes it complete under its final name.

    Nothing with the final name exists before every byte is on disk, so that a kill at any moment leaves either a
    whole shard or a `.partial` file that the next run overwrites.

    Parameters
    ----------
    path : final name, `part-00000.h5`.
    ids : (n,), int64 or text.
    shapes : dataset name of each cut (`<layer>:<pooling>`) and the shape of one row.
    dtype : float16 or float32.
    attributes : root attributes; values that HDF5 can hold.
    """

    def __init__(self, path: Path, ids: pd.Series[Any], shapes: Mapping[str, tuple[int, ...]], *,
                 dtype: str, attributes: Mapping[str, Any]) -> None:
        self._path, self._partial = path, path.with_name(path.name + ".partial")
        n = len(ids)
        _check_room(self._partial, n * sum(int(np.prod(shape)) for shape in shapes.values()) * np.dtype(dtype).itemsize)
        self._file = h5py.File(self._partial, "w")
        self._rows = 0
        _write_attributes(self._file, attributes)
        self._file.create_dataset("id", data=encode_ids(ids))
        self._status = self._file.create_dataset("status", (n,), np.uint8)
        self._reason = self._file.create_dataset("reason", (n,), h5py.string_dtype())
        self._cuts = {name: self._create_cut(name, (n, *shape), dtype) for name, shape in shapes.items()}
        self._hashes = {name: hashlib.sha256() for name in shapes}

    def _create_cut(self, name: str, shape: tuple[int, ...], dtype: str) -> h5py.Dataset:
        row_bytes = int(np.prod(shape[1:])) * np.dtype(dtype).itemsize
        rows = max(1, min(shape[0], _CHUNK_BYTES // row_bytes))
        return self._file.create_dataset(f"cuts/{name}", shape, dtype, chunks=(rows, *shape[1:]), fillvalue=np.nan)

    def append(self, rows: Mapping[str, NDArray[Any]], reasons: Sequence[str]) -> None:
        """Write the next rows of every cut; NaN where there is a reason to reject the tile.

        Parameters
        ----------
        rows : cut → (n_rows, …), any float type.
        reasons : (n_rows,), why the tile was rejected; empty where it was not.
        """
        is_ok = np.array([not reason for reason in reasons])
        start, stop = self._rows, self._rows + len(is_ok)
        for name, values in rows.items():
            dataset = self._cuts[name]
            block = saturate(values, dataset.dtype)
            block[~is_ok] = np.nan
            dataset[start:stop] = block
            self._hashes[name].update(np.ascontiguousarray(block).tobytes())
        self._status[start:stop] = np.where(is_ok, OK, REJECTED)
        self._reason[start:stop] = list(reasons)
        self._rows = stop

    def close(self) -> None:
        """Write the checksums, sync to disk, and give the shard its final name."""
        if self._rows != len(self._status):
            raise EmbeddingsError(f"{self._path.name}: {self._rows} of {len(self._status)} rows written; not complete")
        for name, digest in self._hashes.items():
            self._cuts[name].attrs["sha256"] = digest.hexdigest()
        self._file.close()
        publish(self._partial, self._path)

    def discard(self) -> None:
        """Drop what was written; called when the shard cannot be finished."""
        try:
            self._file.close()
        finally:
            self._partial.unlink(missing_ok=True)


def _check_room(path: Path, n_bytes: int) -> None:
    """Reserve and release the space of a file: HDF5 can crash the process when a disk fills up under it."""
    with path.open("wb") as handle:
        try:
            os.posix_fallocate(handle.fileno(), 0, n_bytes + _METADATA_BYTES)
        except OSError:
            path.unlink()
            raise


def saturate(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Convert to the stored type; what exceeds its range becomes its largest value, never infinity."""
    largest = float(np.finfo(dtype).max)
    return np.clip(values, -largest, largest).astype(dtype)


def publish(partial: Path, path: Path) -> None:
    """Sync a finished file, give it its final name, and sync the folder: after that a power cut cannot undo it."""
    with partial.open("rb") as handle:
        os.fsync(handle.fileno())
    partial.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_virtual(path: Path, shards: Sequence[Path]) -> None:
    """Write the file that shows all shards as one: ids and statuses copied, cuts virtual, attributes of the first."""
    partial = path.with_name(path.name + ".partial")
    with _open(shards[0]) as first:
        attributes = dict(first.attrs)
        cuts = {name: (data.shape[1:], data.dtype) for name, data in first["cuts"].items()}
    with h5py.File(partial, "w", libver="latest") as file:
        _write_attributes(file, {**attributes, "shards": json.dumps([s.name for s in shards])})
        ids, statuses = _read_rows(shards)
        file.create_dataset("id", data=ids)
        file.create_dataset("status", data=statuses)
        starts = np.cumsum([0, *(_n_rows(shard) for shard in shards)])
        for name, (shape, dtype) in cuts.items():
            layout = h5py.VirtualLayout((len(ids), *shape), dtype)
            for start, stop, shard in zip(starts[:-1], starts[1:], shards, strict=True):
                source = f"{shard.parent.name}/{shard.name}"
                layout[start:stop] = h5py.VirtualSource(source, f"cuts/{name}", (stop - start, *shape), dtype)
            file.create_virtual_dataset(f"cuts/{name}", layout, fillvalue=np.nan)
    publish(partial, path)


def _n_rows(shard: Path) -> int:
    with h5py.File(shard, "r") as file:
        return len(file["status"])


def _read_rows(shards: Sequence[Path]) -> tuple[NDArray[Any], NDArray[np.uint8]]:
    ids, statuses = [], []
    for shard in shards:
        with h5py.File(shard, "r") as file:
            ids.append(file["id"][:])
            statuses.append(file["status"][:])
    return np.concatenate(ids), np.concatenate(statuses)


def read_rejects(shards: Sequence[Path]) -> dict[int, str]:
    """Give the rejected rows of a list of shards, counted over all of them, and the reason of each."""
    rejects: dict[int, str] = {}
    start = 0
    for shard in shards:
        with h5py.File(shard, "r") as file:
            statuses = file["status"][:]
            reasons = file["reason"].asstr()[:]
        rejects |= {start + int(row): str(reasons[row]) for row in np.flatnonzero(statuses == REJECTED)}
        start += len(statuses)
    return rejects


class Embeddings:
    """Read one backbone's embeddings, `features/<backbone>.h5`.

    Attributes
    ----------
    path, backbone : the file and the backbone that its name says.
    ids : (n,), int64 or text, in the order of the tile table.
    is_ok : (n,), false where the tile was rejected and its rows are NaN.
    cuts : dataset name of each cut, `<layer>:<pooling>`.
    attributes : root attributes of the file.

    Raises
    ------
    EmbeddingsError : not there, not such a file, a newer schema, or a shard missing.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.backbone = path, path.stem
        self._file = _open(path)
        self.attributes = dict(self._file.attrs)
        self.ids = decode_ids(self._file["id"][:])
        self.is_ok: NDArray[np.bool_] = self._file["status"][:] == OK
        self.cuts = list(self._file["cuts"])
        self.pictures: NDArray[np.void] | None = self._file["pictures"][:] if "pictures" in self._file else None
        for name in json.loads(self.attributes.get("shards", "[]")):
            if not (path.parent / path.stem / name).is_file():
                self._file.close()
                raise EmbeddingsError(f"{path}: its shard {path.stem}/{name} is missing. Run `make features` again.")

    def shape(self, cut: str) -> tuple[int, ...]:
        """Shape of one row of a cut."""
        return tuple(self._file[f"cuts/{cut}"].shape[1:])

    def read(self, cut: str, rows: slice = slice(None)) -> NDArray[np.float16 | np.float32]:
        """Read rows of a cut, as stored: (n_rows, …), NaN rows for rejected tiles."""
        values: NDArray[np.float16 | np.float32] = self._file[f"cuts/{cut}"][rows]
        return values

    def checksum(self, cut: str) -> str:
        """Hash of a cut's data, from the checksums that its shards carry: nothing but those is read."""
        digest = hashlib.sha256()
        for name in json.loads(self.attributes["shards"]):
            with h5py.File(self.path.parent / self.path.stem / name, "r") as shard:
                digest.update(str(shard[f"cuts/{cut}"].attrs["sha256"]).encode())
        return digest.hexdigest()

    def __enter__(self) -> Embeddings:
        """Give the reader itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """Close the file."""
        self._file.close()


def read_attributes(shard: Path) -> dict[str, Any]:
    """Root attributes of a shard or of a virtual file."""
    with _opened(shard) as file:
        return dict(file.attrs)


def encode_ids(ids: pd.Series[Any]) -> NDArray[Any]:
    """Give ids as HDF5 stores them: int64, or UTF-8 text of fixed width."""
    if ids.dtype == np.int64:
        return ids.to_numpy()
    encoded = np.array([text.encode() for text in ids])
    return encoded.astype(h5py.string_dtype("utf-8", encoded.dtype.itemsize))


def decode_ids(stored: NDArray[Any]) -> NDArray[Any]:
    """Give ids as the table has them: int64 or text."""
    return stored if stored.dtype == np.int64 else np.array([text.decode() for text in stored], dtype=object)


def _write_attributes(file: h5py.File, attributes: Mapping[str, Any]) -> None:
    file.attrs.update({"schema": SCHEMA, "schema_version": SCHEMA_VERSION, **attributes})


def _open(path: Path) -> h5py.File:
    if not path.is_file():
        raise EmbeddingsError(f"{path}: no such file. Run `make features` first.")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise EmbeddingsError(f"{path}: not a readable HDF5 file ({error}). Delete it and run `make features` again.") from None
    schema, version = file.attrs.get("schema"), int(file.attrs.get("schema_version", 0))
    if schema == SCHEMA and 1 <= version <= SCHEMA_VERSION:
        return file
    file.close()
    if schema == SCHEMA and version > SCHEMA_VERSION:
        raise EmbeddingsError(f"{path}: written by a newer Roofline (schema version {version}; this one reads up to "
                              f"{SCHEMA_VERSION}). Update Roofline.")
    raise EmbeddingsError(f"{path}: expected schema {SCHEMA!r}, got {schema!r}. This file was not written by `make features`.")


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    with _open(path) as file:
        yield file
