from __future__ import annotations

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from extract.pictures.fast_png import decode_png

RNG = np.random.default_rng(0)


def opencv(data):
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None:
        return None
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB if image.shape[2] == 3 else cv2.COLOR_BGRA2RGBA)


def png(mode="RGB", size=(61, 47), smooth=True, **options):
    n = len(mode)
    noise = RNG.integers(0, 256, (size[1], size[0], n))
    ramp = (
        np.add.outer(np.arange(size[1]), np.arange(size[0]))[..., None] * np.arange(1, n + 1) % 256
    )
    pixels = (ramp + noise // 32 if smooth else noise).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if n == 1 else pixels).save(file, "PNG", **options)
    return file.getvalue()


def with_chunk(data, kind, content):
    chunk = (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )
    return data[:33] + chunk + data[33:]


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"smooth": False},
        {"compress_level": 0},
        {"compress_level": 9},
        {"size": (1, 1)},
        {"size": (300, 300)},
        {"icc_profile": b"x" * 200},
        {"dpi": (72, 72)},
    ],
)
def test_the_quick_way_gives_the_pixels_that_opencv_gives(mode, options):
    data = png(mode, **options)
    quick = decode_png(data)
    assert quick is not None
    assert np.array_equal(quick, opencv(data))


def test_a_picture_that_was_decoded_stays_as_it_is_when_the_next_is():
    files = [
        png(mode, size) for mode in ("RGB", "RGBA") for size in ((40, 30), (40, 30), (300, 290))
    ]
    quick = [decode_png(data) for data in files]
    assert all(np.array_equal(one, opencv(data)) for one, data in zip(quick, files, strict=True))


@pytest.mark.parametrize(
    "data",
    [
        png("L"),
        b"",
        b"\x89PNG\r\n\x1a\n",
        png()[:-20],
        png()[:40],
        with_chunk(png(), b"tRNS", bytes(6)),
        with_chunk(png(), b"abCD", b"private"),
        cv2.imencode(".png", np.zeros((4, 4, 3), np.uint16))[1].tobytes(),
        cv2.imencode(".jpg", np.zeros((4, 4, 3), np.uint8))[1].tobytes(),
    ],
    ids=[
        "grey",
        "empty",
        "signature",
        "no-end",
        "cut",
        "transparent-colour",
        "private-chunk",
        "16-bit",
        "jpeg",
    ],
)
def test_what_leaves_a_doubt_is_left_to_opencv(data):
    assert decode_png(data) is None


def test_a_damaged_file_never_gives_other_pixels_than_opencv():
    whole = png("RGBA", (40, 30))
    n_refused = 0
    for i in range(400):
        data = bytearray(whole)
        at = int(RNG.integers(8, len(data)))
        data[at] ^= 1 << int(RNG.integers(8))
        if i % 2 and 41 < at < len(data) - 20:  # with a checksum that says all is well
            size = struct.unpack_from(">I", data, 33)[0]
            data[41 + size : 45 + size] = struct.pack(">I", zlib.crc32(data[37 : 41 + size]))
        quick = decode_png(bytes(data))
        n_refused += quick is None
        if quick is not None:
            assert np.array_equal(quick, opencv(bytes(data)))
    assert n_refused > 350


def test_a_header_that_promises_more_than_there_is_takes_no_memory():
    data = bytearray(png())
    data[16:24] = struct.pack(">II", 60_000, 1)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    assert decode_png(bytes(data)) is None
