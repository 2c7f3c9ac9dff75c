"""Decode one picture's bytes to one uint8 array, or say why it cannot be used."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from extract.errors import RejectedTile
from extract.pictures.fast_png import decode_png
from extract.pictures.headers import read_header

cv2.setNumThreads(1)  # one thread a file: the loop decodes many files at once
# What cannot be decoded stands in rejects.csv, not in the middle of the progress bar.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

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
        bit or more.
    nodata : value of pixels without data, beside NaN and what a GeoTIFF states itself.
    background : colour under transparent pixels and of those without data; None drops
        transparency and takes black.
    """

    size: int
    max_pixels: int
    scale: tuple[float, float] | None = None
    nodata: float | None = None
    background: tuple[int, int, int] | None = None


def decode_tile(data: bytes, options: DecodeOptions) -> tuple[NDArray[np.uint8], float]:
    """Decode a picture as the networks take it.

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
    header = read_header(data, max_pixels=options.max_pixels)
    image = decode_png(data)
    is_rgb = image is not None
    if image is None:
        image = _decode(data)
    n_channels = 1 if image.ndim == 2 else image.shape[2]
    alpha = cv2.extractChannel(image, 3) if n_channels == 4 else None
    empty = _find_nodata(image, (options.nodata, header.nodata))
    rgb = _as_uint8(image, options.scale)
    if not is_rgb:
        codes = {1: cv2.COLOR_GRAY2RGB, 3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGB}
        rgb = cv2.cvtColor(rgb, codes[n_channels])
    elif n_channels == 4:
        rgb = cv2.cvtColor(rgb, cv2.COLOR_RGBA2RGB)
    if alpha is not None and options.background is not None:
        rgb = _blend(rgb, alpha, options.background)
    share = _share_of_empty(empty, alpha)
    if empty is not None:
        rgb = _resize_with_gaps(rgb, empty, options)
    elif rgb.shape[:2] != (options.size, options.size):
        rgb = _resize(rgb, options.size)
    return np.ascontiguousarray(rgb), share


def describe(rgb: NDArray[np.uint8], *, n_bytes: int, nodata: float) -> NDArray[np.void]:
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
    content = hashlib.sha1(rgb.data, usedforsecurity=False).digest()[:8]
    statistics = (mean[:, 0], spread[:, 0], nodata)
    hashes = np.frombuffer(content + _difference_hash(rgb), "<u8")
    return np.array((n_bytes, *statistics, *hashes), PICTURE)


def _difference_hash(rgb: NDArray[np.uint8]) -> bytes:
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    rows, columns, areas = _cut_cells(len(grey))
    # sums of the largest pictures wrap, their differences over a cell are exact
    corners = cv2.integral(grey, sdepth=cv2.CV_32S)[rows, columns]
    strips = corners[1:] - corners[:-1]
    means = (strips[:, 1:] - strips[:, :-1]) / areas
    return np.packbits(means[:, 1:] > means[:, :-1]).tobytes()


@cache
def _cut_cells(side: int) -> tuple[NDArray[np.int64], ...]:
    """Return borders of rows (9, 1) and columns (10,) of the hash's cells, and areas (8, 9)."""
    rows = np.linspace(0, side, 9).astype(np.int64)
    columns = np.linspace(0, side, 10).astype(np.int64)
    return rows[:, None], columns, np.outer(np.diff(rows), np.diff(columns))


def _decode(data: bytes) -> NDArray[Any]:
    """Decode by OpenCV: (h, w), or (h, w, 3 or 4) BGR."""
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        image = None
    if image is None or not image.size:
        raise RejectedTile("image data damaged or truncated")
    if image.ndim == 2:
        return image
    n_channels = image.shape[2]
    if n_channels == 1:
        return image[..., 0]
    has_known_alpha = n_channels == 4 and image.dtype in (np.uint8, np.uint16)
    if n_channels == 3 or has_known_alpha:
        return image
    raise RejectedTile(
        f"image of {n_channels} channels of {image.dtype}; expected 1 or 3, or 4 of 8 or 16 bit"
    )


def _find_nodata(image: NDArray[Any], stated: tuple[float | None, ...]) -> NDArray[np.bool_] | None:
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
            empty |= (colour == exact).all(axis=2)
    return empty if empty.any() else None


def _as_uint8(image: NDArray[Any], scale: tuple[float, float] | None) -> NDArray[np.uint8]:
    """Map values to 0 … 255: by the scale, else 8 bit unchanged and 16 bit by the upper byte."""
    if scale is not None and (image.ndim == 2 or image.dtype != np.uint8):
        low, high = scale
        fits = image.dtype.itemsize <= 2 or image.dtype == np.float32
        exact: NDArray[Any] = image.astype(np.float32 if fits else np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            stretched = (exact - low) * (255 / (high - low))
        return np.rint(np.nan_to_num(stretched, nan=0.0).clip(0, 255)).astype(np.uint8)
    if image.dtype == np.uint8:
        return image
    if image.dtype == np.uint16:
        return (image >> 8).astype(np.uint8)
    raise RejectedTile(
        f"pixels of type {image.dtype}: no stated range; set [tiles] scale = [low, high]"
    )


def _blend(
    rgb: NDArray[np.uint8], alpha: NDArray[Any], background: tuple[int, int, int]
) -> NDArray[np.uint8]:
    """Lay a picture over a background, by its transparency."""
    opaque = np.iinfo(alpha.dtype).max
    if alpha.min() == opaque:
        return rgb
    weight = (alpha.astype(np.float32) / np.float32(opaque))[..., None]
    under = np.array(background, np.float32)
    return np.rint(under + weight * (rgb - under)).astype(np.uint8)


def _resize_with_gaps(
    rgb: NDArray[np.uint8], empty: NDArray[np.bool_], options: DecodeOptions
) -> NDArray[np.uint8]:
    """Resize; pixels without data weigh nothing, and become background where they prevail."""
    weight = (~empty).astype(np.float32)
    resized = rgb
    if rgb.shape[:2] != (options.size, options.size):
        total = _resize(rgb * weight[..., None], options.size)
        weight = _resize(weight, options.size)
        means = total / np.maximum(weight, 1e-6)[..., None]
        resized = np.rint(means).clip(0, 255).astype(np.uint8)
    background = np.array(options.background or (0, 0, 0), np.uint8)
    return np.where(weight[..., None] < 0.5, background, resized)


def _resize(image: NDArray[Any], side: int) -> NDArray[Any]:
    shrinks = min(image.shape[:2]) >= side
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(image, (side, side), interpolation=method)


def _share_of_empty(empty: NDArray[np.bool_] | None, alpha: NDArray[Any] | None) -> float:
    """Return the share of the pixels without data or fully transparent."""
    if alpha is not None:
        transparent = alpha == 0
        empty = transparent if empty is None else empty | transparent
    return 0.0 if empty is None else float(empty.mean())
