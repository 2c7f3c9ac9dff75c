"""Write a file as a whole or not at all: a kill or a power cut leaves the old one."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def write_atomically(path: Path) -> Iterator[Path]:
    """Yield `<path>.partial` to write to; give it its final name when the block ends.

    Where the block raises, the partial file is removed and what stood at `path` stays.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        with name_place(path):
            yield partial
            publish(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@contextmanager
def name_place(path: Path) -> Iterator[None]:
    """Name a file or folder in errors that name none, as that of a full disk does not."""
    try:
        yield
    except OSError as error:
        if error.errno and not error.filename:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def publish(partial: Path, path: Path) -> None:
    """Sync a finished file, give it its final name, and sync the folder."""
    _sync_and_rename(partial, path)
    _sync_folder(path.parent)


def publish_all(paths: Sequence[Path]) -> None:
    """Give the finished `<path>.partial` of one folder their final names, and sync it once."""
    for path in paths:
        _sync_and_rename(path.with_name(path.name + ".partial"), path)
    for folder in {path.parent for path in paths}:
        _sync_folder(folder)


def _sync_and_rename(partial: Path, path: Path) -> None:
    with partial.open("rb") as handle:
        os.fsync(handle.fileno())
    partial.replace(path)


def _sync_folder(folder: Path) -> None:
    """Sync the entries of a folder, where the system can (Windows cannot)."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
