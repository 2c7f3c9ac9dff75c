"""Read pictures from a folder without leaving it."""

from __future__ import annotations

import os
import stat
import unicodedata
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import xxhash

from extract.errors import RejectedTile

PICTURE_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp"}
# a pipe does not hang; not every system has these
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
MISSING = "file missing"  # what such a reason begins with

PictureLocation = Any  # as its own kind of images knows it; can be sent to another process


class Images(Protocol):
    """A source of pictures; safe to use from several threads, can be sent to another process."""

    def find(self, name: str) -> PictureLocation:
        """Return the location of a picture, for any copy of these images in another process."""

    def read(self, location: PictureLocation) -> bytes:
        """Return the bytes of a picture.

        Raises
        ------
        RejectedTile : missing, empty, too large, or outside the images.
        """

    def stamp(self, name: str) -> int:
        """Return a number that changes when a picture does, without reading it; 0 if missing."""

    def names(self) -> Iterator[str]:
        """Return the name of every file, as paths with `/` from the top of the images."""


class ImageFolder:
    """Pictures in a folder.

    Parameters
    ----------
    path : the folder.
    follow_links : read also what a link points to outside the folder.
    max_bytes : size of the largest file that is read.
    """

    def __init__(self, path: Path, *, follow_links: bool, max_bytes: int) -> None:
        self._root = str(path)
        self._real_root = os.path.realpath(path)
        self._follow_links = follow_links
        self._max_bytes = max_bytes
        self._is_inside: dict[str, bool] = {}

    def find(self, name: str) -> str:
        """Return the name itself: a folder is searched when it is read."""
        return name

    def read(self, location: str) -> bytes:
        """Return the bytes of a picture."""
        try:
            data = self._read_any_spelling(location)
        except FileNotFoundError:
            raise RejectedTile(MISSING + self._suggest(location)) from None
        except OSError as error:
            raise RejectedTile(f"file cannot be read: {error.strerror}") from None
        except RejectedTile:
            raise
        except ValueError as error:  # a NUL in the name
            raise RejectedTile(f"file cannot be read: {error}") from None
        if not data:
            raise RejectedTile("file empty")
        return data

    def _read_any_spelling(self, name: str) -> bytes:
        """Read a picture whose name may be spelled otherwise on this disk than in the table."""
        for path in self._spell(name):
            with suppress(FileNotFoundError):
                return self._read(path)
        raise FileNotFoundError

    def _spell(self, name: str) -> Iterator[str]:
        """Return the paths under which a picture may lie: as the table has it, in NFC, in NFD."""
        # a Path for each of a million tiles costs more than the read
        yield os.path.join(self._root, name)  # noqa: PTH118
        plain = plain_name(name)
        if ".." in plain.split("/"):
            return
        for form in ("NFC", "NFD"):
            spelled = unicodedata.normalize(form, plain)
            if spelled != name:
                yield os.path.join(self._root, spelled)  # noqa: PTH118

    def _suggest(self, name: str) -> str:
        """Name a file of another case or in a folder inside; a million files are not listed."""
        plain = plain_name(name)
        stem, _, suffix = plain.rpartition(".")
        own = os.path.basename(self._real_root)  # noqa: PTH119
        likely = [
            f"{stem}.{suffix.lower()}",
            f"{stem}.{suffix.upper()}",
            plain.lower(),
            plain.upper(),
            f"{own}/{plain}",
        ]
        for other in likely:
            is_there = os.path.isfile(os.path.join(self._root, other))  # noqa: PTH113, PTH118
            if is_there and other != plain:
                return suggest_file(other)
        return ""

    def stamp(self, name: str) -> int:
        """Return a number of the file's name, size and times of change; 0 if it is missing."""
        for path in self._spell(name):
            with suppress(OSError, ValueError):
                info = os.stat(path)  # noqa: PTH116
                return make_stamp(path, info.st_size, info.st_mtime_ns, info.st_ctime_ns)
        return 0

    def _read(self, path: str) -> bytes:
        is_link = os.path.islink(path)  # noqa: PTH114
        if not self._follow_links:
            self._check_inside(os.path.dirname(path))  # noqa: PTH120
            if is_link:
                self._check_inside(path)
        handle = os.open(path, _FLAGS if is_link else _FLAGS | _NO_LINK)
        with os.fdopen(handle, "rb") as file:
            info = os.fstat(handle)
            if not stat.S_ISREG(info.st_mode):
                raise RejectedTile("not a regular file")
            check_size(info.st_size, self._max_bytes)
            return file.read(info.st_size)

    def _check_inside(self, path: str) -> None:
        """Reject what lies outside the folder once links are followed; each is looked up once."""
        if path not in self._is_inside:
            real = os.path.realpath(path)
            top = self._real_root.rstrip(os.sep) + os.sep
            self._is_inside[path] = (real + os.sep).startswith(top)
        if not self._is_inside[path]:
            raise RejectedTile(
                "a link out of the images folder; [tiles] follow_links = true allows it"
            )

    def names(self) -> Iterator[str]:
        """Return the name of every file; linked folders once each, where links are followed."""
        seen = set()
        for parent, folders, files in os.walk(self._root, followlinks=self._follow_links):
            real = os.path.realpath(parent) if self._follow_links else parent
            if real in seen:
                folders.clear()
                continue
            seen.add(real)
            below = os.path.relpath(parent, self._root)
            prefix = "" if below == "." else f"{below}/".replace(os.sep, "/")
            for name in files:
                if not is_macos_double(prefix + name):
                    yield prefix + name


def plain_name(name: str) -> str:
    r"""Return what all spellings of a file's name share: NFC, `/` for `\`, and no `./`."""
    if name.isascii() and "\\" not in name and "./" not in name:
        return name
    composed = unicodedata.normalize("NFC", name)
    parts = composed.replace("\\", "/").split("/")
    return "/".join(part for part in parts if part != ".")


def is_macos_double(name: str) -> bool:
    """Return whether a file is what macOS writes beside each on other disks and in archives."""
    return name.startswith(("._", "__MACOSX/")) or "/._" in name


def suggest_file(name: str) -> str:
    """Return the end of a reason that names a file that is there."""
    return f"; did you mean {name!r}?"


def make_stamp(*facts: object) -> int:
    """Return the XXH3 (64 bit) of what tells one state of a picture from another."""
    text = "\0".join(map(str, facts))
    return xxhash.xxh3_64_intdigest(text.encode(errors="surrogatepass"))


def check_size(n_bytes: int, max_bytes: int) -> None:
    """Reject a file larger than any picture of [tiles] max_pixels."""
    if n_bytes > max_bytes:
        raise RejectedTile(
            f"file of {n_bytes} bytes, larger than any picture of [tiles] max_pixels"
        )
