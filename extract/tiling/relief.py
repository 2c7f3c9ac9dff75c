"""What heights say: ground, height above it, slope, roughness and light. Every value depends on cells near it alone.

Cells without data are NaN. They weigh nothing in their neighbours' values, and are NaN in the result.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

COLOURS = "colours"
ROUGHNESS_M = 10.0
_LIGHT_AZIMUTH_DEG = 225.0  # from the south-west, 45 degrees high: its tangent is 1
_RAMP_TOP_M = 27.0
# Colours (red, green, blue) of flat cells in the well-known tiles, from the ground up in equal steps.
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

Floats = NDArray[np.float32]


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


def find_ground(surface: Floats, *, cell_m: float, opening_m: float) -> Floats:
    """Return the ground under a surface [m] by a morphological opening with a square: what is narrower than that is cut off.

    Parameters
    ----------
    surface : (rows, columns) [m]. opening_m : side of the square [m]; wider than the widest building that is to stand out.

    References
    ----------
    Zhang et al. 2003, IEEE TGRS 41(4):872, doi:10.1109/TGRS.2003.810682 (openings of LiDAR surfaces).
    """
    size = 2 * half_cells(opening_m, cell_m) + 1
    lost = np.isnan(surface)
    low = _extreme(np.where(lost, np.float32(np.inf), surface), size, np.minimum)
    low = _extreme(np.ascontiguousarray(low.T), size, np.minimum)
    low[np.isinf(low)] = -np.inf
    low = _extreme(low, size, np.maximum)
    low = _extreme(np.ascontiguousarray(low.T), size, np.maximum)
    low[lost] = np.nan
    return low


def _extreme(values: Floats, size: int, choose: np.ufunc) -> Floats:
    """Return the least or greatest of the `size` rows around each row, beyond the edges too, in a time that `size` does not change.

    References
    ----------
    Van Herk 1992, Pattern Recognition Letters 13(7):517, doi:10.1016/0167-8655(92)90069-C.
    """
    (rows, columns), half = values.shape, size // 2
    n_blocks = -(-(rows + size - 1) // size)
    neutral = np.inf if choose is np.minimum else -np.inf
    ahead = np.full((n_blocks, size, columns), neutral, np.float32)
    ahead.reshape(-1, columns)[half : half + rows] = values
    back = ahead.copy()
    for k in range(1, size):
        choose(ahead[:, k], ahead[:, k - 1], out=ahead[:, k])
        choose(back[:, -1 - k], back[:, -k], out=back[:, -1 - k])
    found: Floats = choose(
        back.reshape(-1, columns)[:rows], ahead.reshape(-1, columns)[size - 1 : size - 1 + rows]
    )
    return found


def half_cells(width_m: float, cell_m: float) -> int:
    """Half of a window's width in whole cells, at least one."""
    return max(1, round(width_m / cell_m / 2))


def margin_cells(*, cell_m: float, opening_m: float | None) -> int:
    """Cells around a place that its values depend on; `opening_m` is None where the terrain is known."""
    opening = 2 * half_cells(opening_m, cell_m) if opening_m is not None else 0
    return max(opening + 1, half_cells(ROUGHNESS_M, cell_m))


def build_channels(
    surface: Floats, ground: Floats, names: Sequence[str], *, cell_m: float
) -> Floats:
    """Return channels of a surface: (n_channels, rows, columns) float32, in the units of `CHANNELS`; colours are 0 … 255.

    Parameters
    ----------
    surface, ground : (rows, columns), surface and terrain [m], north up.
    names : of `CHANNELS`, or `colours` alone: red, green and blue.
    """
    height = surface - ground
    south = gradient(surface, axis=0, cell_m=cell_m)
    east = gradient(surface, axis=1, cell_m=cell_m)
    if list(names) == [COLOURS]:
        planes = np.ascontiguousarray(np.moveaxis(colour(height, south, east), -1, 0), np.float32)
    else:
        made: dict[str, Callable[[], Floats]] = {
            "height": lambda: height,
            "slope": lambda: np.degrees(np.arctan(np.hypot(south, east))),
            "hillshade": lambda: hillshade(south, east),
            "roughness": lambda: roughness(surface, cell_m=cell_m),
        }
        planes = np.stack([made[name]() for name in names], dtype=np.float32)
    planes[:, np.isnan(height)] = np.nan
    return planes


def gradient(heights: Floats, *, axis: int, cell_m: float) -> Floats:
    """Return the rise along an axis (0: to the south, 1: to the east) [m/m]: by both neighbours, or by the one that there is.

    A cell without data has the rise between its neighbours where there are both.
    """
    rise = np.empty_like(heights)
    along = np.moveaxis(heights, axis, 0)
    inner = np.moveaxis(rise, axis, 0)
    np.subtract(along[2:], along[:-2], out=inner[1:-1])
    inner[1:-1] *= np.float32(0.5 / cell_m)
    inner[[0, -1]] = (along[[1, -1]] - along[[0, -2]]) / np.float32(cell_m)
    if np.isnan(heights).any():
        holes = np.nonzero(np.isnan(rise) & ~np.isnan(heights))
        back, ahead = (_beside(heights, holes, axis, step) for step in (-1, 1))
        one = np.where(np.isnan(ahead), heights[holes] - back, ahead - heights[holes]) / np.float32(
            cell_m
        )
        rise[holes] = np.nan_to_num(one, nan=0.0)
    return rise


def _beside(heights: Floats, cells: tuple[NDArray[np.int64], ...], axis: int, step: int) -> Floats:
    """Return the height beside some cells, NaN beyond the edge."""
    place = [*cells]
    place[axis] = cells[axis] + step
    is_inside = (place[axis] >= 0) & (place[axis] < heights.shape[axis])
    place[axis] = np.where(is_inside, place[axis], 0)
    return np.where(is_inside, heights[tuple(place)], np.float32(np.nan))


def hillshade(south: Floats, east: Floats) -> Floats:
    """Return the light on a surface of these gradients [m/m], 0 … 1: the cosine of its angle to the light."""
    return np.clip(_facing(south, east, np.float32) * np.float32(math.sqrt(0.5)), 0.0, 1.0)


def _facing(south: Floats, east: Floats, kind: type[np.floating[Any]]) -> NDArray[Any]:
    """Light on a surface, where flat ground has 1 (Horn 1981, Proc. IEEE 69(1):14, doi:10.1109/PROC.1981.11918)."""
    azimuth = np.radians(_LIGHT_AZIMUTH_DEG)
    towards = 1.0 - east * kind(np.sin(azimuth)) + south * kind(np.cos(azimuth))
    return towards / np.sqrt(1.0 + east**2 + south**2)


def roughness(heights: Floats, *, cell_m: float) -> Floats:
    """Return the standard deviation [m] of the heights in a square around each cell.

    References
    ----------
    Grohmann, Smith & Riccomini 2011, IEEE TGRS 49(4):1200, doi:10.1109/TGRS.2010.2053546.
    """
    size = 2 * half_cells(ROUGHNESS_M, cell_m) + 1
    known = ~np.isnan(heights)
    z = np.where(known, heights, 0.0).astype(np.float64)
    n, first, second = (_box(plane, size) for plane in (known.astype(np.float64), z, z * z))
    n = np.maximum(n, 1.0)
    return np.sqrt(np.maximum(second / n - (first / n) ** 2, 0.0)).astype(np.float32)


def _box(plane: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    return cv2.boxFilter(plane, -1, (size, size), normalize=False, borderType=cv2.BORDER_CONSTANT)


def colour(heights: Floats, south: Floats, east: Floats) -> NDArray[np.float64]:
    """Colour heights above ground [m] as the well-known tiles are: (rows, columns, 3) RGB, 0 … 255; a ramp times the light."""
    shade = np.clip(_facing(south, east, np.float64), 0.0, 1.0)
    steps = np.clip(heights / _RAMP_TOP_M, 0.0, 1.0) * (len(_RAMP) - 1)
    ramp = np.stack(
        [np.interp(steps, np.arange(len(_RAMP)), _RAMP[:, k]) for k in range(3)], axis=-1
    )
    coloured: NDArray[np.float64] = ramp * shade[..., None]
    return coloured
