"""A model folder from a stranger: what is checked before anything in it is read."""

from __future__ import annotations

import hashlib
import json
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from extract.errors import RunFileError
from models.store.runs import hash_file

# an archive beyond both is a bomb: arrays of numbers do not pack so well
_LARGEST_UNPACKED = 1 << 28
_LARGEST_RATIO = 100
_HEADER_BYTES = 1 << 16
_SEAL = "sha256"  # of all else that `model.json` says


def seal(document: dict[str, Any]) -> dict[str, Any]:
    """Return what `model.json` says, with the hash of it."""
    return {**document, _SEAL: _hash_said(document)}


def check_seal(path: Path, facts: dict[str, Any]) -> None:
    """Check that the `model.json` of a folder says what was written; raises RunFileError."""
    stated = facts.get(_SEAL)
    if stated != _hash_said({name: value for name, value in facts.items() if name != _SEAL}):
        raise RunFileError(
            f"{path / 'model.json'}: changed since `make models` wrote it (expected SHA-256 "
            f"{stated}). Do not trust "
            "this folder; run `make models` again."
        )


def _hash_said(document: dict[str, Any]) -> str:
    plain = json.loads(json.dumps(document))  # keys are text, as they are read again
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def check_sealed(path: Path, facts: dict[str, Any]) -> None:
    """Check that a folder holds exactly the files that its `model.json` lists, each the one that
    was written.

    Raises
    ------
    RunFileError : a name that is no plain file of the folder, one that is not listed, a wrong hash,
        or an archive that would unpack to far more than it is, or holds what is no array of numbers
        where one is expected.
    """
    files = facts.get("files")
    if (
        not isinstance(files, dict)
        or not files
        or not all(isinstance(one, dict) for one in files.values())
    ):
        raise RunFileError(
            f"{path / 'model.json'}: expected the files of the model with their hashes, got "
            f"{files!r:.80}. "
            "Do not trust this folder; run `make models` again."
        )
    for name, stated in files.items():
        if name != Path(name).name or name in ("", ".", ".."):
            raise RunFileError(
                f"{path / 'model.json'}: names the file {name!r}, which is outside its folder. Do "
                "not "
                "trust this folder."
            )
        file = path / name
        if not file.is_file() or file.is_symlink() or hash_file(file) != stated.get("sha256"):
            raise RunFileError(
                f"{file}: not the file that `make models` wrote (expected SHA-256 "
                f"{stated.get('sha256')}). "
                f"Delete {path} and run `make models` again."
            )
        if zipfile.is_zipfile(file) or file.suffix == ".npz":
            _check_archive(file)
    extra = sorted({p.name for p in path.iterdir()} - {*files, "model.json"})
    if extra:
        raise RunFileError(
            f"{path / extra[0]}: a file that model.json does not list. Do not trust this folder."
        )


def _check_archive(file: Path) -> None:
    """Check sizes and array headers of an .npz or .skops; nothing is unpacked but the headers."""
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            unpacked = sum(member.file_size for member in members)
            if unpacked > _LARGEST_UNPACKED and unpacked > _LARGEST_RATIO * file.stat().st_size:
                raise RunFileError(
                    f"{file}: {file.stat().st_size} bytes that unpack to {unpacked}. Do not trust "
                    "this file."
                )
            for member in members:
                if file.suffix == ".npz" and not member.filename.endswith(".npy"):
                    raise ValueError(f"{member.filename!r}, which is no .npy")
                if member.filename.endswith(".npy"):
                    with archive.open(member) as handle:
                        _check_array(handle, member.file_size)
    except (
        zipfile.BadZipFile,
        ValueError,
        OSError,
        NotImplementedError,
        RuntimeError,
        EOFError,
    ) as error:
        raise (
            error
            if isinstance(error, RunFileError)
            else RunFileError(
                f"{file}: holds what is no array of numbers ({error}). Do not trust this file."
            )
        ) from None


def _check_array(handle: Any, n_bytes: int) -> None:
    """Check that a .npy is as large as its shape says, and holds no objects; raises ValueError."""
    version = np.lib.format.read_magic(handle)
    read = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    shape, _, dtype = read(handle, max_header_size=_HEADER_BYTES)
    if dtype.hasobject:
        raise ValueError("objects, which are pickles")
    if min(shape, default=0) < 0 or handle.tell() + math.prod(shape) * dtype.itemsize != n_bytes:
        raise ValueError(f"the shape {shape} of {dtype}, in {n_bytes} bytes")
