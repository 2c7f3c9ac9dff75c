"""Heat maps as pictures: a colour-blind-safe scale about 0, laid over the tile in grey."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from models.data.arrays import Floats

# Blue lowers, grey does nothing, orange raises; from Okabe and Ito's colours, told apart with any colour vision.
DIVERGING = ((0, 90, 150), (110, 170, 215), (235, 235, 235), (235, 150, 90), (190, 70, 0))
_MOST_OPAQUE = 0.8
_FAINT = 0.35  # of the tile's contrast under the heat
_GAP = 4  # pixels between pictures side by side

Picture = NDArray[np.uint8]


def draw_heat(heat: Floats, limit: float, size: int) -> Picture:
    """Draw a heat map: (height, width) → (size, size, 3) RGB; −limit is blue, 0 grey, limit orange."""
    values = np.clip(_enlarge(heat, size) / limit, -1, 1)
    at = (values + 1) / 2 * (len(DIVERGING) - 1)
    stops = np.arange(len(DIVERGING))
    colours = np.array(DIVERGING, np.float64)
    return np.rint(
        np.stack([np.interp(at, stops, colours[:, c]) for c in range(3)], axis=-1)
    ).astype(np.uint8)


def draw_overlay(tile: Picture, heat: Floats, limit: float) -> Picture:
    """Lay a heat map over the tile in grey, the more opaque the hotter: (size, size, 3) RGB."""
    grey = cv2.cvtColor(cv2.cvtColor(tile, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    share = (
        _MOST_OPAQUE * np.sqrt(np.clip(np.abs(_enlarge(heat, len(tile))) / limit, 0, 1))[..., None]
    )
    hot = draw_heat(heat, limit, len(tile)) * (1 - _FAINT + _FAINT * grey / 255)
    return np.rint(grey * (1 - share) + hot * share).astype(np.uint8)


def place_beside(pictures: list[Picture]) -> Picture:
    """Put pictures of one size side by side, a white gap between."""
    gap = np.full((len(pictures[0]), _GAP, 3), 255, np.uint8)
    return np.hstack([part for picture in pictures for part in (gap, picture)][1:])


def measure_limit(heat: Floats) -> float:
    """Return the heat that ends the scale of a gallery: the 98th percentile of its size; 1 where there is none."""
    return float(np.quantile(np.abs(heat), 0.98)) or float(np.abs(heat).max()) or 1.0


def encode_png(picture: Picture) -> bytes:
    """Return the PNG file of an RGB picture."""
    return cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].tobytes()


def _enlarge(heat: Floats, size: int) -> NDArray[np.float32]:
    return cv2.resize(heat.astype(np.float32), (size, size), interpolation=cv2.INTER_LINEAR)
