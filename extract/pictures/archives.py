"""Pictures in a .tar or .zip, read in place: one index, then every picture is one read at its own place in the file."""

from __future__ import annotations

import os
import stat
import tarfile
import weakref
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

from extract.errors import ImageSourceError, RejectedTile
from extract.pictures.image_folder import Folder, Images

if TYPE_CHECKING:  # a process that decodes knows no settings
    from extract.settings import TilesSection

_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_LOCAL_HEADER = 30  # bytes before the name of a zip's member (APPNOTE 6.3.10, section 4.3.7)


class Member(NamedTuple):
    """Where a picture lies in an archive: `start` and `stored` bytes from there, `size` bytes once inflated."""

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
        return Folder(path, follow_links=settings.follow_links, max_bytes=max_bytes)
    try:
        info = path.stat()
    except OSError:
        raise ImageSourceError(
            f"images {path}: no such folder or archive. Mend [tiles] images."
        ) from None
    return Archive(
        path,
        _index(path, info.st_size, info.st_mtime_ns),
        max_bytes=max_bytes,
        identity=_identify(info),
    )


def _identify(info: os.stat_result) -> tuple[int, ...]:
    """Return what changes when a file is written to, or another takes its name."""
    return info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns


class Archive:
    """Pictures in an archive, which stays as it is: several threads read at once, nothing is unpacked.

    Parameters
    ----------
    path : the archive.
    index : where its members lie.
    max_bytes : size of the largest picture that is read.
    identity : of the file that the index was read from; another, or one that was written to since, is refused.
    """

    def __init__(
        self, path: Path, index: Index, *, max_bytes: int, identity: tuple[int, ...]
    ) -> None:
        self._path = path
        self._index = index
        self._max_bytes = max_bytes
        self._identity = identity
        self._handle = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._handle)

    def __reduce__(self) -> tuple[Any, ...]:
        """Send where the archive lies, and not its index: with a million members each process would read it, and hold it."""
        return partial(
            Archive, self._path, {}, max_bytes=self._max_bytes, identity=self._identity
        ), ()

    def find(self, name: str) -> Member | str:
        """Return where a member lies, or why it is not read."""
        return self._index.get(name, "file missing")

    def read(self, place: Member | str) -> bytes:
        """Return the bytes of a picture; raises `ImageSourceError` where the archive has changed since its index was read."""
        if _identify(os.fstat(self._handle)) != self._identity:
            raise ImageSourceError(
                f"images {self._path}: the archive has changed since the run began, and pictures would be taken "
                "for others. Run the same command again; if shards were made meanwhile, with FRESH=1."
            )
        if isinstance(place, str):
            raise RejectedTile(place)
        if place.size > self._max_bytes:
            raise RejectedTile(
                f"file of {place.size} bytes, larger than any picture of [tiles] max_pixels"
            )
        if not place.size:
            raise RejectedTile("file empty")
        return (
            self._inflate(place)
            if place.crc is not None
            else self._pread(place.start, place.stored)
        )

    def names(self) -> Iterator[str]:
        """Name every member that can be read."""
        return (name for name, member in self._index.items() if isinstance(member, Member))

    def _pread(self, start: int, size: int) -> bytes:
        data = os.pread(self._handle, size, start)
        while len(data) < size and (
            more := os.pread(self._handle, size - len(data), start + len(data))
        ):
            data += more
        if len(data) < size:
            raise RejectedTile("the archive ends inside this file")
        return data

    def _inflate(self, member: Member) -> bytes:
        header = self._pread(member.start, _LOCAL_HEADER)
        skip = (
            _LOCAL_HEADER
            + int.from_bytes(header[26:28], "little")
            + int.from_bytes(header[28:30], "little")
        )
        data = self._pread(member.start + skip, min(member.stored, self._max_bytes))
        try:
            data = (
                zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, member.size + 1)
                if member.is_deflated
                else data
            )
        except zlib.error as error:
            raise RejectedTile(f"damaged in the archive: {error}") from None
        if len(data) != member.size or zlib.crc32(data) != member.crc:
            raise RejectedTile("damaged in the archive: its checksum does not match")
        return data


@lru_cache(maxsize=4)
def _index(path: Path, size: int, mtime_ns: int) -> Index:  # noqa: ARG001  (size and time: an archive that changed is read anew)
    """Read the table of contents, once as long as the file stays the same."""
    index: Index = {}
    for name, member in _list(path):
        parts = PurePosixPath(name).parts
        if name.startswith("/") or ".." in parts:
            member = "a path that climbs out of the archive"
        index["/".join(part for part in parts if part != ".")] = member
    return index


def _list(path: Path) -> Iterator[tuple[str, Member | str]]:
    with path.open("rb") as file:
        start = file.read(8)
    packed = next((name for magic, name in _COMPRESSED.items() if start.startswith(magic)), None)
    if packed:
        raise ImageSourceError(
            f"images {path}: compressed as a whole by {packed}; no picture can be read without all before it. "
            "Unpack it to a plain .tar, or make a .zip."
        )
    reader: Callable[[Path], Iterator[tuple[str, Member | str]]] = (
        _list_zip if start.startswith(b"PK") else _list_tar
    )
    try:
        yield from reader(path)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, UnicodeDecodeError) as error:
        raise ImageSourceError(
            f"images {path}: expected a folder, a .tar or a .zip: {error}. Mend [tiles] images, or make the "
            "archive anew."
        ) from None


def _list_tar(path: Path) -> Iterator[tuple[str, Member | str]]:
    with tarfile.open(path, "r:") as archive:
        for info in archive:
            if info.isreg() and not info.issparse():
                yield info.name, Member(info.offset_data, info.size, info.size)
            elif not info.isdir():
                yield info.name, "a link or a special file in the archive, which is not followed"
            archive.members.clear()  # type: ignore[attr-defined]  # else a tar of a million pictures is kept twice


def _list_zip(path: Path) -> Iterator[tuple[str, Member | str]]:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if info.is_dir():
                continue
            is_link = stat.S_ISLNK(info.external_attr >> 16)
            if (
                is_link
                or info.flag_bits & 1
                or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
            ):
                yield (
                    info.filename,
                    (
                        "a link in the archive, which is not followed"
                        if is_link
                        else "encrypted, or packed otherwise than stored or deflated"
                    ),
                )
            else:
                yield (
                    info.filename,
                    Member(
                        info.header_offset,
                        info.compress_size,
                        info.file_size,
                        info.compress_type == zipfile.ZIP_DEFLATED,
                        info.CRC,
                    ),
                )
