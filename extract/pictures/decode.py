"""One picture's bytes to one uint8 array, or the reason why it cannot be used."""

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

# What a picture tells without any network: the `metadata` baseline and the audit's search for duplicates use it.
PICTURE = np.dtype(
    [
        ("bytes", "<i8"),  # size of the file
        ("mean", "<f4", (3,)),
        ("spread", "<f4", (3,)),  # mean and standard deviation of R, G, B, 0 … 255
        ("nodata", "<f4"),  # share of the pixels without data or fully transparent, 0 … 1
        ("content", "<u8"),  # hash of the decoded pixels: equal for equal pictures
        ("perceptual", "<u8"),  # difference hash: few bits differ between pictures that look alike
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeOptions:
    """How pictures become colours.

    Attributes
    ----------
    size : side of the result [pixels].
    max_pixels : largest width × height that is decoded.
    scale : (low, high), values of single bands, and of any picture of 16 bit or more, that become 0 and 255.
    nodata : value of pixels without data, beside NaN and what a GeoTIFF says itself.
    background : colour under transparent pixels and of those without data; None drops transparency, and takes black.
    """

    size: int
    max_pixels: int
    scale: tuple[float, float] | None = None
    nodata: float | None = None
    background: tuple[int, int, int] | None = None


def decode_tile(data: bytes, look: DecodeOptions) -> tuple[NDArray[np.uint8], float]:
    """Decode a picture as the networks take it.

    Greyscale and palettes become RGB, transparency is dropped as Keras's `load_img` drops it unless a background is
    stated, 16 bit keeps its upper byte unless a scale is, other sizes are resized (area mean when shrinking, else
    bilinear; pixels without data have no weight in it). What the file is, its bytes say, not its name.

    Parameters
    ----------
    data : content of a PNG, JPEG, WebP, TIFF or whatever else OpenCV reads.
    look : size, and how values become colours.

    Returns
    -------
    (size, size, 3) uint8, RGB; and the share of its pixels that hold no data or are fully transparent.

    Raises
    ------
    RejectedTile : no image, truncated, too large, or of a pixel type that has no stated range.
    """
    header = read_header(data, max_pixels=look.max_pixels)
    image = decode_png(data)
    is_rgb = image is not None
    image = _decode(data) if image is None else image
    alpha = cv2.extractChannel(image, 3) if image.ndim == 3 and image.shape[2] == 4 else None
    empty = _find_nodata(
        image, [value for value in (look.nodata, header.nodata) if value is not None]
    )
    rgb = _as_rgb(_as_uint8(image, look.scale), is_rgb=is_rgb)
    if alpha is not None and look.background is not None:
        rgb = _lay_over(rgb, alpha, look.background)
    return np.ascontiguousarray(_resize(rgb, empty, look)), _share(empty, alpha)


def describe(rgb: NDArray[np.uint8], *, n_bytes: int, nodata: float) -> NDArray[np.void]:
    """Tell what a picture says without any network.

    Parameters
    ----------
    rgb : (size, size, 3) uint8. n_bytes : size of its file. nodata : share of its pixels without data.

    Returns
    -------
    () of `PICTURE`. The perceptual hash is the 64-bit difference hash of the grey picture (N. Krawetz, 2013, "Kind of
    Like That"): one bit for each of 8 × 8 cells, set where the cell to the right is brighter.
    """
    mean, spread = cv2.meanStdDev(rgb)
    facts = np.zeros((), PICTURE)
    facts["bytes"], facts["mean"], facts["spread"], facts["nodata"] = (
        n_bytes,
        mean[:, 0],
        spread[:, 0],
        nodata,
    )
    facts["content"] = int.from_bytes(
        hashlib.sha1(rgb.data, usedforsecurity=False).digest()[:8], "little"
    )
    facts["perceptual"] = int.from_bytes(_difference_hash(rgb), "little")
    return facts


def _difference_hash(rgb: NDArray[np.uint8]) -> bytes:
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    rows, columns, areas = _cut_cells(len(grey))
    corners = cv2.integral(grey, sdepth=_depth_of_sums(grey.size))[rows, columns]
    strips = corners[1:] - corners[:-1]
    cells = (strips[:, 1:] - strips[:, :-1]) / areas
    return np.packbits(cells[:, 1:] > cells[:, :-1]).tobytes()


def _depth_of_sums(n_pixels: int) -> int:
    """Return the type in which sums of bytes are exact, the smaller of two."""
    return cv2.CV_32S if n_pixels * 255 < 1 << 31 else cv2.CV_64F


@cache
def _cut_cells(side: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the borders of 8 rows (9, 1) and of 9 columns (10,) of cells, and the cells' areas (8, 9) [pixels]."""
    rows, columns = (np.linspace(0, side, n + 1).astype(np.int64) for n in (8, 9))
    return rows[:, None], columns, np.diff(rows)[:, None] * np.diff(columns)


def _decode(data: bytes) -> NDArray[Any]:
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        image = None
    if image is None or not image.size:
        raise RejectedTile("image data damaged or truncated")
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[..., 0]
    if image.ndim == 3 and (
        image.shape[2] not in (3, 4)
        or (image.shape[2] == 4 and image.dtype not in (np.uint8, np.uint16))
    ):
        raise RejectedTile(
            f"image of {image.shape[2]} channels of {image.dtype}; expected 1 or 3, or 4 of 8 or 16 bit"
        )
    return image


def _find_nodata(image: NDArray[Any], values: list[float]) -> NDArray[np.bool_] | None:
    """Mark the pixels (h, w) that hold no data: NaN or infinite in any channel, or a nodata value in all; None if none."""
    colour = image if image.ndim == 2 else image[..., :3]
    is_float = np.issubdtype(image.dtype, np.floating)
    if not is_float and not values:
        return None
    empty = np.zeros(image.shape[:2], bool)
    if is_float:
        lost = ~np.isfinite(colour)
        empty |= lost if lost.ndim == 2 else lost.any(axis=2)
    for value in values:
        with np.errstate(over="ignore"):
            same = colour == (image.dtype.type(value) if is_float else value)
        empty |= same if same.ndim == 2 else same.all(axis=2)
    return empty if empty.any() else None


def _as_uint8(image: NDArray[Any], scale: tuple[float, float] | None) -> NDArray[np.uint8]:
    """Bring values to 0 … 255: by the stated limits, else 8 bit as it is and 16 bit by its upper byte."""
    if scale is not None and (image.ndim == 2 or image.dtype != np.uint8):
        low, high = scale
        exact: np.dtype[Any] = (
            np.dtype("f4")
            if image.dtype.itemsize <= 2 or image.dtype == np.float32
            else np.dtype("f8")
        )
        with np.errstate(over="ignore", invalid="ignore"):
            stretched: NDArray[Any] = (image.astype(exact) - low) * (255 / (high - low))
        return np.rint(np.clip(np.nan_to_num(stretched, nan=0.0), 0, 255)).astype(np.uint8)
    if image.dtype == np.uint8:
        return image
    if image.dtype == np.uint16:
        return (image >> 8).astype(np.uint8)
    raise RejectedTile(
        f"pixels of type {image.dtype}: no stated range; set [tiles] scale = [low, high]"
    )


def _as_rgb(image: NDArray[np.uint8], *, is_rgb: bool) -> NDArray[np.uint8]:
    """Return RGB of grey, BGR or BGRA pictures, or of those whose red is first already."""
    if is_rgb:
        return cv2.cvtColor(image, cv2.COLOR_RGBA2RGB) if image.shape[2] == 4 else image
    codes = {1: cv2.COLOR_GRAY2RGB, 3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGB}
    rgb: NDArray[np.uint8] = cv2.cvtColor(image, codes[1 if image.ndim == 2 else image.shape[2]])
    return rgb


def _lay_over(
    rgb: NDArray[np.uint8], alpha: NDArray[Any], background: tuple[int, int, int]
) -> NDArray[np.uint8]:
    opaque = np.iinfo(alpha.dtype).max
    if alpha.min() == opaque:
        return rgb
    weight = (alpha.astype(np.float32) / np.float32(opaque))[..., None]
    under = np.array(background, np.float32)
    return np.rint(under + weight * (rgb - under)).astype(np.uint8)


def _resize(
    rgb: NDArray[np.uint8], empty: NDArray[np.bool_] | None, look: DecodeOptions
) -> NDArray[np.uint8]:
    """Resize; pixels without data weigh nothing, and the background stands where they are the greater part."""
    size = (look.size, look.size)
    if empty is not None:
        if rgb.shape[:2] == size:
            weight = (~empty).astype(np.float32)
            resized = rgb
        else:
            kept = (~empty).astype(np.float32)
            weight = _interpolate(kept, size)
            summed = _interpolate(rgb * kept[..., None], size)
            resized = (
                np.rint(summed / np.maximum(weight, 1e-6)[..., None]).clip(0, 255).astype(np.uint8)
            )
        return np.where(
            weight[..., None] < 0.5, np.array(look.background or (0, 0, 0), np.uint8), resized
        )
    return rgb if rgb.shape[:2] == size else _interpolate(rgb, size)


def _interpolate(image: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    shrinks = image.shape[0] >= size[0] and image.shape[1] >= size[1]
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def _share(empty: NDArray[np.bool_] | None, alpha: NDArray[Any] | None) -> float:
    if alpha is not None and empty is not None:
        return float((empty | (alpha == 0)).mean())
    if alpha is not None:
        return 1.0 - cv2.countNonZero(alpha) / alpha.size
    return 0.0 if empty is None else float(empty.mean())
