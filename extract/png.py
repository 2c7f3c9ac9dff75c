"""PNG files of 8-bit colours decoded in half the time: unpacked by libdeflate, the rest by libspng; both free the interpreter.

Only what leaves no doubt is decoded here; for all else, and for whatever is damaged, the answer is None and OpenCV has the
word, so that the pixels are the same with and without the extra `png`.
"""

from __future__ import annotations

import struct
import zlib
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {2: 3, 6: 4}  # colour types of PNG: RGB, RGBA
_PLAIN = {b"IDAT", b"IEND", b"bKGD", b"cHRM", b"gAMA", b"iCCP", b"iTXt", b"pHYs", b"sRGB", b"tEXt", b"tIME", b"zTXt"}  # no pixels
_STORED = 65535  # bytes in a stored block, at most: RFC 1951, 3.2.4
_END = b"\0\0\0\0IEND\xaeB`\x82"
_HAS_CODECS = find_spec("imagecodecs") is not None


def decode_png(data: bytes) -> NDArray[np.uint8] | None:
    """Decode a PNG of 8 bit a channel, RGB or RGBA, not interlaced; None for any other and for what is damaged.

    libspng spends most of its time in zlib. So libdeflate unpacks the pixels, and libspng is given them in a PNG that is not
    compressed.

    Returns
    -------
    (h, w, 3 or 4) uint8, RGB or RGBA.
    """
    if not _HAS_CODECS or data[:8] != _SIGNATURE or data[12:16] != b"IHDR" or len(data) < 45:
        return None
    width, height, depth, colour, _, _, interlace = struct.unpack_from(">IIBBBBB", data, 16)
    packed = _find_pixels(data) if (depth, interlace) == (8, 0) and colour in _CHANNELS else None
    if packed is None:
        return None
    return _decode(data[:33], packed, height * (1 + width * _CHANNELS[colour]))


def _find_pixels(data: bytes) -> bytes | None:
    """Join the pixels' chunks; None where a chunk that could change pixels is there, or one is damaged."""
    view, parts = memoryview(data), list[memoryview]()
    if zlib.crc32(view[12:29]) != int.from_bytes(view[29:33], "big"):
        return None
    start = 33
    while start + 12 <= len(data):
        (size,) = struct.unpack_from(">I", data, start)
        kind, end = data[start + 4:start + 8], start + 8 + size
        if kind not in _PLAIN or end + 4 > len(data):
            return None
        if kind == b"IEND":
            return b"".join(parts)
        if kind == b"IDAT":
            if zlib.crc32(view[start + 4:end]) != int.from_bytes(view[end:end + 4], "big"):
                return None
            parts.append(view[start + 8:end])
        start = end + 4
    return None


def _decode(header: bytes, packed: bytes, n_bytes: int) -> NDArray[np.uint8] | None:
    import imagecodecs

    try:
        raw: Any = imagecodecs.deflate_decode(packed, out=n_bytes)
        return imagecodecs.spng_decode(_store(header, raw)) if len(raw) == n_bytes else None
    except (imagecodecs.DeflateError, imagecodecs.SpngError, ValueError):
        return None


def _store(header: bytes, raw: bytes) -> bytes:
    """Write a PNG whose pixels are stored, not compressed."""
    view = memoryview(raw)
    parts: list[bytes | memoryview] = [b"IDAT\x78\x01"]
    for start in range(0, len(raw), _STORED):
        block = view[start:start + _STORED]
        parts += [struct.pack("<BHH", start + _STORED >= len(raw), len(block), len(block) ^ 0xFFFF), block]
    body = b"".join([*parts, zlib.adler32(raw).to_bytes(4, "big")])
    return b"".join([header, struct.pack(">I", len(body) - 4), body, zlib.crc32(body).to_bytes(4, "big"), _END])
