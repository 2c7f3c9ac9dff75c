"""Read embeddings files: their schema, and the checks of what a stranger may have written.

Schema `roofline.embeddings`. To raise it: add one to `SCHEMA_VERSION`, teach `open_embeddings` the
old version, keep a golden file of it under `tests/golden`, and write a line in CHANGELOG.md.

Version 2 added `pictures` (statistics of each picture, without a network) and a checksum of
everything, not of the cuts alone. Shards of version 1 stay valid: a run goes on beside them, and
`pictures` is there once every shard has it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, TypedDict, cast

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from extract.config.arrays import Bools
from extract.errors import EmbeddingsError

SCHEMA = "roofline.embeddings"
SCHEMA_VERSION = 2
OK = 1
REJECTED = 2
Array = NDArray[Any]
_UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, OSError, RuntimeError)


class ShardAttributes(TypedDict, total=False):
    """Root attributes of an embeddings file; `settings`, `recipe`, `shards`, `imported_from`: JSON.

    `shards` is that of a virtual file alone, `imported_from` that of an import. Version 1 lacks
    `runtime`.
    """

    schema: str
    schema_version: int
    sha256: str
    settings: str
    recipe: str
    weights: str
    weights_are_random: bool
    weights_sha256: str
    tiles_sha256: str
    precision: str
    precision_note: str
    runtime: str
    device: str
    created_with: str
    imported_from: str
    shards: str


class Embeddings:
    """Read one backbone's embeddings, `features/<backbone>.h5`.

    Attributes
    ----------
    path, backbone : the file, and the backbone by its name.
    ids : (n_tiles,), int64 or text, in the order of the tile table.
    is_ok : (n_tiles,), false where the tile was rejected and its rows are NaN.
    cuts : dataset name of each cut, `<layer>:<pooling>`.
    attributes : root attributes of the file.

    Raises
    ------
    EmbeddingsError : no such file, not an embeddings file, a newer schema, or a shard is missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.backbone = path.stem
        self._file = open_embeddings(path)
        self.attributes = get_attributes(self._file)
        self.cuts = list(self._file["cuts"])
        self._shards = [path.parent / name for name in name_shards(path, self.attributes)]
        for shard in self._shards:
            if not shard.is_file():
                self._file.close()
                raise EmbeddingsError(
                    f"{path}: its shard {path.stem}/{shard.name} is missing. "
                    "Run `make features` again."
                )

    @cached_property
    def ids(self) -> Array:
        """All ids; `read_ids` reads some."""
        return self.read_ids(slice(None))

    @cached_property
    def is_ok(self) -> Bools:
        """Whether each tile was accepted."""
        return np.asarray(self._file["status"][:] == OK)

    def __len__(self) -> int:
        """Return the number of tiles."""
        return len(self._file["status"])

    def read_ids(self, rows: slice) -> Array:
        """Read some ids, int64 or text, in the order of the tile table."""
        return decode_ids(self._file["id"][rows])

    @property
    def pictures(self) -> NDArray[np.void] | None:
        """Statistics of each picture, (n_tiles,) of `extract.pictures.decode.PICTURE`.

        Zeros for rejected tiles; None for imported files and those of schema version 1.
        """
        return self.read_pictures(slice(None))

    def read_pictures(self, rows: slice) -> NDArray[np.void] | None:
        """Read some rows of `pictures`."""
        return self._file["pictures"][rows] if "pictures" in self._file else None

    def shape(self, cut: str) -> tuple[int, ...]:
        """Return the shape of one row of a cut."""
        return tuple(self._file[f"cuts/{cut}"].shape[1:])

    def read(self, cut: str, rows: slice = slice(None)) -> NDArray[np.float16 | np.float32]:
        """Read rows of a cut, as stored: (n_rows, …), NaN rows for rejected tiles."""
        return np.asarray(self._file[f"cuts/{cut}"][rows])

    def checksum(self, cut: str) -> str:
        """Return the SHA-256 of a cut's checksums in all shards; the data are not read."""
        digest = hashlib.sha256()
        for path in self._shards:
            with h5py.File(path, "r") as shard:
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


def open_embeddings(path: Path) -> h5py.File:
    """Open a shard or a virtual file to read, after checking its schema and its layout.

    Raises
    ------
    EmbeddingsError : not there, not HDF5, another or a newer schema, or another layout: a file
        from elsewhere can name any other file of this machine as its data.
    """
    if not path.is_file():
        raise EmbeddingsError(f"{path}: no such file. Run `make features` first.")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise EmbeddingsError(
            f"{path}: not a readable HDF5 file ({error}). `python -m extract verify --set-aside` "
            "puts damaged files aside; then run `make features` again."
        ) from None
    try:
        _check_schema(file, path)
        _check_layout(file, set(name_shards(path, get_attributes(file))))
    except EmbeddingsError:
        file.close()
        raise
    except _UNREADABLE as error:
        file.close()
        raise EmbeddingsError(
            f"{path}: not as `make features` writes it ({error}). Do not trust it; make it anew, "
            "with FRESH=1."
        ) from None
    return file


def _check_schema(file: h5py.File, path: Path) -> None:
    schema = file.attrs.get("schema")
    stated = str(file.attrs.get("schema_version", 0))
    version = int(stated) if stated.isdecimal() else 0
    if schema != SCHEMA or version < 1:
        raise EmbeddingsError(
            f"{path}: expected schema {SCHEMA!r}, got {schema!r}. This file was not written by "
            "`make features`."
        )
    if version > SCHEMA_VERSION:
        raise EmbeddingsError(
            f"{path}: written by a newer Roofline (schema version {version}; this one reads up to "
            f"{SCHEMA_VERSION}). Update Roofline."
        )


def _check_layout(file: h5py.File, shards: set[str]) -> None:
    """Raise ValueError where data are missing, lie outside the file and its shards, or disagree."""
    if any(name.count("/") != 1 or name.endswith("..") for name in shards):
        raise ValueError("shards outside their folder")
    for name in ("id", "status", "cuts"):
        if not isinstance(file.get(name, getlink=True), h5py.HardLink):
            raise ValueError("id, status or cuts is missing, or a link")
    n_rows = len(file["status"])
    for name in dataset_names(file):
        link = file.get(name, getlink=True)
        if not isinstance(link, h5py.HardLink) or file[name].external:
            raise ValueError(f"{name} lies in another file")
        data = file[name]
        if data.is_virtual and {source.file_name for source in data.virtual_sources()} - shards:
            raise ValueError(f"{name} lies in files that are no shards")
        if len(data) != n_rows:
            raise ValueError(f"{name} has {len(data)} rows, status {n_rows}")
    if any(data.dtype.kind != "f" for data in file["cuts"].values()):
        raise ValueError("cuts that are no floats")


def read_attributes(path: Path) -> ShardAttributes:
    """Read the root attributes of a shard or of a virtual file."""
    with open_embeddings(path) as file:
        return get_attributes(file)


def get_attributes(file: h5py.File) -> ShardAttributes:
    """Return the root attributes of an open file."""
    return cast(ShardAttributes, dict(file.attrs))


def name_shards(path: Path, attributes: ShardAttributes) -> list[str]:
    """Return the shards of a virtual file as it names them, `<backbone>/part-00000.h5`."""
    return [f"{path.stem}/{name}" for name in json.loads(attributes.get("shards", "[]"))]


def dataset_names(file: h5py.File) -> list[str]:
    """Return the name of every dataset, as `id` or `cuts/<layer>:<pooling>`."""
    return [name for name in file if name != "cuts"] + [f"cuts/{name}" for name in file["cuts"]]


def hash_rows(rows: Array) -> str:
    """Return the SHA-256 of some rows, as their dataset carries it."""
    return hashlib.sha256(as_bytes(rows)).hexdigest()


def as_bytes(rows: Array) -> bytes:
    """Return the bytes of some rows that the checksum of their dataset is taken over."""
    if rows.dtype == object:
        return "".join(f"{text}\0" for text in rows).encode()
    return np.ascontiguousarray(rows).tobytes()


def hash_file(file: h5py.File) -> str:
    """Return the SHA-256 of a file's attributes and of the checksums of its datasets."""
    attributes = {name: str(value) for name, value in file.attrs.items() if name != "sha256"}
    sums = {name: file[name].attrs.get("sha256") for name in dataset_names(file)}
    stated = {name: value for name, value in sums.items() if value is not None}
    return hashlib.sha256(json.dumps([attributes, stated], sort_keys=True).encode()).hexdigest()


def read_columns(shards: Sequence[Path]) -> Mapping[str, list[Array]]:
    """Read what the virtual file copies, shard by shard.

    Returns
    -------
    `id`, `status`, and `pictures` where every shard has it; one array a shard.
    """
    columns: dict[str, list[Array]] = {"id": [], "status": [], "pictures": []}
    for shard in shards:
        with open_embeddings(shard) as file:
            for name in columns.keys() & file.keys():
                columns[name].append(file[name][:])
    if len(columns["pictures"]) < len(shards):
        del columns["pictures"]
    return columns


def read_rejects(shards: Sequence[Path]) -> dict[int, str]:
    """Return the reason of each rejected row, rows counted over all shards."""
    rejects: dict[int, str] = {}
    start = 0
    for shard in shards:
        with open_embeddings(shard) as file:
            status = file["status"][:]
            rows = np.flatnonzero(status == REJECTED)
            reasons = file["reason"].asstr()[:] if len(rows) else []
        rejects |= {start + int(row): str(reasons[row]) for row in rows}
        start += len(status)
    return rejects


def encode_ids(ids: pd.Series[Any]) -> Array:
    """Return ids as HDF5 stores them: int64, or UTF-8 text of fixed width."""
    if ids.dtype == np.int64:
        return ids.to_numpy()
    encoded = np.array([text.encode() for text in ids])
    return encoded.astype(h5py.string_dtype("utf-8", encoded.dtype.itemsize))


def decode_ids(stored: Array) -> Array:
    """Return ids as the table has them: int64 or text."""
    if stored.dtype == np.int64:
        return stored
    return np.array([text.decode() for text in stored], dtype=object)
