"""One picture file to one uint8 array, or the reason why it cannot be used."""

from __future__ import annotations

import hashlib
import io

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from extract.images import RejectedTile

cv2.setNumThreads(1)  # one thread a file: the loop decodes many files at once


# What a picture tells without any network: the `metadata` baseline and the audit's search for duplicates use it.
PICTURE = np.dtype([
    ("bytes", "<i8"),  # size of the file
    ("mean", "<f4", (3,)), ("spread", "<f4", (3,)),  # mean and standard deviation of R, G, B, 0 … 255
    ("nodata", "<f4"),  # share of the pixels without data, 0 … 1
    ("content", "<u8"),  # hash of the decoded pixels: equal for equal pictures
    ("perceptual", "<u8"),  # difference hash: few bits differ between pictures that look alike
])


def decode_tile(data: bytes, *, size: int, max_pixels: int) -> NDArray[np.uint8]:
    """Decode a picture as the networks take it.

    Greyscale and palettes become RGB, transparency is dropped as Keras's `load_img` drops it, 16 bit keeps its upper
    byte, other sizes are resized (area mean when shrinking, else bilinear). What the file is, its bytes say, not its name.

    Parameters
    ----------
    data : content of a PNG, JPEG, WebP, TIFF or whatever else OpenCV reads.
    size : side of the result [pixels].
    max_pixels : largest width × height that is decoded.

    Returns
    -------
    (size, size, 3) uint8, RGB.

    Raises
    ------
    RejectedTile : no image, truncated, too large, or of a pixel type that has no stated range.
    """
    _check_header(data, max_pixels)
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise RejectedTile("image data damaged or truncated")
    rgb = _as_rgb(_as_uint8(image))
    if rgb.shape[:2] != (size, size):
        shrinks = rgb.shape[0] >= size and rgb.shape[1] >= size
        rgb = cv2.resize(rgb, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return np.ascontiguousarray(rgb)


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
    grey = cv2.resize(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), (9, 8), interpolation=cv2.INTER_AREA)
    bits = np.packbits(grey[:, 1:] > grey[:, :-1])
    content = hashlib.blake2b(rgb.tobytes(), digest_size=8).digest()
    facts = np.zeros((), PICTURE)
    facts["bytes"], facts["mean"], facts["spread"], facts["nodata"] = n_bytes, mean[:, 0], spread[:, 0], nodata
    facts["content"], facts["perceptual"] = int.from_bytes(content, "little"), int.from_bytes(bits.tobytes(), "little")
    return facts


def _check_header(data: bytes, max_pixels: int) -> None:
    """Refuse before decoding what is no image, too large, or visibly cut off."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            (width, height), kind = image.size, image.format
    except Image.DecompressionBombError:
        raise RejectedTile(f"image larger than [tiles] max_pixels = {max_pixels}") from None
    except (OSError, ValueError, SyntaxError):
        raise RejectedTile("not an image") from None
    if width * height > max_pixels:
        raise RejectedTile(f"image of {width} × {height} pixels, larger than [tiles] max_pixels = {max_pixels}")
    ends = {"PNG": b"IEND", "JPEG": b"\xff\xd9"}  # OpenCV fills the missing part of a JPEG with grey, silently
    if kind in ends and ends[kind] not in data[-4096:]:
        raise RejectedTile("image data damaged or truncated")


def _as_uint8(image: NDArray[np.generic]) -> NDArray[np.uint8]:
    if image.dtype == np.uint8:
        return image.astype(np.uint8, copy=False)
    if image.dtype == np.uint16:
        return (image >> 8).astype(np.uint8)  # type: ignore[operator]
    raise RejectedTile(f"pixels of type {image.dtype}: no stated range to bring them to 0 … 255")


def _as_rgb(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    channels = 1 if image.ndim == 2 else image.shape[2]
    code = {1: cv2.COLOR_GRAY2RGB, 3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGB}.get(channels)
    if code is not None:
        return cv2.cvtColor(image, code).astype(np.uint8, copy=False)
    if channels == 2:
        return cv2.cvtColor(np.ascontiguousarray(image[..., 0]), cv2.COLOR_GRAY2RGB).astype(np.uint8, copy=False)
    raise RejectedTile(f"image of {channels} channels; expected 1, 3 or 4")
