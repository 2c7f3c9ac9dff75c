"""Read a picture's header before anything is decoded, and refuse what would fill the memory."""

from __future__ import annotations

import io
import struct
import threading
import warnings
from contextlib import suppress
from typing import Any, NamedTuple

from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from extract.errors import RejectedTile

_PNG = b"\x89PNG\r\n\x1a\n"
_TIFF = {b"II*\0": 8, b"MM\0*": 8, b"II+\0": 16, b"MM\0+": 16}  # header's bytes: TIFF 6, BigTIFF
_FORMATS = ("JPEG", "WEBP", "BMP", "GIF", "JPEG2000", "PPM")
_WIDTH = 256
_HEIGHT = 257
_INTERPRETATION = 262
_CHANNELS = 277
_NODATA = 42113  # GDAL's own tag
_CMYK = 5
_QUIET = threading.Lock()  # the warning filters belong to the whole process
_DAMAGE = (OSError, ValueError, SyntaxError, TypeError, KeyError, IndexError, struct.error)


class Header(NamedTuple):
    """Size [pixels], and the value of pixels without data where the file states one."""

    width: int
    height: int
    nodata: float | None = None


def read_header(data: bytes, *, max_pixels: int) -> Header:
    """Read a picture's header.

    Raises
    ------
    RejectedTile : no image, too large, visibly cut off, or a TIFF of channels that are no colours.
    """
    try:
        header = _read(data)
    except RejectedTile:
        raise
    except Image.DecompressionBombError:
        raise RejectedTile(f"image larger than [tiles] max_pixels = {max_pixels}") from None
    except _DAMAGE:
        raise RejectedTile("not an image") from None
    size = f"image of {header.width} × {header.height} pixels"
    if header.width * header.height > max_pixels:
        raise RejectedTile(f"{size}, larger than [tiles] max_pixels = {max_pixels}")
    if min(header.width, header.height) < 1:
        raise RejectedTile(size)
    return header


def _read(data: bytes) -> Header:
    if data.startswith(_PNG) and data[12:16] == b"IHDR":
        _check_end(data, b"IEND")
        return Header(*struct.unpack(">II", data[16:24]))
    if data[:4] in _TIFF:
        return _read_tiff(data)
    if data.startswith(b"\xff\xd8"):
        _check_end(data, b"\xff\xd9")  # OpenCV fills the missing part of a JPEG with grey, silently
    with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
        return Header(*image.size)


def _check_end(data: bytes, end: bytes) -> None:
    if data.rfind(end, max(0, len(data) - 4096)) < 0:
        raise RejectedTile("image data damaged or truncated")


def _read_tiff(data: bytes) -> Header:
    tags: Any = ImageFileDirectory_v2(data[: _TIFF[data[:4]]])
    file = io.BytesIO(data)
    file.seek(tags.next)
    with _QUIET, warnings.catch_warnings():  # Pillow warns of every odd tag
        warnings.simplefilter("ignore")
        tags.load(file)
    channels = int(tags.get(_CHANNELS, 1))
    if channels not in (1, 3, 4) or tags.get(_INTERPRETATION) == _CMYK:
        raise RejectedTile(
            f"TIFF of {channels} channels that are no colours; expected 1 or 3, or 4 with "
            "transparency"
        )
    header = Header(int(tags[_WIDTH]), int(tags[_HEIGHT]))
    with suppress(ValueError):  # text that is no number is no nodata value
        header = header._replace(nodata=float(str(tags.get(_NODATA)).strip("\0 ")))
    return header
