"""Backbone `pixels`: the pictures themselves, resized, as values 0 … 255."""

from __future__ import annotations

import platform
from dataclasses import dataclass

import cv2
import numpy as np

from extract.config.arrays import Array, Pixels
from extract.config.cuts import PIXELS, Cut
from extract.files.hashing import hash_text


@dataclass(frozen=True, slots=True)
class ReadyRows:
    """Rows that are there already."""

    rows: dict[str, Array]

    def result(self) -> dict[str, Array]:
        """Return dataset name → (n, …)."""
        return self.rows


@dataclass(slots=True, kw_only=True)
class PixelForward:
    """Stands in for a network: returns uint8 pictures as stored numbers; see `Forward`.

    The pictures come at the size of [extract] and are resized from there as in decoding: area mean
    when shrinking, else bilinear. Whole numbers up to 255 are exact in float16.
    """

    cuts: list[Cut]
    stored: str
    weights: str = PIXELS
    precision: str = "uint8"
    runtime: str = "opencv"
    device: str = "cpu"
    float32_cuts: str = ""
    note: str = ""

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of one row of every cut, by dataset name."""
        black = np.zeros((1, 1, 1, 3), np.uint8)
        rows = self.submit(black).result()
        return {name: values.shape[1:] for name, values in rows.items()}

    @property
    def weights_sha256(self) -> str:
        """Hash of what decides the values."""
        return hash_text(f"{PIXELS} {self.stored}")

    @property
    def versions(self) -> str:
        """Versions of what computes, in words."""
        return f"opencv {cv2.__version__}, Python {platform.python_version()}"

    def submit(self, pictures: Pixels) -> ReadyRows:
        """Resize and pool (n, size, size, 3) uint8 pictures."""
        rows = {}
        for cut in self.cuts:
            resized = resize(pictures, int(cut.layer))
            rows[cut.dataset] = pool(resized, cut.pooling).astype(self.stored)
        return ReadyRows(rows)

    def __call__(self, pictures: Pixels) -> dict[str, Array]:
        """Return dataset name → (n, …) of the stored type."""
        return self.submit(pictures).result()


def pool(maps: Array, pooling: str) -> Array:
    """Pool maps (n, height, width, channels) over their places: (n, …)."""
    if pooling == "avg":
        maps = maps.mean(axis=(1, 2))
    elif pooling == "max":
        maps = maps.max(axis=(1, 2))
    elif pooling == "flat":
        maps = maps.reshape(len(maps), -1)
    return maps


def resize(pictures: Pixels, side: int) -> Pixels:
    """Resize (n, size, size, 3) pictures to (n, side, side, 3)."""
    if pictures.shape[1] == side:
        return pictures
    rule = cv2.INTER_AREA if side < pictures.shape[1] else cv2.INTER_LINEAR
    out = np.empty((len(pictures), side, side, 3), np.uint8)
    for picture, place in zip(pictures, out, strict=True):
        cv2.resize(picture, (side, side), dst=place, interpolation=rule)
    return out
