"""PNG files of 8-bit colours decoded in half the time: unpacked by libdeflate, the rest by libspng; both free the interpreter.

Only what leaves no doubt is decoded here; for all else, and for whatever is damaged, the answer is None and OpenCV has the
word, so that the pixels are the same with and without the extra `png`.
"""

from __future__ import annotations

import struct
import threading
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {2: 3, 6: 4}  # colour types of PNG: RGB, RGBA
_PLAIN = {
    b"IDAT",
    b"IEND",
    b"bKGD",
    b"cHRM",
    b"gAMA",
    b"iCCP",
    b"iTXt",
    b"pHYs",
    b"sRGB",
    b"tEXt",
    b"tIME",
    b"zTXt",
}  # no pixels
_STORED = 65535  # bytes in a stored block, at most: RFC 1951, 3.2.4
_MOST_PACKED = 1032  # deflate packs no more than so many bytes into one
_END = b"\0\0\0\0IEND\xaeB`\x82"
_HAS_CODECS = find_spec("imagecodecs") is not None
_KEPT_BYTES = 1 << 22  # the largest room that a thread keeps from one picture to the next
_rooms = threading.local()


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


def load_codecs() -> None:
    """Load the optional library now, where it is there, and not with the first picture."""
    if _HAS_CODECS:
        _ = _codecs().spng_decode, _codecs().deflate_decode


def _find_pixels(data: bytes) -> bytes | memoryview | None:
    """Join the pixels' chunks; None where a chunk that could change pixels is there, or one is damaged."""
    crc32 = _codecs().deflate_crc32  # several times as fast as zlib's
    view = memoryview(data)
    parts = list[memoryview]()
    if crc32(view[12:29]) != int.from_bytes(view[29:33], "big"):
        return None
    start = 33
    while start + 12 <= len(data):
        (size,) = struct.unpack_from(">I", data, start)
        kind = data[start + 4 : start + 8]
        end = start + 8 + size
        if kind not in _PLAIN or end + 4 > len(data):
            return None
        if kind == b"IEND":
            return parts[0] if len(parts) == 1 else b"".join(parts)
        if kind == b"IDAT":
            if crc32(view[start + 4 : end]) != int.from_bytes(view[end : end + 4], "big"):
                return None
            parts.append(view[start + 8 : end])
        start = end + 4
    return None


def _decode(header: bytes, packed: bytes | memoryview, n_bytes: int) -> NDArray[np.uint8] | None:
    if not len(packed) or n_bytes > len(packed) * _MOST_PACKED:
        return None
    codecs = _codecs()
    room = _take_room(n_bytes)
    try:
        raw = codecs.deflate_decode(packed, out=room.raw)
        pixels: NDArray[np.uint8] | None = (
            codecs.spng_decode(room.store(header)) if len(raw) == n_bytes else None
        )
    except (codecs.DeflateError, codecs.SpngError, ValueError):
        return None
    return pixels


def _codecs() -> Any:
    """Return the optional library; its own types refuse the memoryviews that it takes."""
    import imagecodecs

    return imagecodecs


def _take_room(n_bytes: int) -> Room:
    """Return the room that this thread had for pictures of this size; new memory for each would be copied into twice."""
    room: Room | None = getattr(_rooms, "last", None)
    if room is None or len(room.raw) != n_bytes:
        room = Room(n_bytes)
        _rooms.last = room if n_bytes <= _KEPT_BYTES else None
    return room


class Room:
    """Memory to unpack one picture in, and to write it as a PNG whose pixels are stored, not compressed.

    Attributes
    ----------
    raw : (n_bytes,), the rows of the picture as the PNG has them, each after the number of its filter.
    """

    def __init__(self, n_bytes: int) -> None:
        self.raw = bytearray(n_bytes)
        starts = range(0, n_bytes, _STORED)
        size = 2 + 5 * len(starts) + n_bytes + 4
        self._png = bytearray(
            b"".join(
                [bytes(33), struct.pack(">I", size), b"IDAT\x78\x01", bytes(size - 2 + 4), _END]
            )
        )
        self._blocks = []
        for number, start in enumerate(starts):
            length = min(_STORED, n_bytes - start)
            at = 43 + 5 * number + start
            struct.pack_into(
                "<BHH", self._png, at, start + _STORED >= n_bytes, length, length ^ 0xFFFF
            )
            self._blocks.append((slice(at + 5, at + 5 + length), slice(start, start + length)))

    def store(self, header: bytes) -> bytearray:
        """Return the PNG of what `raw` holds; it changes with the next picture."""
        codecs = _codecs()
        raw = memoryview(self.raw)
        png = memoryview(self._png)
        end = len(self._png) - len(_END)
        png[:33] = header
        for to, of in self._blocks:
            png[to] = raw[of]
        png[end - 8 : end - 4] = codecs.deflate_adler32(raw).to_bytes(4, "big")
        png[end - 4 : end] = codecs.deflate_crc32(png[37 : end - 4]).to_bytes(4, "big")
        return self._png
