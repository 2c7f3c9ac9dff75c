"""Decode PNG files of 8-bit colours in half the time, by libdeflate and libspng.

Both free the interpreter. Only what leaves no doubt is decoded here: all else, and whatever is
damaged, is left to OpenCV, so that the pixels are the same with and without the extra `png`.
"""

from __future__ import annotations

import struct
from importlib.util import find_spec
from typing import Any

import numpy as np

from extract.config.arrays import Pixels

_START = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
_CHANNELS = {2: 3, 6: 4}  # colour types of PNG: RGB, RGBA
_NO_PIXELS = b"bKGD cHRM gAMA iCCP iTXt pHYs sRGB tEXt tIME zTXt".split()
_STORED = 65535  # bytes in a stored block, at most: RFC 1951, 3.2.4
_MOST_PACKED = 1032  # deflate packs no more than so many bytes into one
_END = b"\0\0\0\0IEND\xaeB`\x82"
_HAS_CODECS = find_spec("imagecodecs") is not None


def decode_png(data: bytes) -> Pixels | None:
    """Decode a PNG of 8 bit a channel, RGB or RGBA, not interlaced.

    libspng spends most of its time in zlib. So libdeflate unpacks the pixels, and libspng decodes
    them from a PNG that is not compressed.

    Returns
    -------
    (h, w, 3 or 4) uint8, RGB or RGBA; None for any other file and for what is damaged.
    """
    if not _HAS_CODECS or data[:16] != _START or len(data) < 45:
        return None
    width, height, depth, colour, _, _, interlace = struct.unpack_from(">IIBBBBB", data, 16)
    if (depth, interlace) != (8, 0) or colour not in _CHANNELS:
        return None
    n_bytes = height * (1 + width * _CHANNELS[colour])  # each row after the number of its filter
    packed = _find_pixels(data)
    if n_bytes > len(packed) * _MOST_PACKED:
        return None
    codecs = _load()
    try:
        return np.asarray(codecs.spng_decode(_unpack(data[:33], packed, n_bytes)))
    except (codecs.DeflateError, codecs.SpngError, ValueError):
        return None


def load_codecs() -> None:
    """Load the optional library now, where it is there, and not with the first picture."""
    if _HAS_CODECS:
        _ = _load().spng_decode, _load().deflate_decode


def _load() -> Any:
    """Return the optional library; its own types refuse the memoryviews that it takes."""
    import imagecodecs

    return imagecodecs


def _find_pixels(data: bytes) -> bytes | memoryview:
    """Join the chunks of pixels; empty where one is damaged or another could change pixels."""
    crc32 = _load().deflate_crc32  # several times as fast as zlib's
    view = memoryview(data)
    parts: list[memoryview] = []
    start = 8
    while start + 12 <= len(data):
        (size,) = struct.unpack_from(">I", data, start)
        kind = data[start + 4 : start + 8]
        end = start + 8 + size
        if end + 4 > len(data):
            break
        if kind == b"IEND":
            return parts[0] if len(parts) == 1 else b"".join(parts)
        if kind not in _NO_PIXELS:
            is_known = kind == b"IDAT" or start == 8
            stated = int.from_bytes(view[end : end + 4], "big")
            if not is_known or crc32(view[start + 4 : end]) != stated:
                break
        if kind == b"IDAT":
            parts.append(view[start + 8 : end])
        start = end + 4
    return b""


def _unpack(header: bytes, packed: bytes | memoryview, n_bytes: int) -> memoryview:
    """Return a PNG of the same header whose rows are stored, not compressed.

    The rows are unpacked where they end in the PNG, and moved towards its start to make room for
    the headers of the blocks: new memory costs as much time here as all the rest.
    """
    codecs = _load()
    n_blocks = -(-n_bytes // _STORED)
    before = 43 + 5 * n_blocks
    end = before + n_bytes
    png = np.empty(end + 8 + len(_END), np.uint8).data
    rows = png[before:end]
    if len(codecs.deflate_decode(packed, out=rows)) != n_bytes:
        raise ValueError
    checksum = codecs.deflate_adler32(rows)
    png[:43] = struct.pack(">33sI4s2s", header, end - 37, b"IDAT", b"\x78\x01")
    for start in range(0, n_bytes, _STORED):
        size = min(_STORED, n_bytes - start)
        at = 43 + start + 5 * (start // _STORED)
        struct.pack_into("<BHH", png, at, start + size == n_bytes, size, size ^ 0xFFFF)
        block = rows[start : start + size]
        png[at + 5 : at + 5 + size] = block
    struct.pack_into(">I", png, end, checksum)
    chunk = png[37 : end + 4]
    struct.pack_into(">I", png, end + 4, codecs.deflate_crc32(chunk))
    png[end + 8 :] = _END
    return png
