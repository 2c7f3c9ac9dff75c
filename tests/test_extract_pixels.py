from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image

from extract.images import RejectedTile
from extract.pixels import decode_tile

RGB = np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)


def encoded(image, suffix=".png"):
    return cv2.imencode(suffix, image)[1].tobytes()


def decode(data, size=20, max_pixels=10_000):
    return decode_tile(data, size=size, max_pixels=max_pixels)


def test_rgb_and_rgba_keep_their_colours():
    np.testing.assert_array_equal(decode(encoded(RGB[..., ::-1])), RGB)
    rgba = np.dstack([RGB[..., ::-1], np.full((20, 20), 7, np.uint8)])
    np.testing.assert_array_equal(decode(encoded(rgba)), RGB)


def test_greyscale_fills_three_channels_and_16_bit_keeps_the_upper_byte():
    grey = RGB[..., 0]
    for image in (grey, grey.astype(np.uint16) * 256 + 99):
        np.testing.assert_array_equal(decode(encoded(image)), np.dstack([grey] * 3))


def test_palette_and_cmyk_are_read(tmp_path):
    flat = Image.new("RGB", (20, 20), (200, 30, 60))
    flat.convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "p.png")
    flat.convert("CMYK").save(tmp_path / "c.jpg", quality=95)
    for name in ("p.png", "c.jpg"):
        colour = decode((tmp_path / name).read_bytes()).reshape(-1, 3).mean(axis=0)
        np.testing.assert_allclose(colour, (200, 30, 60), atol=6)


def test_what_a_file_is_its_bytes_say(tmp_path):
    (tmp_path / "x.png").write_bytes(encoded(RGB, ".jpg"))
    assert decode((tmp_path / "x.png").read_bytes()).shape == (20, 20, 3)


@pytest.mark.parametrize("shape", [(1, 1, 3), (7, 90, 3), (64, 64, 3)])
def test_other_sizes_are_resized(shape):
    image = np.full(shape, 90, np.uint8)
    np.testing.assert_array_equal(decode(encoded(image), size=32), np.full((32, 32, 3), 90))


@pytest.mark.parametrize(("data", "reason"), [
    (b"hello, I am a text", "not an image"),
    (encoded(RGB)[:200], "truncated"),
    (encoded(RGB)[:-12], "truncated"),
    (encoded(RGB, ".jpg")[:-200], "truncated"),
    (encoded(np.zeros((200, 200), np.uint8)), "200 × 200 pixels, larger than"),
    (cv2.imencode(".tiff", np.zeros((9, 9), np.float32))[1].tobytes(), "float32"),
])
def test_what_cannot_be_used_is_rejected_with_its_reason(data, reason):
    with pytest.raises(RejectedTile, match=reason):
        decode(data)
