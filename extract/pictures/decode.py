"""Decode one picture's bytes to one uint8 array, or say why it cannot be used."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from extract.config.arrays import Array, Bools, ColourScale, Ints, Pixels
from extract.errors import RejectedTile
from extract.pictures.fast_png import decode_png, drop_animation
from extract.pictures.headers import read_header
from extract.pictures.tiff import decode_tiff

cv2.setNumThreads(1)  # one thread a file: the loop decodes many files at once
# What cannot be decoded stands in rejects.csv, not in the middle of the progress bar.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

# number of channels → conversion to RGB
_FROM_BGR = {
    1: cv2.COLOR_GRAY2RGB,
    3: cv2.COLOR_BGR2RGB,
    4: cv2.COLOR_BGRA2RGB,
}
_FROM_RGB = {
    1: cv2.COLOR_GRAY2RGB,
    4: cv2.COLOR_RGBA2RGB,
}

Values = Array  # of any type that a picture may have
Mask = Bools


class Samples(NamedTuple):
    """Samples of a picture, as stored.

    Attributes
    ----------
    image : (height, width), or (height, width, 3 or 4).
    to_rgb : conversions to RGB, by the number of channels.
    alpha : (height, width); None where there is no transparency.
    is_negative : whether 0 is white.
    nodata : value of pixels without data; None where the file states none.
    """

    image: Values
    to_rgb: dict[int, int]
    alpha: Values | None = None
    is_negative: bool = False
    nodata: float | None = None


# Statistics without a network: for the `metadata` baseline and the audit's search for duplicates.
PICTURE = np.dtype(
    [
        ("bytes", "<i8"),  # size of the file
        ("mean", "<f4", (3,)),  # of R, G, B, 0 … 255
        ("spread", "<f4", (3,)),  # standard deviation of R, G, B
        ("nodata", "<f4"),  # share of the pixels without data or fully transparent, 0 … 1
        ("content", "<u8"),  # hash of the decoded pixels: equal for equal pictures
        ("perceptual", "<u8"),  # difference hash: few bits differ between like pictures
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeOptions:
    """How pictures become colours.

    Attributes
    ----------
    size : side of the result [pixels].
    max_pixels : largest width × height that is decoded.
    scale : (low, high), values that become 0 and 255; of single bands, and of any picture of 16
        bit or more. Or three such pairs, for R, G and B of any picture.
    bands : which bands of a TIFF become R, G and B, from 1; None for colours as its tags say.
    nodata : value of pixels without data, beside NaN and what a GeoTIFF states itself.
    background : colour under transparent pixels and of those without data; None drops
        transparency and takes black.
    """

    size: int
    max_pixels: int
    scale: ColourScale | None = None
    bands: tuple[int, int, int] | None = None
    nodata: float | None = None
    background: tuple[int, int, int] | None = None


def decode_tile(data: bytes, options: DecodeOptions) -> tuple[Pixels, float]:
    """Decode a picture as the networks take it.

    Samples are taken as stored: no colour profile and no orientation is applied, in no format.
    Greyscale and palettes become RGB. Transparency is dropped as Keras's `load_img` drops it,
    unless a background is stated. 16 bit keeps its upper byte, unless a scale is stated. Other
    sizes are resized: area mean when shrinking, else bilinear; pixels without data have no weight
    in it. The format is that of the bytes, not of the file's name.

    Parameters
    ----------
    data : content of a PNG, JPEG, WebP, TIFF or whatever else OpenCV reads.
    options : size, and how values become colours.

    Returns
    -------
    (size, size, 3) uint8, RGB; and the share of the pixels without data or fully transparent.

    Raises
    ------
    RejectedTile : no image, truncated, too large, or of a pixel type that has no stated range.
    """
    samples = _read_samples(data, options)
    image = samples.image
    empty = _find_nodata(image, (options.nodata, samples.nodata))
    rgb = _as_uint8(image, options.scale)
    n_channels = 1 if image.ndim == 2 else image.shape[2]
    if n_channels in samples.to_rgb:
        rgb = cv2.cvtColor(rgb, samples.to_rgb[n_channels])
    if samples.is_negative:
        rgb = ~rgb
    if samples.alpha is not None and options.background is not None:
        rgb = _blend(rgb, samples.alpha, options.background)
    share = _share_of_empty(empty, samples.alpha)
    if empty is not None:
        rgb = _resize_with_gaps(rgb, empty, options)
    else:
        rgb = _resize(rgb, options.size)
    return np.ascontiguousarray(rgb), share


def _read_samples(data: bytes, options: DecodeOptions) -> Samples:
    has_bands = options.bands is not None
    tags = read_header(data, max_pixels=options.max_pixels, has_bands=has_bands).tiff
    if has_bands and tags is None:
        raise RejectedTile("no TIFF, of which [tiles] bands could choose")
    if tags is not None:
        if tags.is_multiplied and options.background is not None:
            raise RejectedTile(
                "TIFF tag 338 (ExtraSamples) is 1: its colours are multiplied by alpha already, and"
                " [tiles] background would count it twice; expected 2"
            )
        found = decode_tiff(data, tags, options.bands)
        return Samples(found.image, _FROM_RGB, found.alpha, found.is_negative, tags.nodata)
    to_rgb = _FROM_RGB
    image: Values | None = decode_png(data)
    if image is None:
        image = _decode(data)
        to_rgb = _FROM_BGR
    has_alpha = image.ndim == 3 and image.shape[2] == 4
    alpha = cv2.extractChannel(image, 3) if has_alpha else None
    return Samples(image, to_rgb, alpha)


def describe(rgb: Pixels, *, n_bytes: int, nodata: float) -> NDArray[np.void]:
    """Compute the statistics of a picture that need no network.

    Parameters
    ----------
    rgb : (size, size, 3) uint8.
    n_bytes : size of its file.
    nodata : share of its pixels without data.

    Returns
    -------
    () of `PICTURE`. The perceptual hash is the 64-bit difference hash of the grey picture
    (N. Krawetz, 2013, "Kind of Like That"): one bit for each of 8 × 8 cells, set where the cell to
    the right is brighter.
    """
    mean, spread = cv2.meanStdDev(rgb)
    content = hashlib.sha1(rgb.data, usedforsecurity=False).digest()
    statistics = (mean[:, 0], spread[:, 0], nodata)
    hashes = np.frombuffer(content[:8] + _difference_hash(rgb), "<u8")
    return np.array((n_bytes, *statistics, *hashes), PICTURE)


def _difference_hash(rgb: Pixels) -> bytes:
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    rows, columns, areas = _cut_cells(len(grey))
    # sums of the largest pictures wrap, their differences over a cell are exact
    table = cv2.integral(grey, sdepth=cv2.CV_32S)
    corners = table[rows, columns]
    strips = np.diff(corners, axis=0)
    sums = np.diff(strips, axis=1)
    means = sums / areas
    is_brighter = np.diff(means, axis=1) > 0
    return np.packbits(is_brighter).tobytes()


@cache
def _cut_cells(side: int) -> tuple[Ints, ...]:
    """Return borders of rows (9, 1) and columns (10,) of the hash's cells, and areas (8, 9)."""
    rows = np.linspace(0, side, 9).astype(np.int64)
    columns = np.linspace(0, side, 10).astype(np.int64)
    heights = np.diff(rows)
    areas = np.outer(heights, np.diff(columns))
    return rows[:, None], columns, areas


def _decode(data: bytes) -> Values:
    """Decode by OpenCV: (h, w), or (h, w, 3 or 4) BGR."""
    content = np.frombuffer(drop_animation(data), np.uint8)
    try:
        image = cv2.imdecode(content, cv2.IMREAD_UNCHANGED)
    except cv2.error:
        image = None
    if image is None or not image.size:
        raise RejectedTile("image data damaged or truncated")
    if image.ndim == 2:
        return image
    n_channels = image.shape[2]
    if n_channels not in _FROM_BGR:
        raise RejectedTile(f"image of {n_channels} channels; expected 1, 3 or 4")
    return image[..., 0] if n_channels == 1 else image


def _find_nodata(image: Values, stated: tuple[float | None, ...]) -> Mask | None:
    """Mark the pixels (h, w) without data; None if there are none.

    They are NaN or infinite in any channel, or have a stated nodata value in all.
    """
    is_float = image.dtype.kind == "f"
    values = [value for value in stated if value is not None]
    if not is_float and not values:
        return None
    colour = np.atleast_3d(image)[..., :3]
    empty = ~np.isfinite(colour).all(axis=2)
    with np.errstate(over="ignore"):
        for value in values:
            exact = image.dtype.type(value) if is_float else value
            same = colour == exact
            empty |= same.all(axis=2)
    return empty if empty.any() else None


def _as_uint8(image: Values, scale: ColourScale | None) -> Pixels:
    """Map values to 0 … 255: by the scale, else 8 bit unchanged and 16 bit by the upper byte."""
    is_by_band = isinstance(scale, tuple) and len(scale) == 3
    if scale is not None and (is_by_band or image.ndim == 2 or image.dtype != np.uint8):
        if is_by_band and image.ndim == 2:
            raise RejectedTile("one band; [tiles] scales has three ranges")
        low, high = np.array(scale, np.float32).T
        exact: Values = image.astype(np.result_type(image.dtype, np.float32))
        with np.errstate(over="ignore", invalid="ignore"):
            stretched = (exact - low) * (255 / (high - low))
        known = np.nan_to_num(stretched, nan=0.0)
        return np.rint(known.clip(0, 255)).astype(np.uint8)
    if image.dtype == np.uint8:
        return image
    if image.dtype == np.uint16:
        return (image >> 8).astype(np.uint8)
    raise RejectedTile(
        f"pixels of type {image.dtype}: no stated range; set [tiles] scale = [low, high]"
    )


def _blend(rgb: Pixels, alpha: Values, background: tuple[int, int, int]) -> Pixels:
    """Lay a picture over a background, by its transparency."""
    opaque = 1.0 if alpha.dtype.kind == "f" else np.iinfo(alpha.dtype).max
    if alpha.min() == opaque:
        return rgb
    share = alpha / np.float32(opaque)
    under = np.array(background, np.float32)
    over = rgb - under
    blended = under + share[..., None] * over
    return np.rint(blended).astype(np.uint8)


def _resize_with_gaps(rgb: Pixels, empty: Mask, options: DecodeOptions) -> Pixels:
    """Resize; pixels without data weigh nothing, and become background where they prevail."""
    known = (~empty).astype(np.float32)
    weighted = rgb * known[..., None]
    total = _resize(weighted, options.size)
    weight = _resize(known, options.size)
    divisor = np.maximum(weight, 1e-6)
    means = total / divisor[..., None]
    resized = np.rint(means).clip(0, 255).astype(np.uint8)
    is_empty = weight < 0.5
    resized[is_empty] = options.background or (0, 0, 0)
    return resized


def _resize(image: Values, side: int) -> Values:
    height, width = image.shape[:2]
    if height == width == side:
        return image
    shrinks = min(height, width) >= side
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(image, (side, side), interpolation=method)


def _share_of_empty(empty: Mask | None, alpha: Values | None) -> float:
    """Return the share of the pixels without data or fully transparent."""
    if alpha is None:
        return 0.0 if empty is None else float(empty.mean())
    transparent = alpha == 0
    if empty is not None:
        transparent |= empty
    return float(transparent.mean())
