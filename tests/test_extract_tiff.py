"""What a TIFF says of its samples, written by GDAL and by Pillow."""

from __future__ import annotations

import io
import itertools
import struct
import zlib
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from extract.errors import RejectedTile
from extract.pictures.decode import DecodeOptions, decode_tile

rasterio = pytest.importorskip("rasterio")
SIDE = 24
RNG = np.random.default_rng(0)
LOSSLESS = ["NONE", "LZW", "DEFLATE", "PACKBITS", "ZSTD", "LERC", "LERC_ZSTD", "LZMA"]


def decode(data: bytes, **said: Any) -> np.ndarray:
    return decode_tile(data, DecodeOptions(size=SIDE, max_pixels=10_000, **said))[0]


def by_gdal(bands: np.ndarray, colours: dict[int, tuple[int, ...]] | None = None, **said: Any):
    """Write (n_bands, SIDE, SIDE) as a GeoTIFF."""
    options = {"driver": "GTiff", "width": SIDE, "height": SIDE, "count": len(bands)}
    place = rasterio.Affine(1, 0, 400_000, 0, -1, 300_000)
    with rasterio.MemoryFile() as memory:
        with memory.open(**options, dtype=bands.dtype, transform=place, **said) as file:
            file.write(bands)
            if colours:
                file.write_colormap(1, colours)
        return memory.read()


def by_pillow(image: Image.Image, **said: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, "TIFF", **said)
    return file.getvalue()


def expected(bands: np.ndarray, photometric: str) -> np.ndarray:
    """Return what such bands are, stretched from 0 … 255 where they are not of 8 or 16 bit."""
    values = bands[:3] if len(bands) >= 3 else bands[[0, 0, 0]]
    if bands.dtype == np.uint16:
        levels = values // 256
    else:
        levels = np.rint(values.astype(np.float64)).clip(0, 255)
    levels = 255 - levels if photometric == "MINISWHITE" else levels
    return np.moveaxis(levels, 0, -1).astype(np.uint8)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "uint32", "float32", "float64"])
@pytest.mark.parametrize("interleave", ["pixel", "band"])
def test_samples_are_as_gdal_stored_them_in_every_layout(dtype: str, interleave: str) -> None:
    scale = None if dtype in ("uint8", "uint16") else (0.0, 255.0)
    top = 65_535 if dtype == "uint16" else 255
    kinds = [(1, "MINISBLACK"), (1, "MINISWHITE"), (3, "MINISBLACK"), (3, "RGB"), (4, "RGB")]
    for (n_bands, photometric), packer, tiled in itertools.product(kinds, LOSSLESS, (False, True)):
        bands = RNG.uniform(0, top, (n_bands, SIDE, SIDE)).astype(dtype)
        said = {"blockxsize": 16, "blockysize": 16} if tiled else {}
        data = by_gdal(
            bands,
            photometric=photometric,
            compress=packer,
            interleave=interleave,
            tiled=tiled,
            **said,
        )
        found = decode(data, scale=scale)
        wanted = expected(bands, photometric)
        assert np.array_equal(found, wanted), (n_bands, photometric, packer, tiled)


@pytest.mark.parametrize("packer", [None, "tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_samples_are_as_pillow_stored_them(packer: str | None) -> None:
    grey = RNG.integers(0, 256, (SIDE, SIDE), dtype=np.uint8)
    rgb = RNG.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    alpha = np.full((SIDE, SIDE, 1), 99, np.uint8)
    of_grey = np.dstack([grey] * 3)
    for image, wanted in (
        (grey, of_grey),
        (rgb, rgb),
        (np.dstack([rgb, alpha]), rgb),
        (np.dstack([grey, alpha]), of_grey),
        (grey.astype(np.uint16) * 256 + 3, of_grey),
    ):
        assert np.array_equal(decode(by_pillow(Image.fromarray(image), compression=packer)), wanted)
    palette = Image.fromarray(rgb).quantize(16)
    shown = np.asarray(palette.convert("RGB"))
    assert np.array_equal(decode(by_pillow(palette, compression=packer)), shown)
    black_and_white = Image.fromarray(grey).convert("1")
    shown = np.asarray(black_and_white.convert("RGB"))
    assert np.array_equal(decode(by_pillow(black_and_white, compression=packer)), shown)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_few_bits_are_spread_over_all_levels(bits: int) -> None:
    stored = RNG.integers(0, 1 << bits, (1, SIDE, SIDE), dtype=np.uint8)
    found = decode(by_gdal(stored, nbits=bits))
    assert np.array_equal(found[..., 0], np.rint(stored[0] * (255 / (2**bits - 1))))


def test_a_palette_gives_its_colours() -> None:
    stored = RNG.integers(0, 256, (1, SIDE, SIDE), dtype=np.uint8)
    colours = {i: (i, 255 - i, i // 2, 255) for i in range(256)}
    found = decode(by_gdal(stored, colours, photometric="PALETTE", compress="LZW"))
    wanted = np.array([colours[i][:3] for i in range(256)])[stored[0]]
    assert np.array_equal(found, wanted)


@pytest.mark.parametrize("photometric", ["RGB", "YCBCR"])
def test_jpeg_in_a_tiff_is_near_the_picture(photometric: str) -> None:
    along, down = np.meshgrid(np.arange(0, 240, 10), np.arange(0, 240, 10))
    bands = np.stack([along, down, np.full_like(along, 60)]).astype(np.uint8)
    found = decode(by_gdal(bands, photometric=photometric, compress="JPEG"))
    assert np.abs(found - np.moveaxis(bands, 0, -1).astype(int)).mean() < 4


@pytest.mark.parametrize("kind", ["TIFF", "JPEG", "PNG", "WEBP"])
def test_orientation_is_ignored_in_every_format(kind: str) -> None:
    along, down = np.meshgrid(np.arange(0, 240, 10), np.arange(0, 240, 10))
    smooth = np.dstack([along, down, np.full_like(along, 60)]).astype(np.uint8)
    exif = Image.Exif()
    for turned in range(1, 9):
        exif[274] = turned
        file = io.BytesIO()
        Image.fromarray(smooth).save(file, kind, exif=exif)
        assert np.abs(decode(file.getvalue()).astype(int) - smooth).mean() < 6


def test_a_fourth_band_is_dropped_whatever_it_is_and_only_alpha_is_transparency() -> None:
    bands = np.empty((4, SIDE, SIDE), np.uint8)
    bands[:3] = np.array([200, 150, 100])[:, None, None]
    bands[3] = 0
    for alpha, share in (("NO", 0.0), ("YES", 1.0), ("PREMULTIPLIED", 1.0)):
        data = by_gdal(bands, photometric="RGB", alpha=alpha)
        rgb, empty = decode_tile(data, DecodeOptions(size=SIDE, max_pixels=10_000))
        assert (rgb == [200, 150, 100]).all()
        assert empty == share
    marked = by_gdal(bands, photometric="RGB", alpha="NON-PREMULTIPLIED")
    assert (decode(marked, background=(1, 2, 3)) == [1, 2, 3]).all()
    multiplied = by_gdal(bands, photometric="RGB", alpha="PREMULTIPLIED")
    with pytest.raises(RejectedTile, match="tag 338"):
        decode(multiplied, background=(1, 2, 3))


@pytest.mark.parametrize(
    ("n_bands", "dtype", "said", "reason"),
    [
        (4, "uint8", {"photometric": "CMYK"}, r"tag 262 \(PhotometricInterpretation\) is 5"),
        (3, "uint8", {"photometric": "CIELAB"}, "tag 262 .* is 8"),
        (5, "uint8", {"photometric": "RGB"}, r"tag 277 \(SamplesPerPixel\) is 5"),
        (2, "uint8", {}, "tag 277 .* is 2"),
        (1, "uint16", {"nbits": 12}, r"tag 258 \(BitsPerSample\) is \[12\]"),
        (1, "complex64", {}, r"tag 339 \(SampleFormat\) is \[6\]"),
        (3, "float32", {}, "float32.*scale"),
    ],
)
def test_what_is_not_read_is_rejected_with_the_name_of_the_tag(
    n_bands: int, dtype: str, said: dict[str, Any], reason: str
) -> None:
    with pytest.raises(RejectedTile, match=reason):
        decode(by_gdal(np.ones((n_bands, SIDE, SIDE), dtype), **said))


def test_a_damaged_tiff_is_rejected_with_its_packing() -> None:
    noise = RNG.integers(0, 256, (3, SIDE, SIDE), dtype=np.uint8)
    data = by_gdal(noise, photometric="RGB", compress="ZSTD")
    with pytest.raises(RejectedTile, match=r"tag 259 \(Compression\) is 50000"):
        decode(data[:-300])


def test_a_tile_far_larger_than_the_picture_takes_no_memory() -> None:
    bands = np.ones((1, SIDE, SIDE), np.uint8)
    data = bytearray(by_gdal(bands, tiled=True, blockxsize=16, blockysize=16))
    at = data.find(struct.pack("<HHI", 322, 3, 1))
    data[at + 8 : at + 10] = struct.pack("<H", 65_520)
    with pytest.raises(RejectedTile, match="larger than"):
        decode(bytes(data))


def chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


@pytest.mark.parametrize("mode", ["RGB", "P", "LA"])
def test_an_animated_png_shows_its_default_picture(mode: str) -> None:
    shown = Image.new("RGB", (SIDE, SIDE), (200, 30, 60)).convert(mode)
    other = Image.new("RGB", (SIDE, SIDE), (0, 255, 0)).convert(mode)
    file = io.BytesIO()
    shown.save(file, "PNG", default_image=True, save_all=True, append_images=[other, other])
    assert b"acTL" in file.getvalue()
    wanted = np.asarray(shown.convert("RGB"))
    assert np.array_equal(decode(file.getvalue()), wanted)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_bytes_after_the_end_are_no_damage_and_a_missing_end_is(suffix: str) -> None:
    picture = RNG.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    data = cv2.imencode(suffix, picture)[1].tobytes()
    assert np.array_equal(decode(data + b"x" * 50_000), decode(data))
    with pytest.raises(RejectedTile, match="truncated"):
        decode(data[:-40])


def test_the_end_of_a_thumbnail_is_not_that_of_its_picture() -> None:
    picture = Image.fromarray(RNG.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8))
    file = io.BytesIO()
    picture.save(file, "JPEG")
    data = file.getvalue()
    thumbnail = data[:400] + b"\xff\xd9"
    segment = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    whole = data[:2] + segment + data[2:]
    assert np.array_equal(decode(whole), decode(data))
    with pytest.raises(RejectedTile, match="truncated"):
        decode(whole[:-2])


@pytest.mark.parametrize("interleave", ["pixel", "band"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_bands_of_a_multispectral_picture_are_chosen_and_scaled_by_colour(
    dtype: str, interleave: str
) -> None:
    bands = RNG.uniform(0, 200, (13, SIDE, SIDE)).astype(dtype)
    ranges = ((0.0, 100.0), (50.0, 250.0), (10.0, 20.0))
    rgb = decode(by_gdal(bands, interleave=interleave), bands=(4, 3, 12), scale=ranges)
    for i, (band, (low, high)) in enumerate(zip((4, 3, 12), ranges, strict=True)):
        stretched = (bands[band - 1].astype(np.float32) - low) * (255 / (high - low))
        np.testing.assert_allclose(rgb[..., i], stretched.clip(0, 255), atol=0.51)


def test_bands_without_a_scale_keep_8_bit_and_the_upper_byte_of_16() -> None:
    eight = RNG.integers(0, 256, (5, SIDE, SIDE)).astype(np.uint8)
    chosen = np.moveaxis(eight[[4, 0, 2]], 0, -1)
    np.testing.assert_array_equal(decode(by_gdal(eight), bands=(5, 1, 3)), chosen)
    sixteen = eight.astype(np.uint16) << 8
    np.testing.assert_array_equal(decode(by_gdal(sixteen), bands=(5, 1, 3)), chosen)


@pytest.mark.parametrize(
    ("data", "bands", "reason"),
    [
        (by_gdal(np.zeros((4, SIDE, SIDE), np.uint8)), (5, 1, 2), "of 4 bands.* names 5"),
        (cv2.imencode(".png", np.zeros((SIDE, SIDE, 3), np.uint8))[1].tobytes(), (1, 2, 3), "no T"),
        (by_gdal(np.zeros((80, SIDE, SIDE), np.uint8)), (1, 2, 3), "larger than"),
    ],
)
def test_bands_that_are_not_there_are_a_reject(data: bytes, bands: Any, reason: str) -> None:
    with pytest.raises(RejectedTile, match=reason):
        decode(data, bands=bands)
