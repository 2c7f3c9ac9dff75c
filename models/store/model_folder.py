"""A model folder from a stranger: what is checked before anything in it is read."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from extract.errors import RunFileError
from extract.files.hashing import hash_file
from models.store.seal import SEAL, is_sealed

# an archive beyond both is a bomb: arrays of numbers do not pack so well
_LARGEST_UNPACKED = 1 << 28
_LARGEST_RATIO = 100
_HEADER_BYTES = 1 << 16
_UNREADABLE = (
    zipfile.BadZipFile,
    ValueError,
    OSError,
    NotImplementedError,
    RuntimeError,
    EOFError,
)


def check_seal(path: Path, facts: dict[str, Any]) -> None:
    """Check that the `model.json` of a folder says what was written; raises RunFileError."""
    if not is_sealed(facts):
        raise RunFileError(
            f"{path / 'model.json'}: changed since `make models` wrote it (expected SHA-256 "
            f"{facts.get(SEAL)}). Do not trust this folder; run `make models` again."
        )


def check_sealed(path: Path, facts: dict[str, Any]) -> None:
    """Check that a folder holds exactly the files that its `model.json` lists, each the one that
    was written.

    Raises
    ------
    RunFileError : a name that is no plain file of the folder, one that is not listed, a wrong hash,
        or an archive that would unpack to far more than it is, or holds what is no array of numbers
        where one is expected.
    """
    files: dict[str, dict[str, Any]] = facts.get("files", {})
    is_listed = isinstance(files, dict) and len(files) > 0
    if not is_listed or not all(isinstance(one, dict) for one in files.values()):
        raise RunFileError(
            f"{path / 'model.json'}: expected the files of the model with their hashes, got "
            f"{files!r:.80}. Do not trust this folder; run `make models` again."
        )
    for name, stated in files.items():
        if name != Path(name).name or name in ("", ".", ".."):
            raise RunFileError(
                f"{path / 'model.json'}: names the file {name!r}, which is outside its folder. Do "
                "not trust this folder."
            )
        _check_file(path / name, stated.get("sha256"))
    names = {file.name for file in path.iterdir()}
    extra = names - {*files, "model.json"}
    if extra:
        raise RunFileError(
            f"{path / min(extra)}: a file that model.json does not list. Do not trust this folder."
        )


def _check_file(file: Path, sha256: str | None) -> None:
    is_plain = file.is_file() and not file.is_symlink()
    if not is_plain or hash_file(file) != sha256:
        raise RunFileError(
            f"{file}: not the file that `make models` wrote (expected SHA-256 {sha256}). "
            f"Delete {file.parent} and run `make models` again."
        )
    if zipfile.is_zipfile(file) or file.suffix == ".npz":
        _check_archive(file)


def _check_archive(file: Path) -> None:
    """Check sizes and array headers of an .npz or .skops; nothing is unpacked but the headers."""
    try:
        with zipfile.ZipFile(file) as archive:
            _check_unpacked(file, archive)
            for member in archive.infolist():
                is_array = member.filename.endswith(".npy")
                if file.suffix == ".npz" and not is_array:
                    raise ValueError(f"{member.filename!r}, which is no .npy")
                if is_array:
                    with archive.open(member) as handle:
                        _check_array(handle, member.file_size)
    except RunFileError:
        raise
    except _UNREADABLE as error:
        raise RunFileError(
            f"{file}: holds what is no array of numbers ({error}). Do not trust this file."
        ) from None


def _check_unpacked(file: Path, archive: zipfile.ZipFile) -> None:
    packed = file.stat().st_size
    unpacked = sum(member.file_size for member in archive.infolist())
    largest = max(_LARGEST_UNPACKED, _LARGEST_RATIO * packed)
    if unpacked > largest:
        raise RunFileError(
            f"{file}: {packed} bytes that unpack to {unpacked}. Do not trust this file."
        )


def _check_array(handle: Any, n_bytes: int) -> None:
    """Check that a .npy is as large as its shape says, and holds no objects; raises ValueError."""
    version = np.lib.format.read_magic(handle)
    read = np.lib.format.read_array_header_2_0
    if version == (1, 0):
        read = np.lib.format.read_array_header_1_0
    shape, _, dtype = read(handle, max_header_size=_HEADER_BYTES)
    if dtype.hasobject:
        raise ValueError("objects, which are pickles")
    expected = handle.tell() + math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or expected != n_bytes:
        raise ValueError(f"the shape {shape} of {dtype}, in {n_bytes} bytes")
