"""The backbone `pixels`: the pictures themselves, resized, as values 0 … 255; there is no network."""

from __future__ import annotations

import hashlib
import math
import platform
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from extract.config.cuts import PIXELS, Cut
from extract.settings import ExtractSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """Rows that are there already."""

    rows: dict[str, NDArray[Any]]

    def result(self) -> dict[str, NDArray[Any]]:
        """Return dataset name → (n, …)."""
        return self.rows


@dataclass(slots=True, kw_only=True)
class Pictures:
    """What stands where a network does: gives uint8 pictures back as stored numbers; `Forward` has the words.

    The pictures come at the size of [extract], and are resized from there as they are when they are decoded: area mean
    when shrinking, else bilinear. Whole numbers up to 255 are exact in float16.
    """

    cuts: list[Cut]
    stored: str
    weights: str = PIXELS
    precision: str = "uint8"
    runtime: str = "opencv"
    device: str = "cpu"
    note: str = ""

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of one row of every cut, by dataset name."""
        maps = {cut: (int(cut.layer), int(cut.layer), 3) for cut in self.cuts}
        return {
            cut.dataset: {"flat": (math.prod(shape),), "map": shape}.get(cut.pooling, (3,))
            for cut, shape in maps.items()
        }

    @property
    def weights_sha256(self) -> str:
        """Hash of what decides the values."""
        return hashlib.sha256(f"{PIXELS} {self.stored}".encode()).hexdigest()

    @property
    def versions(self) -> str:
        """What computed it, in words."""
        return f"opencv {cv2.__version__}, Python {platform.python_version()}"

    def submit(self, pictures: NDArray[np.uint8]) -> Ready:
        """Resize (n, size, size, 3) uint8 pictures."""
        return Ready(
            rows={
                cut.dataset: _pool(resize(pictures, int(cut.layer)), cut).astype(self.stored)
                for cut in self.cuts
            }
        )

    def __call__(self, pictures: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        """Return dataset name → (n, …) of the stored type."""
        return self.submit(pictures).result()


def open_pictures(settings: ExtractSettings) -> Pictures:
    """Return what makes the cuts of `pixels`."""
    return Pictures(cuts=settings.extract.cuts_of(PIXELS), stored=settings.extract.dtype)


def _pool(pictures: NDArray[np.uint8], cut: Cut) -> NDArray[Any]:
    if cut.pooling in ("avg", "max"):
        pooled: NDArray[Any] = (
            pictures.mean(axis=(1, 2)) if cut.pooling == "avg" else pictures.max(axis=(1, 2))
        )
        return pooled
    return pictures.reshape(len(pictures), -1) if cut.pooling == "flat" else pictures


def resize(pictures: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Resize (n, size, size, 3) pictures to (n, side, side, 3)."""
    if pictures.shape[1] == side:
        return pictures
    rule = cv2.INTER_AREA if side < pictures.shape[1] else cv2.INTER_LINEAR
    out = np.empty((len(pictures), side, side, 3), np.uint8)
    for picture, place in zip(pictures, out, strict=True):
        cv2.resize(picture, (side, side), dst=place, interpolation=rule)
    return out
