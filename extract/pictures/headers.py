"""Read a picture's header before anything is decoded, and refuse what would fill the memory."""

from __future__ import annotations

import io
import struct
from typing import NamedTuple

from PIL import Image

from extract.errors import RejectedTile
from extract.pictures.tiff import TiffTags, is_tiff, read_tags

_MOST_CHANNELS = 4  # of a picture; more take as much memory as more pixels
_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8"
_START_OF_SCAN = 0xDA
_END_OF_IMAGE = b"\xff\xd9"
_FORMATS = ("JPEG", "WEBP", "BMP", "GIF", "JPEG2000", "PPM")
_DAMAGE = (
    OSError,
    ValueError,
    SyntaxError,
    TypeError,
    KeyError,
    IndexError,
    struct.error,
)


class Header(NamedTuple):
    """Size [pixels], and the tags of a TIFF."""

    width: int
    height: int
    tiff: TiffTags | None = None


def read_header(data: bytes, *, max_pixels: int, has_bands: bool = False) -> Header:
    """Read a picture's header.

    Parameters
    ----------
    has_bands : whether the bands of a TIFF may be any number, and no colours.

    Raises
    ------
    RejectedTile : no image, too large, visibly cut off, or a TIFF of channels that are no colours.
    """
    try:
        header = _read(data, has_bands=has_bands)
    except RejectedTile:
        raise
    except Image.DecompressionBombError:
        raise RejectedTile(f"image larger than [tiles] max_pixels = {max_pixels}") from None
    except _DAMAGE:
        raise RejectedTile("not an image") from None
    size = f"image of {header.width} × {header.height} pixels"
    n_pixels = header.width * header.height
    if header.tiff is not None:
        n_pixels = max(n_pixels, header.tiff.tile_pixels)
        n_pixels *= max(1, header.tiff.samples // _MOST_CHANNELS)
    if n_pixels > max_pixels:
        raise RejectedTile(f"{size}, larger than [tiles] max_pixels = {max_pixels}")
    if min(header.width, header.height) < 1:
        raise RejectedTile(size)
    return header


def _read(data: bytes, *, has_bands: bool) -> Header:
    if data.startswith(_PNG) and data[12:16] == b"IHDR":
        _check_end(data, b"IEND", start=16)
        return Header(*struct.unpack(">II", data[16:24]))
    if is_tiff(data):
        tags = read_tags(data, has_bands=has_bands)
        return Header(tags.width, tags.height, tags)
    if data.startswith(_JPEG):
        # OpenCV fills the missing part of a JPEG with grey, silently
        _check_end(data, _END_OF_IMAGE, start=_find_scan(data))
    with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
        return Header(*image.size)


def _check_end(data: bytes, end: bytes, *, start: int) -> None:
    """Reject a picture that does not end; other bytes may follow."""
    if data.rfind(end, start) < 0:
        raise RejectedTile("image data damaged or truncated")


def _find_scan(data: bytes) -> int:
    """Return where a JPEG's pixels begin: what stands before may hold other JPEGs.

    Each segment begins with 0xFF and its kind, and its size follows (ITU-T T.81, B.1.1).
    """
    start = len(_JPEG)
    while start + 4 <= len(data):
        mark, kind, size = struct.unpack_from(">BBH", data, start)
        if mark != 0xFF or kind == _START_OF_SCAN:
            return start
        if kind == 0xFF:  # a byte that fills
            start += 1
        else:
            start += 2 + size
    return len(data)
