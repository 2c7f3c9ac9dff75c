"""Heat maps as pictures: a colour-blind-safe scale about 0, laid over the tile in grey."""

from __future__ import annotations

import cv2
import numpy as np

from extract.config.arrays import Float32s, Floats, Pixels

# Blue lowers, grey does nothing, orange raises; from Okabe and Ito's colours, told apart with any
# colour vision.
DIVERGING = ((0, 90, 150), (110, 170, 215), (235, 235, 235), (235, 150, 90), (190, 70, 0))
_STOPS = np.linspace(-1, 1, len(DIVERGING))
_MOST_OPAQUE = 0.8
_FAINT = 0.35  # of the tile's contrast under the heat
_GAP = 4  # pixels between pictures side by side

Picture = Pixels


def draw_heat(heat: Floats, limit: float, size: int) -> Picture:
    """Draw a heat map as (size, size, 3) RGB; −limit is blue, 0 grey, limit orange."""
    values = _enlarge(heat, size) / limit  # beyond the stops the last colour stays
    colours = np.array(DIVERGING)
    channels = [np.interp(values, _STOPS, channel) for channel in colours.T]
    drawn = np.stack(channels, axis=-1)
    return _as_picture(drawn)


def draw_overlay(tile: Picture, heat: Floats, limit: float) -> Picture:
    """Lay a heat map over the tile in grey, the more opaque the hotter: (size, size, 3) RGB."""
    size = len(tile)
    grey = cv2.cvtColor(tile, cv2.COLOR_RGB2GRAY)
    grey = grey[..., None]
    enlarged = _enlarge(heat, size)
    strength = np.abs(enlarged) / limit
    strength = np.minimum(strength, 1)
    opacity = _MOST_OPAQUE * np.sqrt(strength)
    opacity = opacity[..., None]
    light = 1 - _FAINT + _FAINT * grey / 255
    hot = draw_heat(heat, limit, size)
    lit = hot * light
    laid = grey * (1 - opacity) + lit * opacity
    return _as_picture(laid)


def _as_picture(colours: Floats) -> Picture:
    rounded = np.rint(colours)
    return rounded.astype(np.uint8)


def place_beside(pictures: list[Picture]) -> Picture:
    """Put pictures of one size side by side, with a white gap between."""
    first, *others = pictures
    height = len(first)
    gap = np.full((height, _GAP, 3), 255, np.uint8)
    parts = [first]
    for picture in others:
        parts += [gap, picture]
    return np.hstack(parts)


def measure_limit(heat: Floats) -> float:
    """Return the heat that ends the scale: that of three in four tiles does not exceed it.

    Of a tile, the 98th percentile of the size of its heat counts, so that neither one place nor
    one tile pales the others. Where that is 0, it is the largest heat, and 1 where all is 0.

    Parameters
    ----------
    heat : (n_tiles, height, width).
    """
    size = np.abs(heat)
    by_tile = np.quantile(size, 0.98, axis=(1, 2))
    of_most_tiles = np.quantile(by_tile, 0.75)
    for limit in (of_most_tiles, size.max()):
        if limit > 0:
            return float(limit)
    return 1.0


def encode_png(picture: Picture) -> bytes:
    """Return the PNG file of an RGB picture."""
    swapped = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    _, png = cv2.imencode(".png", swapped)
    return png.tobytes()


def _enlarge(heat: Floats, size: int) -> Float32s:
    small = heat.astype(np.float32)
    shape = (size, size)
    return cv2.resize(small, shape, interpolation=cv2.INTER_LINEAR)
