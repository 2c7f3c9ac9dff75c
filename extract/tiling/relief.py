"""Compute ground, height above it, slope, roughness and light from heights.

Every value depends on cells near it alone. Cells without data are NaN: they weigh nothing in their
neighbours' values, and are NaN in the result.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from extract.config.arrays import Float32s, Floats

COLOURS = "colours"
ROUGHNESS_M = 10.0
_LIGHT_AZIMUTH_DEG = 225.0  # from the south-west, 45 degrees high: its tangent is 1
_RAMP_TOP_M = 27.0
# Red, green and blue of flat cells in the well-known tiles, from the ground up in equal steps.
_RAMP = np.array(
    [
        [0, 109, 150],
        [32, 133, 149],
        [64, 157, 146],
        [96, 180, 143],
        [128, 198, 135],
        [160, 214, 132],
        [192, 227, 137],
        [224, 241, 144],
        [255, 255, 150],
    ],
    dtype=np.float32,
)


class Channel(NamedTuple):
    """What a channel shows, and the values that become 0 and 255 in every tile."""

    text: str
    low: float
    high: float
    unit: str


CHANNELS = {
    "height": Channel("height above ground", 0.0, 40.0, "m"),
    "slope": Channel("angle of the surface to the horizontal", 0.0, 90.0, "degrees"),
    "hillshade": Channel("light on the surface from 225 degrees, 45 degrees high", 0.0, 1.0, ""),
    "roughness": Channel(
        f"standard deviation of the surface within {ROUGHNESS_M:g} m", 0.0, 10.0, "m"
    ),
}


def find_ground(surface: Float32s, *, cell_m: float, opening_m: float) -> Float32s:
    """Return the ground under a surface by a morphological opening with a square.

    Parameters
    ----------
    surface : (rows, columns) [m].
    opening_m : side of the square [m]; what is narrower is cut off, so it has to be wider than the
        widest building that is to stand out.

    References
    ----------
    Zhang et al. 2003, IEEE TGRS 41(4):872, doi:10.1109/TGRS.2003.810682 (of LiDAR surfaces).
    """
    size = window_cells(opening_m, cell_m)
    lost = np.isnan(surface)
    filled = surface.copy()
    filled[lost] = np.inf
    square = np.ones((size, size), np.uint8)
    low = cv2.erode(filled, square)
    low[low > 1e30] = -np.inf  # no data within the square
    ground: Float32s = cv2.dilate(low, square)
    ground[lost] = np.nan
    return ground


def window_cells(width_m: float, cell_m: float) -> int:
    """Return the side of a window around a cell [cells]: odd, at least 3."""
    half = round(width_m / cell_m / 2)
    return 2 * max(1, half) + 1


def margin_cells(*, cell_m: float, opening_m: float | None) -> int:
    """Return how many cells around a place its values depend on.

    Parameters
    ----------
    opening_m : side of the square that finds the ground [m]; None where the terrain is known.
    """
    around = window_cells(ROUGHNESS_M, cell_m) // 2
    if opening_m is None:
        return around
    opening = window_cells(opening_m, cell_m)
    return max(opening, around)


def build_channels(
    surface: Float32s, ground: Float32s, names: Sequence[str], *, cell_m: float
) -> Float32s:
    """Return channels of a surface, in the units of `CHANNELS`; colours are 0 … 255.

    Parameters
    ----------
    surface, ground : (rows, columns), surface and terrain [m], north up.
    names : of `CHANNELS`, or `colours` alone: red, green and blue.

    Returns
    -------
    (n_channels, rows, columns) float32.
    """
    height = surface - ground
    south = gradient(surface, axis=0, cell_m=cell_m)
    east = gradient(surface, axis=1, cell_m=cell_m)
    planes = []
    for name in names:
        if name == "height":
            planes.append(height)
        elif name == "slope":
            steepness = np.hypot(south, east)
            planes.append(np.degrees(np.arctan(steepness)))
        elif name == "hillshade":
            planes.append(hillshade(south, east))
        elif name == "roughness":
            planes.append(roughness(surface, cell_m=cell_m))
        else:
            colours = colour(height, south, east)
            planes.extend(np.moveaxis(colours, -1, 0))
    stacked = np.stack(planes, dtype=np.float32)
    is_lost = np.isnan(height)
    stacked[:, is_lost] = np.nan
    return stacked


def gradient(heights: Float32s, *, axis: int, cell_m: float) -> Float32s:
    """Return the rise along an axis [m/m], (0: to the south, 1: to the east).

    It is taken between both neighbours, from the one that has data, or 0 where none has.
    """
    rise = np.gradient(heights, cell_m, axis=axis)
    is_lost = np.isnan(heights)
    if is_lost.any():
        step = np.diff(heights, axis=axis)
        step = np.nan_to_num(step) / np.float32(cell_m)
        step = np.moveaxis(step, axis, 0)
        one_sided = np.zeros_like(heights)
        along = np.moveaxis(one_sided, axis, 0)
        along[1:] += step
        along[:-1] += step
        unknown = np.isnan(rise) & ~is_lost
        rise[unknown] = one_sided[unknown]
    return rise


def hillshade(south: Float32s, east: Float32s) -> Float32s:
    """Return the light on a surface of these gradients [m/m]: the cosine of its angle, 0 … 1."""
    flat_light = np.float32(math.sqrt(0.5))
    light = _facing(south, east) * flat_light
    return np.clip(light, 0.0, 1.0)


def _facing(south: Float32s, east: Float32s) -> Float32s:
    """Return the light on a surface, where flat ground has 1.

    References
    ----------
    Horn 1981, Proc. IEEE 69(1):14, doi:10.1109/PROC.1981.11918.
    """
    azimuth = math.radians(_LIGHT_AZIMUTH_DEG)
    from_east = east * math.sin(azimuth)
    from_south = south * math.cos(azimuth)
    towards = 1.0 - from_east + from_south
    length = np.sqrt(1.0 + east**2 + south**2)
    return towards / length


def roughness(heights: Float32s, *, cell_m: float) -> Float32s:
    """Return the standard deviation [m] of the heights in a square around each cell.

    References
    ----------
    Grohmann, Smith & Riccomini 2011, IEEE TGRS 49(4):1200, doi:10.1109/TGRS.2010.2053546.
    """
    size = window_cells(ROUGHNESS_M, cell_m)
    is_known = ~np.isnan(heights)
    known = np.where(is_known, heights, 0.0).astype(np.float64)
    n = _sum_around(is_known.astype(np.float64), size)
    n = np.maximum(n, 1.0)
    mean = _sum_around(known, size) / n
    mean_square = _sum_around(known**2, size) / n
    variance = mean_square - mean**2
    deviation = np.sqrt(variance.clip(0.0))
    return deviation.astype(np.float32)


def _sum_around(plane: Floats, size: int) -> Floats:
    return cv2.boxFilter(
        plane,
        -1,
        (size, size),
        normalize=False,
        borderType=cv2.BORDER_CONSTANT,
    )


def colour(heights: Float32s, south: Float32s, east: Float32s) -> Floats:
    """Colour heights above ground [m] as the well-known tiles are: a ramp times the light.

    Returns
    -------
    (rows, columns, 3), red, green and blue, 0 … 255.
    """
    light = _facing(south, east)
    shade = np.clip(light, 0.0, 1.0)
    levels = np.arange(len(_RAMP))
    share = np.clip(heights / _RAMP_TOP_M, 0.0, 1.0)
    steps = share * levels[-1]
    ramp = [np.interp(steps, levels, colours) for colours in _RAMP.T]
    return np.stack(ramp, axis=-1) * shade[..., None]
