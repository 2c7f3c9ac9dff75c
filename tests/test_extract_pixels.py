from __future__ import annotations

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from extract.errors import RejectedTile
from extract.pictures.decode import DecodeOptions, decode_tile, describe

RGB = np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)


def encoded(image, suffix=".png"):
    return cv2.imencode(suffix, image)[1].tobytes()


def look(size=20, max_pixels=10_000, **said):
    return DecodeOptions(size=size, max_pixels=max_pixels, **said)


def decode(data, **said):
    return decode_tile(data, look(**said))[0]


def tiff(image, **tags):
    """A TIFF by Pillow, with GDAL's nodata tag where `nodata` is given."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "TIFF", tiffinfo={42113: tags["nodata"]} if tags else {})
    return file.getvalue()


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


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"hello, I am a text", "not an image"),
        (encoded(RGB)[:200], "truncated"),
        (encoded(RGB)[:-12], "truncated"),
        (encoded(RGB, ".jpg")[:-200], "truncated"),
        (encoded(np.zeros((200, 200), np.uint8)), "200 × 200 pixels, larger than"),
        (
            cv2.imencode(".tiff", np.zeros((9, 9), np.float32))[1].tobytes(),
            "float32.*set .tiles. scale",
        ),
        (b"", "not an image"),
        (b"\x89PNG\r\n\x1a\n", "not an image"),
        (b"II*\0\xff\xff\xff\xff", "not an image"),
        (encoded(RGB, ".webp")[:-200], "not an image|truncated"),
        (encoded(RGB, ".tiff")[:300], "not an image|truncated"),
    ],
)
def test_what_cannot_be_used_is_rejected_with_its_reason(data, reason):
    with pytest.raises(RejectedTile, match=reason):
        decode(data)


def test_a_bomb_is_refused_by_its_header_before_it_is_decoded():
    header = struct.pack(">II5B", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunk = (
        struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    )
    with pytest.raises(RejectedTile, match="60000 × 60000 pixels, larger than"):
        decode(b"\x89PNG\r\n\x1a\n" + chunk + b"IEND", max_pixels=100_000_000)


def test_a_damaged_byte_in_a_png_is_seen():
    data = bytearray(encoded(RGB))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(RejectedTile, match="damaged"):
        decode(bytes(data))


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".webp", ".jpg"])
def test_every_format_gives_the_picture(suffix):
    smooth = np.dstack(np.meshgrid(np.arange(0, 200, 10), np.arange(0, 200, 10))).astype(np.uint8)
    smooth = np.dstack([smooth, np.full((20, 20), 60, np.uint8)])
    error = np.abs(decode(encoded(smooth[..., ::-1], suffix)).astype(int) - smooth)
    assert error.mean() < (8 if suffix == ".jpg" else 3 if suffix == ".webp" else 0.01)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int32", "float32", "float64"])
def test_single_bands_are_stretched_by_the_stated_limits_and_never_by_the_tile(dtype):
    values = np.array([[-1, 0, 50], [80, 100, 120]]).repeat(10, 0).repeat(10, 1)
    values = np.maximum(values, 0 if dtype.startswith("u") else -1).astype(dtype)
    found = decode(cv2.imencode(".tiff", values)[1].tobytes(), size=32, scale=(50.0, 100.0))
    assert set(
        np.unique(decode_tile(encoded(values[:10, 20:], ".tiff"), look(scale=(50.0, 100.0)))[0])
    ) == {0}
    assert (found.min(), found.max()) == (0, 255)
    np.testing.assert_array_equal(found[-1, 5], [153] * 3)
    np.testing.assert_array_equal(found[0, 0], [0] * 3)


def test_eight_bit_colours_are_not_stretched():
    np.testing.assert_array_equal(decode(encoded(RGB[..., ::-1]), scale=(50.0, 100.0)), RGB)


@pytest.mark.parametrize(
    ("value", "data", "said"),
    [
        (-9999.0, {}, {"nodata": -9999.0}),
        (-9999.0, {"nodata": "-9999"}, {}),
        (-3.4028234663852886e38, {"nodata": "-3.40282346638528859e+38"}, {}),
        (np.nan, {}, {}),
        (np.inf, {}, {}),
    ],
)
def test_nodata_is_counted_takes_the_background_and_does_not_bleed(value, data, said):
    heights = np.full((40, 40), 80.0, np.float32)
    heights[:, :12] = value
    for size, columns in ((40, 12), (20, 6), (32, 9), (64, 19)):
        rgb, share = decode_tile(
            tiff(heights, **data), look(size=size, scale=(0.0, 100.0), background=(1, 2, 3), **said)
        )
        assert share == pytest.approx(0.3)
        np.testing.assert_array_equal(
            rgb[:, :columns], np.broadcast_to([1, 2, 3], (size, columns, 3))
        )
        np.testing.assert_array_equal(rgb[:, columns + 1 :], 204)
    black, _ = decode_tile(tiff(heights, **data), look(scale=(0.0, 100.0), **said))
    assert black[0, 0].tolist() == [0, 0, 0]


def test_nodata_of_whole_numbers_is_told_from_the_others():
    heights = np.full((20, 20), 500, np.uint16)
    heights[:5] = 65535
    rgb, share = decode_tile(encoded(heights), look(nodata=65535, scale=(0.0, 1000.0)))
    assert (share, rgb[0, 0, 0], rgb[-1, 0, 0]) == (0.25, 0, 128)
    assert decode_tile(encoded(RGB), look(nodata=-9999.5))[1] == 0.0


def test_transparency_lies_over_the_background_where_one_is_stated():
    rgba = np.full((20, 20, 4), (10, 100, 200, 255), np.uint8)
    rgba[:10, :, 3], rgba[10:12, :, 3] = 0, 51
    for data in (
        encoded(rgba),
        encoded(rgba.astype(np.uint16) * 257),
        tiff(rgba[..., [2, 1, 0, 3]]),
    ):
        dropped, share = decode_tile(data, look())
        assert (share, dropped[0, 0].tolist()) == (0.5, [200, 100, 10])
        over, share = decode_tile(data, look(background=(255, 255, 0)))
        assert (share, over[0, 0].tolist(), over[-1, 0].tolist()) == (
            0.5,
            [255, 255, 0],
            [200, 100, 10],
        )
        np.testing.assert_allclose(over[10, 0], (244, 224, 2), atol=1)


def cmyk_tiff():
    file = io.BytesIO()
    Image.new("CMYK", (9, 9)).save(file, "TIFF")
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (cmyk_tiff(), "tag 262"),
        (encoded(np.zeros((9, 9, 4), np.float32), ".tiff"), "float32.*scale"),
        (encoded(np.zeros((9, 9), np.float64), ".tiff"), "float64.*scale"),
        (encoded(np.zeros((9, 9), np.int16), ".tiff"), "int16.*scale"),
        (encoded(np.zeros((9, 9), np.uint32), ".tiff"), "uint32.*scale"),
    ],
)
def test_odd_tiffs_are_rejected_with_the_remedy(data, reason):
    with pytest.raises(RejectedTile, match=reason):
        decode(data)


def test_equal_pictures_have_equal_hashes_and_like_ones_near_hashes():
    smooth = cv2.resize(
        np.random.default_rng(1).integers(0, 256, (6, 6, 3), dtype=np.uint8), (64, 64)
    )
    brighter = (smooth * 0.8 + 20).astype(np.uint8)
    a, b, c = (
        describe(x, n_bytes=7, nodata=0.5) for x in (smooth, brighter, smooth[:, ::-1].copy())
    )
    assert a["content"] != b["content"]
    assert a == describe(smooth.copy(), n_bytes=7, nodata=0.5)
    assert (a["bytes"], a["nodata"]) == (7, 0.5)
    np.testing.assert_allclose(a["mean"], smooth.reshape(-1, 3).mean(axis=0), rtol=1e-5)
    near, far = (bin(int(a["perceptual"]) ^ int(x["perceptual"])).count("1") for x in (b, c))
    assert near <= 4 < far
