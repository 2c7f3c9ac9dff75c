"""Decode PNG files of 8-bit colours in half the time, by libdeflate and libspng.

Both free the interpreter. Only what leaves no doubt is decoded here: all else, and whatever is
damaged, is left to OpenCV.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from extract.config.arrays import Pixels
from extract.pictures.codecs import load_codecs

_START = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
_CHANNELS = {2: 3, 6: 4}  # colour types of PNG: RGB, RGBA
_ANIMATION = {b"acTL", b"fcTL", b"fdAT"}  # beside the picture that every reader shows
_NO_PIXELS = _ANIMATION.union(b"bKGD cHRM eXIf gAMA iCCP iTXt pHYs sRGB tEXt tIME zTXt".split())
_STORED = 65535  # bytes in a stored block, at most: RFC 1951, 3.2.4
_MOST_PACKED = 1032  # deflate packs no more than so many bytes into one
_END = b"\0\0\0\0IEND\xaeB`\x82"


class Chunk(NamedTuple):
    """A part of a PNG: what it is, where its content begins, and where that ends."""

    kind: bytes
    start: int
    end: int


def decode_png(data: bytes) -> Pixels | None:
    """Decode a PNG of 8 bit a channel, RGB or RGBA, not interlaced.

    libspng spends most of its time in zlib. So libdeflate unpacks the pixels, and libspng decodes
    them from a PNG that is not compressed.

    Returns
    -------
    (h, w, 3 or 4) uint8, RGB or RGBA; None for any other file and for what is damaged.
    """
    if data[:16] != _START or len(data) < 45:
        return None
    width, height, depth, colour, _, _, interlace = struct.unpack_from(">IIBBBBB", data, 16)
    n_channels = _CHANNELS.get(colour)
    if n_channels is None or depth != 8 or interlace != 0:
        return None
    row_bytes = 1 + width * n_channels  # each row after the number of its filter
    n_bytes = height * row_bytes
    packed = _find_pixels(data)
    if n_bytes > len(packed) * _MOST_PACKED:
        return None
    codecs = load_codecs()
    try:
        plain = _unpack(data[:33], packed, n_bytes)
        return np.asarray(codecs.spng_decode(plain))
    except (codecs.DeflateError, codecs.SpngError, ValueError):
        return None


def drop_animation(data: bytes) -> bytes:
    """Return a PNG without the frames beside its picture, of which OpenCV would show the first."""
    if not data.startswith(_START[:8]):
        return data
    pixels = data.find(b"IDAT")
    if data.find(b"acTL", 0, pixels) < 0:
        return data
    parts = [data[:8]]
    for chunk in _list_chunks(data):
        if chunk.kind not in _ANIMATION:
            parts.append(data[chunk.start - 8 : chunk.end + 4])
    return b"".join(parts)


def _list_chunks(data: bytes) -> Iterator[Chunk]:
    """Yield the chunks of a PNG up to its end, or to where it is cut off."""
    start = 16
    while start + 4 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, start - 8)
        end = start + size
        if end + 4 > len(data):
            return
        yield Chunk(kind, start, end)
        if kind == b"IEND":
            return
        start = end + 12


def _find_pixels(data: bytes) -> bytes | memoryview:
    """Join the chunks of pixels; empty where one is damaged or another could change pixels."""
    crc32 = load_codecs().deflate_crc32  # several times as fast as zlib's
    view = memoryview(data)
    parts: list[memoryview] = []
    for kind, start, end in _list_chunks(data):
        if kind == b"IEND":
            return parts[0] if len(parts) == 1 else b"".join(parts)
        if kind in _NO_PIXELS:
            continue
        (stated,) = struct.unpack_from(">I", data, end)
        if crc32(view[start - 4 : end]) != stated:
            break
        if kind == b"IDAT":
            parts.append(view[start:end])
        elif kind != b"IHDR":
            break
    return b""


def _unpack(header: bytes, packed: bytes | memoryview, n_bytes: int) -> memoryview:
    """Return a PNG of the same header whose rows are stored, not compressed.

    The rows are unpacked where they end in the PNG, and moved towards its start to make room for
    the headers of the blocks: new memory costs as much time here as all the rest.
    """
    codecs = load_codecs()
    n_blocks = math.ceil(n_bytes / _STORED)
    before = 43 + 5 * n_blocks
    end = before + n_bytes
    png = np.empty(end + 8 + len(_END), np.uint8).data
    rows = png[before:end]
    unpacked = codecs.deflate_decode(packed, out=rows)
    if len(unpacked) != n_bytes:
        raise ValueError
    checksum = codecs.deflate_adler32(rows)
    struct.pack_into(">33sI4s2s", png, 0, header, end - 37, b"IDAT", b"\x78\x01")
    at = 43
    for start in range(0, n_bytes, _STORED):
        block = rows[start : start + _STORED]
        size = len(block)
        is_last = start + size == n_bytes
        struct.pack_into("<BHH", png, at, is_last, size, size ^ 0xFFFF)
        at += 5
        png[at : at + size] = block
        at += size
    struct.pack_into(">I", png, end, checksum)
    checksum = codecs.deflate_crc32(png[37 : end + 4])
    struct.pack_into(">I", png, end + 4, checksum)
    png[end + 8 :] = _END
    return png
