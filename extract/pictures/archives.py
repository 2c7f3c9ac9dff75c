"""Read pictures from a .tar or .zip in place: one index, then one read a picture."""

from __future__ import annotations

import os
import stat
import struct
import tarfile
import threading
import weakref
import zipfile
import zlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from extract.errors import ImageSourceError, RejectedTile
from extract.pictures.image_folder import (
    MISSING,
    ImageFolder,
    Images,
    check_size,
    is_macos_double,
    make_stamp,
    plain_name,
    suggest_file,
)

if TYPE_CHECKING:  # a process that decodes knows no settings
    from extract.settings import TilesSection

_COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
}
_LOCAL_HEADER = 30  # bytes before the name of a zip's member (APPNOTE 6.3.10, section 4.3.7)
_PACKED = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
_DAMAGE = (tarfile.TarError, zipfile.BadZipFile, EOFError, UnicodeDecodeError)


class Member(NamedTuple):
    """A picture in an archive: `stored` bytes from `start`, `size` bytes once inflated."""

    start: int
    stored: int
    size: int
    is_deflated: bool = False
    crc: int | None = None


Index = dict[str, Member | str]  # a text says why the member is not read


def open_images(settings: TilesSection) -> Images:
    """Open the images that the settings name: a folder, a .tar or a .zip.

    No file is read that is larger than `max_pixels` of four float32 channels.

    Raises
    ------
    ImageSourceError : not there, or neither a folder nor such an archive.
    """
    path = settings.images
    max_bytes = settings.max_pixels * 16 + (1 << 20)
    if path.is_dir():
        return ImageFolder(path, follow_links=settings.follow_links, max_bytes=max_bytes)
    try:
        identity = _identify(path.stat())
    except OSError:
        raise ImageSourceError(
            f"images {path}: no such folder or archive. Mend [tiles] images."
        ) from None
    index = _read_index(path, identity)
    return ImageArchive(path, index, max_bytes=max_bytes, identity=identity)


def _identify(info: os.stat_result) -> tuple[int, ...]:
    """Return what changes when a file is written to, or another takes its name."""
    return info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns


class ImageArchive:
    """Pictures in an archive; nothing is unpacked, and several threads may read.

    Parameters
    ----------
    path : the archive.
    index : where its members lie.
    max_bytes : size of the largest picture that is read.
    identity : of the file that the index was read from; a file that changed since is refused.
    """

    def __init__(
        self,
        path: Path,
        index: Index,
        *,
        max_bytes: int,
        identity: tuple[int, ...],
    ) -> None:
        self._path = path
        self._index = index
        self._max_bytes = max_bytes
        self._identity = identity
        self._alike: dict[str, str] = {}  # of names without folder and case; made when needed
        self._file = path.open("rb")
        self._one_at_a_time = threading.Lock()
        weakref.finalize(self, self._file.close)

    def __reduce__(self) -> tuple[Any, ...]:
        """Send the path without the index, which each process would hold: it may be a million."""
        return _open_without_index, (self._path, self._max_bytes, self._identity)

    def find(self, name: str) -> Member | str:
        """Return where a member lies, or why it is not read."""
        plain = plain_name(name)
        found = self._index.get(plain)
        if found is None:
            return MISSING + self._suggest(plain)
        return found

    def _suggest(self, name: str) -> str:
        """Name a member that differs by its folder or by case alone."""
        if not self._alike:
            self._alike = {_strip(member): member for member in self.names()}
        alike = self._alike.get(_strip(name))
        return "" if alike is None else suggest_file(alike)

    def read(self, location: Member | str) -> bytes:
        """Return the bytes of a picture.

        Raises
        ------
        ImageSourceError : the archive has changed since its index was read.
        RejectedTile : missing, empty, too large, damaged, or of a kind that is not read.
        """
        info = os.fstat(self._file.fileno())
        if _identify(info) != self._identity:
            raise ImageSourceError(
                f"images {self._path}: the archive has changed since the run began, and pictures "
                "would be taken for others. Run the same command again; if shards were made "
                "meanwhile, with FRESH=1."
            )
        if isinstance(location, str):
            raise RejectedTile(location)
        check_size(location.size, self._max_bytes)
        if not location.size:
            raise RejectedTile("file empty")
        if location.crc is None:
            return self._read_at(location.start, location.stored)
        return self._inflate(location)

    def stamp(self, name: str) -> int:
        """Return a number of the member's name and checksum; in a .tar, of the archive's state."""
        member = self._index.get(plain_name(name))
        if not isinstance(member, Member):
            return 0
        state = self._identity if member.crc is None else (member.crc, member.size)
        return make_stamp(self._path, name, *state)

    def names(self) -> Iterator[str]:
        """Return the name of every member that can be read."""
        for name, member in self._index.items():
            if isinstance(member, Member):
                yield name

    def _read_at(self, start: int, size: int) -> bytes:
        with self._one_at_a_time:
            self._file.seek(start)
            data = self._file.read(size)
        if len(data) < size:
            raise RejectedTile("the archive ends inside this file")
        return data

    def _inflate(self, member: Member) -> bytes:
        header = self._read_at(member.start, _LOCAL_HEADER)
        name_bytes, extra_bytes = struct.unpack_from("<HH", header, 26)
        start = member.start + _LOCAL_HEADER + name_bytes + extra_bytes
        n_bytes = min(member.stored, self._max_bytes)
        data = self._read_at(start, n_bytes)
        if member.is_deflated:
            stream = zlib.decompressobj(-zlib.MAX_WBITS)
            try:
                data = stream.decompress(data, member.size + 1)
            except zlib.error as error:
                raise RejectedTile(f"damaged in the archive: {error}") from None
        if len(data) != member.size or zlib.crc32(data) != member.crc:
            raise RejectedTile("damaged in the archive: its checksum does not match")
        return data


def _open_without_index(path: Path, max_bytes: int, identity: tuple[int, ...]) -> ImageArchive:
    return ImageArchive(path, {}, max_bytes=max_bytes, identity=identity)


@lru_cache(maxsize=4)
def _read_index(path: Path, identity: tuple[int, ...]) -> Index:  # noqa: ARG001
    """Read the table of contents, once as long as the file stays the same."""
    with path.open("rb") as file:
        start = file.read(8)
    for magic, packer in _COMPRESSED.items():
        if start.startswith(magic):
            raise ImageSourceError(
                f"images {path}: compressed as a whole by {packer}; no picture can be read without "
                "all before it. Unpack it to a plain .tar, or make a .zip."
            )
    index: Index = {}
    try:
        members = _list_zip(path) if start.startswith(b"PK") else _list_tar(path)
        for name, member in members:
            key = plain_name(name)
            if is_macos_double(key):
                continue
            is_inside = not key.startswith("/") and ".." not in key.split("/")
            index[key] = member if is_inside else "a path that climbs out of the archive"
    except _DAMAGE as error:
        raise ImageSourceError(
            f"images {path}: expected a folder, a .tar or a .zip: {error}. Mend [tiles] images, "
            "or make the archive anew."
        ) from None
    return index


def _list_tar(path: Path) -> Iterator[tuple[str, Member | str]]:
    with tarfile.open(path, "r:") as archive:
        for info in archive:
            if info.isreg() and not info.issparse():
                yield info.name, Member(info.offset_data, info.size, info.size)
            elif not info.isdir():
                yield info.name, "a link or a special file in the archive, which is not followed"
            # else a tar of a million pictures is kept twice
            archive.members.clear()  # type: ignore[attr-defined]


def _list_zip(path: Path) -> Iterator[tuple[str, Member | str]]:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if info.is_dir():
                continue
            name = info.filename
            is_encrypted = info.flag_bits & 1
            if stat.S_ISLNK(info.external_attr >> 16):
                yield name, "a link in the archive, which is not followed"
            elif is_encrypted or info.compress_type not in _PACKED:
                yield name, "encrypted, or packed otherwise than stored or deflated"
            else:
                yield (
                    name,
                    Member(
                        start=info.header_offset,
                        stored=info.compress_size,
                        size=info.file_size,
                        is_deflated=info.compress_type == zipfile.ZIP_DEFLATED,
                        crc=info.CRC,
                    ),
                )


def _strip(name: str) -> str:
    """Return a name without its folder and its case."""
    return name.rpartition("/")[2].casefold()
