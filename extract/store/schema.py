"""The schema of embeddings files, and the checks of what a stranger may have written.

Schema `roofline.embeddings`. To raise it: add one to `SCHEMA_VERSION`, teach the readers the old
version, keep a golden file of it under `tests/golden`, and write a line in CHANGELOG.md.

Version 2 added `pictures` (statistics of each picture, without a network) and a checksum of
everything, not of the cuts alone. Version 3 added checksums of the chunks of a cut, and `stamp`,
by which a replaced picture is noticed. Shards of an older version stay valid: a run goes on beside
them, and `pictures` is there once every shard has it.
"""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import TypedDict, cast

import h5py

from extract.errors import EmbeddingsError, LockError
from extract.store.checksums import dataset_names, hash_embeddings

SCHEMA = "roofline.embeddings"
SCHEMA_VERSION = 3
STAMPED_VERSION = 3  # from this version on a shard has stamps, and tells its own rows
OK = 1
REJECTED = 2
UNSEALED = "attributes: differ from their checksum"
SET_ASIDE = (
    "`python -m extract verify --set-aside` puts damaged files aside; then run `make features` "
    "again (what was imported: import it again, with --fresh)."
)
UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, OSError, RuntimeError)
_IN_USE = (errno.EAGAIN, errno.EWOULDBLOCK, errno.EDEADLK)
_WORDS = {
    "file signature not found": "its beginning is not that of one",
    "truncated file": "it was cut short",
}


class ShardAttributes(TypedDict, total=False):
    """Root attributes of an embeddings file; `settings`, `recipe`, `shards`, `imported_from`: JSON.

    `shards` is that of a virtual file alone, `imported_from` and `imported_version` are those of an
    import; `float32_cuts` are cuts that float16 would lose, separated by blanks. Version 1 lacks
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
    float32_cuts: str
    runtime: str
    device: str
    created_with: str
    imported_from: str
    imported_version: str
    shards: str


class _LayoutError(ValueError):
    """A file is laid out otherwise than those that are written here."""


def open_embeddings(path: Path) -> h5py.File:
    """Open a shard or a virtual file to read, after checking its schema and its layout.

    Raises
    ------
    EmbeddingsError : not there, not HDF5, another or a newer schema, or another layout: a file
        from elsewhere can name any other file of this machine as its data.
    LockError : another process writes to it, or it may not be opened.
    """
    file = open_hdf5(path)
    try:
        _check_schema(file, path)
        _check_layout(file, set(name_shards(path, get_attributes(file))))
    except EmbeddingsError:
        file.close()
        raise
    except UNREADABLE as error:
        file.close()
        reason = f" ({error})" if isinstance(error, _LayoutError) else ""
        raise EmbeddingsError(
            f"{path}: not as `make features` writes it{reason}. Do not trust it; make it anew, "
            "with FRESH=1."
        ) from None
    return file


def open_hdf5(path: Path) -> h5py.File:
    """Open an HDF5 file to read.

    Raises
    ------
    EmbeddingsError : not there, or not HDF5.
    LockError : another process writes to it, or it may not be opened.
    """
    if not path.is_file():
        raise EmbeddingsError(f"{path}: no such file. Run `make features` first.")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        if error.errno in _IN_USE:
            reason = "another process writes to it. Wait for it, or stop it"
            raise LockError(f"{path}: {reason}.") from None
        if error.errno:
            reason = os.strerror(error.errno)
            raise LockError(f"{path}: cannot be opened ({reason}). Mend that.") from None
        words = [words for text, words in _WORDS.items() if text in str(error)]
        reason = words[0] if words else "it is damaged"
        raise EmbeddingsError(f"{path}: not a readable HDF5 file: {reason}. {SET_ASIDE}") from None


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
    """Raise where data are missing, lie outside the file and its shards, or disagree."""
    if any(name.count("/") != 1 or name.endswith("..") for name in shards):
        raise _LayoutError("shards outside their folder")
    for name in ("id", "status", "cuts"):
        if not isinstance(file.get(name, getlink=True), h5py.HardLink):
            raise _LayoutError("id, status or cuts is missing, or a link")
    n_rows = len(file["status"])
    for name in dataset_names(file):
        _check_dataset(file, name, shards)
        if len(file[name]) != n_rows:
            raise _LayoutError(f"{name} has {len(file[name])} rows, status {n_rows}")
    if any(data.dtype.kind != "f" for data in file["cuts"].values()):
        raise _LayoutError("cuts that are no floats")


def _check_dataset(file: h5py.File, name: str, shards: set[str]) -> None:
    link = file.get(name, getlink=True)
    if not isinstance(link, h5py.HardLink) or file[name].external:
        raise _LayoutError(f"{name} lies in another file")
    if not file[name].is_virtual:
        return
    sources = {source.file_name for source in file[name].virtual_sources()}
    if sources - shards:
        raise _LayoutError(f"{name} lies in files that are no shards")


def read_attributes(path: Path) -> ShardAttributes:
    """Read the root attributes of a shard or of a virtual file.

    Raises
    ------
    EmbeddingsError, LockError : as `open_embeddings`; the attributes are damaged.
    """
    with open_embeddings(path) as file:
        check_seal(file, path)
        return get_attributes(file)


def check_seal(file: h5py.File, path: Path) -> None:
    """Hold the attributes of an open file against their checksum.

    Raises
    ------
    EmbeddingsError : they differ.
    """
    try:
        is_damaged = is_sealed(file) and file.attrs.get("sha256") != hash_embeddings(file)
    except UNREADABLE:
        is_damaged = True
    if is_damaged:
        raise EmbeddingsError(f"{path}: damaged: {UNSEALED}. {SET_ASIDE}")


def is_sealed(file: h5py.File) -> bool:
    """Return whether everything has a checksum, as from version 2 on."""
    return int(file.attrs["schema_version"]) >= 2


def get_attributes(file: h5py.File) -> ShardAttributes:
    """Return the root attributes of an open file."""
    return cast(ShardAttributes, dict(file.attrs))


def name_shards(path: Path, attributes: ShardAttributes) -> list[str]:
    """Return the shards of a virtual file as it names them, `<backbone>/part-00000.h5`."""
    return [f"{path.stem}/{name}" for name in json.loads(attributes.get("shards", "[]"))]
