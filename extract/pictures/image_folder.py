"""Where pictures lie: a folder, read without leaving it; archives are in `extract/pictures/archives.py`."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from extract.errors import RejectedTile

PICTURE_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp"}
_FLAGS = (
    os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
)  # a link is looked at before it is followed; a pipe does not hang


PictureLocation = (
    Any  # where a picture lies, as its own kind of images knows it; can be sent to another process
)


class Images(Protocol):
    """Where pictures are read from; safe to use from several threads, and can be sent to another process."""

    def find(self, name: str) -> PictureLocation:
        """Describe where a picture lies; known to this process, and read by any that the images were sent to."""

    def read(self, place: PictureLocation) -> bytes:
        """Return the bytes of a picture; raises `RejectedTile` where it is missing, empty, too large or must not be read."""

    def names(self) -> Iterator[str]:
        """Name every file, as paths with `/` from the top of the images."""


class Folder:
    """Pictures in a folder.

    Parameters
    ----------
    path : the folder.
    follow_links : read also what a link puts outside the folder.
    max_bytes : size of the largest file that is read.
    """

    def __init__(self, path: Path, *, follow_links: bool, max_bytes: int) -> None:
        self._root = str(path)
        self._real = os.path.realpath(path)
        self._follow = follow_links
        self._max_bytes = max_bytes
        self._is_inside: dict[str, bool] = {}

    def find(self, name: str) -> str:
        """Return the name itself: a folder is looked up when it is read."""
        return name

    def read(self, place: str) -> bytes:
        """Return the bytes of a picture."""
        path = os.path.join(self._root, place)  # noqa: PTH118  (a Path for each of a million tiles costs more than the read)
        try:
            data = self._read(path)
        except FileNotFoundError:
            raise RejectedTile("file missing") from None
        except OSError as error:
            raise RejectedTile(f"file cannot be read: {error.strerror}") from None
        except RejectedTile:
            raise
        except ValueError as error:  # a NUL in the name
            raise RejectedTile(f"file cannot be read: {error}") from None
        if not data:
            raise RejectedTile("file empty")
        return data

    def _read(self, path: str) -> bytes:
        handle, size = self._open(path)
        try:
            data = os.read(handle, size)
            while len(data) < size and (more := os.read(handle, size - len(data))):
                data += more
        finally:
            os.close(handle)
        return data

    def _open(self, path: str) -> tuple[int, int]:
        """Open a file; gives its handle and its size."""
        if not self._follow:
            self._check_inside(os.path.dirname(path))  # noqa: PTH120
        try:
            handle = os.open(path, _FLAGS)
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            if not self._follow:
                self._check_inside(path)
            handle = os.open(path, _FLAGS & ~os.O_NOFOLLOW)
        info = os.fstat(handle)
        if not stat.S_ISREG(info.st_mode) or info.st_size > self._max_bytes:
            os.close(handle)
            raise RejectedTile(
                f"file of {info.st_size} bytes, larger than any picture of [tiles] max_pixels"
                if stat.S_ISREG(info.st_mode)
                else "not a regular file"
            )
        return handle, info.st_size

    def _check_inside(self, path: str) -> None:
        """Refuse what lies outside once links are followed; a folder is looked up once."""
        inside = self._is_inside.get(path)
        if inside is None:
            real = os.path.realpath(path)
            inside = self._is_inside[path] = real == self._real or real.startswith(
                self._real.rstrip(os.sep) + os.sep
            )
        if not inside:
            raise RejectedTile(
                "a link out of the images folder; [tiles] follow_links = true allows it"
            )

    def names(self) -> Iterator[str]:
        """Name every file; linked folders are walked, once each, where links are followed."""
        seen = set()
        for parent, folders, files in os.walk(self._root, followlinks=self._follow):
            real = os.path.realpath(parent) if self._follow else parent
            if real in seen:
                folders.clear()
                continue
            seen.add(real)
            below = os.path.relpath(parent, self._root)
            yield from files if below == "." else (f"{below}/{name}" for name in files)
