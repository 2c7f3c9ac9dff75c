"""The embeddings on disk: their schema and their reader; `extract/shards.py` writes them.

Schema `roofline.embeddings`. To raise it: add one to `SCHEMA_VERSION`, teach `open_embeddings` the old version, keep a golden
file of it under `tests/golden`, and write a line in CHANGELOG.md.

Version 2 added `pictures` (what each picture tells without a network) and a checksum of everything, not of the cuts
alone. Shards of version 1 stay valid: a run goes on beside them, and `pictures` is there once every shard has it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from extract.errors import EmbeddingsError

SCHEMA = "roofline.embeddings"
SCHEMA_VERSION = 2
OK = 1
REJECTED = 2


def dataset_names(file: h5py.File) -> list[str]:
    """Name every dataset of an embeddings file, as `id` or `cuts/<layer>:<pooling>`."""
    return [name for name in file if name != "cuts"] + [f"cuts/{name}" for name in file["cuts"]]


def as_bytes(block: NDArray[Any]) -> bytes:
    """Return the bytes of some rows that their dataset's checksum is taken over."""
    if block.dtype == object:
        return "".join(f"{text}\0" for text in block).encode()
    return np.ascontiguousarray(block).tobytes()


def seal(file: h5py.File) -> str:
    """Return the SHA-256 of a file's attributes and of its datasets' checksums: the checksum of the whole."""
    attributes = {name: str(value) for name, value in file.attrs.items() if name != "sha256"}
    digests = {
        name: file[name].attrs["sha256"]
        for name in dataset_names(file)
        if "sha256" in file[name].attrs
    }
    return hashlib.sha256(json.dumps([attributes, digests], sort_keys=True).encode()).hexdigest()


def read_columns(shards: Sequence[Path]) -> dict[str, list[NDArray[Any]]]:
    """Read what the virtual file copies, shard by shard: `id`, `status`, and `pictures` where every shard has it."""
    columns: dict[str, list[NDArray[Any]]] = {"id": [], "status": [], "pictures": []}
    for shard in shards:
        with open_embeddings(shard) as file:
            for name, parts in columns.items():
                if name in file:
                    parts.append(file[name][:])
    return {name: parts for name, parts in columns.items() if len(parts) == len(shards)}


def read_rejects(shards: Sequence[Path]) -> dict[int, str]:
    """Return the rejected rows of a list of shards, counted over all of them, and the reason of each."""
    rejects: dict[int, str] = {}
    start = 0
    for shard in shards:
        with open_embeddings(shard) as file:
            statuses = file["status"][:]
            rows = np.flatnonzero(statuses == REJECTED)
            if len(rows):
                reasons = file["reason"].asstr()[:]
                rejects |= {start + int(row): str(reasons[row]) for row in rows}
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
        self.path = path
        self.backbone = path.stem
        self._file = open_embeddings(path)
        _check_layout(self._file, path)
        self.attributes = dict(self._file.attrs)
        # older files may hold maps of mirrored tiles too, as `<layer>:map@<view>`
        self.cuts = [name for name in self._file["cuts"] if "@" not in name.rpartition(":")[2]]
        for name in json.loads(self.attributes.get("shards", "[]")):
            if not (path.parent / path.stem / Path(name).name).is_file():
                self._file.close()
                raise EmbeddingsError(
                    f"{path}: its shard {path.stem}/{name} is missing. Run `make features` again."
                )

    @cached_property
    def ids(self) -> NDArray[Any]:
        """Every id; `read_ids` gives some."""
        return self.read_ids(slice(None))

    @cached_property
    def is_ok(self) -> NDArray[np.bool_]:
        """Tell of every tile whether it was accepted."""
        accepted: NDArray[np.bool_] = self._file["status"][:] == OK
        return accepted

    def __len__(self) -> int:
        """Count the tiles."""
        return len(self._file["status"])

    def read_ids(self, rows: slice) -> NDArray[Any]:
        """Read some ids, in the order of the tile table: int64 or text."""
        return decode_ids(self._file["id"][rows])

    @property
    def pictures(self) -> NDArray[np.void] | None:
        """What each picture tells without a network, (n,) of `extract.pictures.decode.PICTURE`; None where the file has none.

        Zeros for rejected tiles. Files of schema version 1 and imported ones have none.
        """
        return self.read_pictures(slice(None))

    def read_pictures(self, rows: slice) -> NDArray[np.void] | None:
        """Read some rows of `pictures`."""
        return self._file["pictures"][rows] if "pictures" in self._file else None

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
        """Return the reader itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        """Close the file."""
        self._file.close()


def read_attributes(path: Path, *names: str) -> dict[str, Any]:
    """Root attributes of a shard or of a virtual file: all, or those of these names that it has."""
    with open_embeddings(path) as file:
        return {name: file.attrs[name] for name in names or file.attrs if name in file.attrs}


def encode_ids(ids: pd.Series[Any]) -> NDArray[Any]:
    """Return ids as HDF5 stores them: int64, or UTF-8 text of fixed width."""
    if ids.dtype == np.int64:
        return ids.to_numpy()
    encoded = np.array([text.encode() for text in ids])
    return encoded.astype(h5py.string_dtype("utf-8", encoded.dtype.itemsize))


def decode_ids(stored: NDArray[Any]) -> NDArray[Any]:
    """Return ids as the table has them: int64 or text."""
    return (
        stored
        if stored.dtype == np.int64
        else np.array([text.decode() for text in stored], dtype=object)
    )


def _check_layout(file: h5py.File, path: Path) -> None:
    """Check that a file has what the reader reads, in itself or in its own shards, and that its rows agree.

    Raises
    ------
    EmbeddingsError : it has not; a file from elsewhere can name any other file of this machine as its data.
    """
    try:
        _check_own(
            file, {f"{path.stem}/{name}" for name in json.loads(file.attrs.get("shards", "[]"))}
        )
    except (ValueError, KeyError, TypeError, AttributeError, OSError, RuntimeError) as error:
        file.close()
        raise EmbeddingsError(
            f"{path}: not as `make features` writes it ({error}). Do not trust it; make it anew, with "
            "FRESH=1."
        ) from None


def _check_own(file: h5py.File, shards: set[str]) -> None:
    if any(name.count("/") != 1 or name.endswith("..") for name in shards):
        raise ValueError("shards outside their folder")
    if any(
        not isinstance(file.get(name, getlink=True), h5py.HardLink)
        for name in ("id", "status", "cuts")
    ):
        raise ValueError("id, status or cuts is missing, or a link")
    n_rows = len(file["status"])
    cuts = file["cuts"]
    for name in dataset_names(file):
        link = file.get(name, getlink=True)
        if not isinstance(link, h5py.HardLink) or file[name].external:
            raise ValueError(f"{name} lies in another file")
        data = file[name]
        if data.is_virtual and {source.file_name for source in data.virtual_sources()} - shards:
            raise ValueError(f"{name} lies in files that are no shards")
        if len(data) != n_rows:
            raise ValueError(f"{name} has {len(data)} rows, status {n_rows}")
    if any(cuts[name].dtype.kind != "f" for name in cuts):
        raise ValueError("cuts that are no floats")


def open_embeddings(path: Path) -> h5py.File:
    """Open a shard or a virtual file to read.

    Raises
    ------
    EmbeddingsError : not there, not HDF5, another or a newer schema.
    """
    if not path.is_file():
        raise EmbeddingsError(f"{path}: no such file. Run `make features` first.")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise EmbeddingsError(
            f"{path}: not a readable HDF5 file ({error}). `python -m extract verify --set-aside` puts "
            "damaged files aside; then run `make features` again."
        ) from None
    schema = file.attrs.get("schema")
    stated = str(file.attrs.get("schema_version", 0))
    version = int(stated) if stated.isdecimal() else 0
    if schema == SCHEMA and 1 <= version <= SCHEMA_VERSION:
        return file
    file.close()
    if schema == SCHEMA and version > SCHEMA_VERSION:
        raise EmbeddingsError(
            f"{path}: written by a newer Roofline (schema version {version}; this one reads up to "
            f"{SCHEMA_VERSION}). Update Roofline."
        )
    raise EmbeddingsError(
        f"{path}: expected schema {SCHEMA!r}, got {schema!r}. This file was not written by `make features`."
    )
