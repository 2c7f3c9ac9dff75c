"""One picture file to one uint8 array, or the reason why it cannot be used."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

cv2.setNumThreads(1)  # one thread a file: the loop decodes many files at once


class RejectedTile(ValueError):  # noqa: N818  (a tile, named as rejects.csv names it)
    """The picture cannot be used; the text is the reason that `rejects.csv` gives."""


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


def read_file(path: Path) -> bytes:
    """Read a picture's bytes.

    Raises
    ------
    RejectedTile : missing, unreadable or empty.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise RejectedTile("file missing") from None
    except OSError as error:
        raise RejectedTile(f"file cannot be read: {error.strerror}") from None
    if not data:
        raise RejectedTile("file empty")
    return data


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
