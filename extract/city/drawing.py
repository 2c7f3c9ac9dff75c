"""Pictures of the made city: streets, houses, towers and trees as heights, then as colours.

A tile is drawn from the form of its area and its own random numbers alone.
"""

from __future__ import annotations

import cv2
import numpy as np
from scipy.special import expit

from extract.config.arrays import Floats, Pixels
from extract.tiling.relief import colour, gradient

TILE_M = 200.0
CELL_M = 2.0
TILE_PIXELS = 224

_BLOCK_M = 66.0
_HOUSE_M = 11.0
_TREE_M = 9.0
_TABLE = 64  # lots of a random table, more than fit along a tile's diagonal


def draw_tile(form: Floats, rng: np.random.Generator) -> Pixels:
    """Draw one tile: (224, 224, 4) uint8, blue, green, red and an opaque alpha, as OpenCV writes.

    Parameters
    ----------
    form : (5,), standard scores of the area's urban form, one for each of `truth.FORMS`.
    """
    return colour_heights(draw_heights(form, rng))


def draw_heights(form: Floats, rng: np.random.Generator) -> Floats:
    """Draw the heights above ground [m] of a tile: (100, 100), in 2 m cells, north up."""
    coverage, height, towers, trees, width = np.clip(form, -2.5, 2.5)
    along, across = _turn_streets(rng)
    edge = _measure_edge(along, across, street_m=12.0 + 3.2 * width)

    lot = _draw_per_lot(along, across, lot_m=_HOUSE_M, rng=rng)
    house_share = _share(0.2 + 1.3 * coverage)
    is_house = lot < house_share
    is_house &= edge > 2.0
    eaves = 6.5 + 1.8 * height + 2.0 * lot
    gable = 5.0 * _to_edge(across, _HOUSE_M)
    gable /= _HOUSE_M
    built = np.where(is_house, eaves + gable, 0.0)

    block = _draw_per_lot(along, across, lot_m=_BLOCK_M, rng=rng)
    tower_share = _share(-1.6 + 1.5 * towers)
    roof = 30.0 + 4.0 * height + 10.0 * block
    tower = np.where(edge > 11.0, roof, 0.0)
    built = np.where(block < tower_share, tower, built)

    tree_share = _share(-0.8 + 1.4 * trees)
    crowns = _draw_trees(tree_share, along, across, rng=rng)
    crowns[edge <= 0.0] = 0.0
    ground = 0.5 * rng.random(edge.shape)
    unbuilt = np.maximum(ground, crowns)
    return np.where(built > 0.0, built, unbuilt)


def colour_heights(heights: Floats) -> Pixels:
    """Colour heights [m] as the real tiles are: a ramp times the hillshade, enlarged to a tile."""
    surface = heights.astype(np.float32)
    south = gradient(surface, axis=0, cell_m=CELL_M)
    east = gradient(surface, axis=1, cell_m=CELL_M)
    shaded = colour(surface, south, east)
    small = np.rint(shaded).astype(np.uint8)
    size = (TILE_PIXELS, TILE_PIXELS)
    large = cv2.resize(small, size, interpolation=cv2.INTER_LINEAR)
    return cv2.cvtColor(large, cv2.COLOR_RGB2BGRA)


def _turn_streets(rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Return the place of each cell along and across streets of a random direction [m]."""
    n_cells = round(TILE_M / CELL_M)
    south, east = CELL_M * np.indices((n_cells, n_cells))
    angle = rng.uniform(0.0, np.pi)
    cosine = np.cos(angle)
    sine = np.sin(angle)
    shift_along, shift_across = rng.uniform(0.0, _BLOCK_M, 2)
    along = cosine * east
    along += sine * south
    along += shift_along
    across = cosine * south
    across -= sine * east
    across += shift_across
    return along, across


def _measure_edge(along: Floats, across: Floats, *, street_m: float) -> Floats:
    """Return the distance [m] to the nearest kerb of a block; negative on the street."""
    to_side = _to_edge(along, _BLOCK_M)
    to_front = _to_edge(across, _BLOCK_M)
    to_middle = np.minimum(to_side, to_front)
    return to_middle - street_m / 2


def _to_edge(place: Floats, lot_m: float) -> Floats:
    """Return the distance [m] to the nearest edge of the lot that a coordinate [m] lies in."""
    into = place % lot_m
    return np.minimum(into, lot_m - into)


def _draw_per_lot(
    along: Floats, across: Floats, *, lot_m: float, rng: np.random.Generator
) -> Floats:
    """Return a random number in [0, 1) for each square lot, at each cell of it."""
    rows = along // lot_m % _TABLE
    columns = across // lot_m % _TABLE
    table = rng.random((_TABLE, _TABLE))
    drawn: Floats = table[rows.astype(np.int64), columns.astype(np.int64)]
    return drawn


def _draw_trees(share: float, along: Floats, across: Floats, *, rng: np.random.Generator) -> Floats:
    """Draw round crowns [m] on a share of the lots of 9 m."""
    lot = _draw_per_lot(along, across, lot_m=_TREE_M, rng=rng)
    radius = _TREE_M / 2
    east = along % _TREE_M - radius
    south = across % _TREE_M - radius
    distance = np.hypot(east, south) / radius
    dome = 1.0 - distance**2
    is_crown = lot < share
    is_crown &= dome > 0.0
    crown = 5.0 + 3.5 * dome
    return np.where(is_crown, crown, 0.0)


def _share(logit: float) -> float:
    return float(expit(logit))
