"""The made city's pictures: streets, houses, towers, yards and trees as heights, then as colours.

Every height is a pure function of the place and the seed, so that streets and roofs go on over tile borders
and a tile can be drawn alone. Fitted to real tiles and the surface model that they were made from: 2 m cells,
lit from the south-west at 45°, flat ground at full brightness, shaded before the tile is enlarged.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from extract.tiling.relief import colour

TILE_M = 200.0
CELL_M = 2.0
TILE_PIXELS = 224
MARGIN_CELLS = 8  # drawn around a tile, so that slopes and road edges meet those of the next tile
FORMS = ("coverage", "height", "towers", "terraces", "yards", "trees", "width", "bend")

_EVEN = (
    0.7548776662,
    0.5698402910,
)  # the R2 sequence: its multiples modulo 1 fill the square evenly
_TREE_M = 7.0  # one tree at most in every square of this side

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Forms:
    """What the areas are built like: every field (n_areas,) float32, in metres, radians or shares."""

    angle: Floats
    block_u_m: Floats
    block_v_m: Floats
    street_m: Floats
    bend_m: Floats
    setback_m: Floats
    depth_m: Floats
    eaves_m: Floats
    tower_m: Floats
    park_share: Floats
    tower_share: Floats
    court_share: Floats
    terrace_share: Floats
    rear_share: Floats
    tree_share: Floats


def build_forms(scores: NDArray[np.float64], rng: np.random.Generator) -> Forms:
    """Turn standard scores of the urban form into metres and shares.

    Parameters
    ----------
    scores : (n_areas, 8), one column for each of `FORMS`, about mean 0 and standard deviation 1.
    rng : draws what no target depends on: the angle of the streets and the length of the blocks.
    """
    coverage, height, towers, terraces, yards, trees, width, bend = np.clip(scores, -2.5, 2.5).T
    street = 12.0 + 3.2 * width
    setback = np.clip(2.5 + 0.8 * yards, 0.5, None)
    depth = 10.0 + 1.6 * coverage
    garden = np.clip(11.5 + 4.0 * yards - 1.5 * coverage, 3.0, None)
    fields = {
        "angle": rng.uniform(0.0, np.pi, len(scores)),
        "block_u_m": rng.uniform(80.0, 130.0, len(scores)),
        "block_v_m": street + 2 * (setback + depth + garden),
        "street_m": street,
        "bend_m": np.clip(14.0 + 9.0 * bend, 0.0, None),
        "setback_m": setback,
        "depth_m": depth,
        "eaves_m": 6.8 + 1.8 * height,
        "tower_m": 30.0 + 4.0 * height,
        "park_share": _share(-2.2 + 1.1 * yards - 0.3 * coverage),
        "tower_share": _share(-2.0 + 1.7 * towers),
        "court_share": _share(-1.5 + 1.7 * coverage),
        "terrace_share": _share(0.4 + 1.8 * terraces),
        "rear_share": _share(0.2 + 1.3 * coverage),
        "tree_share": 0.65 * _share(-0.8 + 1.4 * trees),
    }
    return Forms(**{name: value.astype(np.float32) for name, value in fields.items()})


def _share(logit: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1.0 / (1.0 + np.exp(-logit))


@dataclass(frozen=True, slots=True, kw_only=True)
class City:
    """What every tile is drawn from.

    Attributes
    ----------
    frame : (n_rows, n_columns) int64, index of the area of every grid square; row 0 in the north.
    """

    frame: Ints
    forms: Forms
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """The cells around one tile, each (n_cells, n_cells), in the street grid of the area that it lies in.

    `u` and `v` run along and across the blocks from the block's corner [m], `edge_u` and `edge_v` count from
    the nearest kerb (negative: street) [m]; `key` numbers the block, `turn` in [0, 1) decides its kind and is
    evenly spread over neighbouring blocks; `road` marks roads between areas.
    """

    x: Floats
    y: Floats
    area: Ints
    key: Ints
    turn: Floats
    u: Floats
    v: Floats
    edge_u: Floats
    edge_v: Floats
    road: Mask
    seed: int

    def chance(self, salt: int, *numbers: NDArray[np.generic]) -> Floats:
        """Return each cell's own number in [0, 1) for its block and, within that, `numbers`."""
        return _hash(self.seed + salt, self.key, *numbers)

    def noise(self, scale_m: float, salt: int) -> Floats:
        """Return smooth numbers in [0, 1] that change over about `scale_m`."""
        return _noise(self.x, self.y, scale_m, self.seed + salt)


def draw_tile(city: City, row: int, column: int) -> NDArray[np.uint8]:
    """Draw one tile: (224, 224, 4) uint8, blue, green, red and an opaque alpha, as OpenCV writes it."""
    return colour_heights(draw_heights(city, row, column))


def draw_heights(city: City, row: int, column: int) -> Floats:
    """Draw the heights above ground [m] of a tile and its margin: (116, 116), in 2 m cells, north up."""
    plot = _lay_out(city, row, column)
    forms = {name: getattr(city.forms, name)[plot.area] for name in Forms.__slots__}
    park = forms["park_share"]
    tower = forms["tower_share"]
    is_park = plot.turn < park
    is_tower = ~is_park & (plot.turn < park + (1 - park) * tower)
    is_court = plot.turn > 1 - (1 - park) * (1 - tower) * forms["court_share"]
    built = np.where(is_court, _courts(plot, forms), _rows(plot, forms))
    built = np.where(is_tower, _towers(plot, forms), built)
    built = np.where(is_park | plot.road | (np.minimum(plot.edge_u, plot.edge_v) < 0), 0.0, built)
    ground = np.maximum(_trees(plot, forms, is_park), _clutter(plot))
    return np.where(built > 0, built, ground).astype(np.float32)


def colour_heights(heights: Floats) -> NDArray[np.uint8]:
    """Colour heights [m] by a ramp times the hillshade, and enlarge what lies inside the margin to a tile."""
    south, east = np.array(np.gradient(heights, CELL_M))
    shaded = colour(heights, south, east)[..., ::-1]
    inner = slice(MARGIN_CELLS, -MARGIN_CELLS)
    small = np.round(shaded)[inner, inner].astype(np.uint8)
    tile = np.full((TILE_PIXELS, TILE_PIXELS, 4), 255, dtype=np.uint8)
    tile[..., :3] = cv2.resize(small, (TILE_PIXELS, TILE_PIXELS), interpolation=cv2.INTER_LINEAR)
    return tile


def _lay_out(city: City, row: int, column: int) -> Plot:
    """Find each cell's area, with borders that wind, and its place in that area's street grid."""
    steps = (np.arange(-MARGIN_CELLS, TILE_M / CELL_M + MARGIN_CELLS) + 0.5) * CELL_M
    x = (column * TILE_M + steps).astype(np.float32)
    y = (row * TILE_M + steps).astype(np.float32)
    area = _areas(city, x, y)
    forms = city.forms
    bend = forms.bend_m[area]
    east = x[None, :] + bend * (_noise(x, y, 110.0, city.seed + 13) - 0.5)
    south = y[:, None] + bend * (_noise(x, y, 110.0, city.seed + 14) - 0.5)
    angle = forms.angle[area]
    along = np.cos(angle) * east + np.sin(angle) * south
    across = np.cos(angle) * south - np.sin(angle) * east
    index_v, v, edge_v = _blocks(across, forms.block_v_m[area], forms.street_m[area])
    stagger = _hash(city.seed + 15, area, index_v // 2) * forms.block_u_m[area]
    index_u, u, edge_u = _blocks(along + stagger, forms.block_u_m[area], forms.street_m[area])
    key = (area * 4099 + index_u) * 4099 + index_v
    turn = (_hash(city.seed + 16, area) + index_u * _EVEN[0] + index_v * _EVEN[1]) % 1.0
    return Plot(
        x=x,
        y=y,
        area=area,
        key=key,
        turn=turn.astype(np.float32),
        u=u,
        v=v,
        edge_u=edge_u,
        edge_v=edge_v,
        road=_is_border(area),
        seed=city.seed,
    )


def _areas(city: City, x: Floats, y: Floats) -> Ints:
    """Return each cell the area of its grid square, or of one beside it: borders wind by up to 30 m."""
    column = (x[None, :] + 60.0 * (_noise(x, y, 85.0, city.seed + 11) - 0.5)) // TILE_M
    row = (y[:, None] + 60.0 * (_noise(x, y, 85.0, city.seed + 12) - 0.5)) // TILE_M
    n_rows, n_columns = city.frame.shape
    found: Ints = city.frame[
        np.clip(row.astype(np.int64), 0, n_rows - 1),
        np.clip(column.astype(np.int64), 0, n_columns - 1),
    ]
    return found


def _blocks(
    along: NDArray[np.floating], block_m: Floats, street_m: Floats
) -> tuple[Ints, Floats, Floats]:
    """Cut a coordinate [m] into blocks: number of the block, metres into it, metres from its nearest kerb."""
    index = np.floor(along / block_m)
    into = along - index * block_m
    edge = np.minimum(into, block_m - into) - street_m / 2
    return index.astype(np.int64), into.astype(np.float32), edge.astype(np.float32)


def _is_border(area: Ints) -> Mask:
    """Mark the road between areas: cells within 7 m of a cell of another area."""
    if (area == area[0, 0]).all():
        return np.zeros(area.shape, dtype=np.bool_)
    inside = np.ones(area.shape, dtype=np.uint8)
    inside[:, 1:][area[:, 1:] != area[:, :-1]] = 0
    inside[1:, :][area[1:, :] != area[:-1, :]] = 0
    near: Mask = cv2.distanceTransform(inside, cv2.DIST_L2, 5) * CELL_M < 7.0
    return near


def _rows(plot: Plot, forms: dict[str, Floats]) -> Floats:
    """Two rows of houses back to back: terraces or semis by block, with gable roofs and rear wings."""
    from_front = plot.edge_v - forms["setback_m"]
    depth = forms["depth_m"]
    is_terrace = plot.chance(21) < forms["terrace_share"]
    house_m = np.where(is_terrace, 6.0, 18.0)
    house = np.floor(plot.u / house_m)
    into = plot.u - house * house_m
    chance = plot.chance(22, house, plot.v < plot.edge_v + forms["street_m"])
    is_house = (
        (from_front >= 0) & (from_front < depth) & (plot.edge_u > 2) & (is_terrace | (into < 13.0))
    )
    gable = 1.0 - np.abs(2 * from_front / depth - 1.0)
    roof = forms["eaves_m"] + np.where(is_terrace, 0.5, -0.8) + 1.6 * chance + 2.6 * gable
    chimney = np.where(into < 2.0, 1.2 * (chance > 0.4), 0.0)
    is_rear = (
        (from_front >= depth)
        & (from_front < depth + 5.0)
        & (plot.edge_u > 2)
        & (into < house_m / 2)
    )
    rear = np.where(is_rear & (chance < forms["rear_share"]), 0.55 * forms["eaves_m"], 0.0)
    return np.where(is_house, roof + chimney * is_terrace, rear).astype(np.float32)


def _courts(plot: Plot, forms: dict[str, Floats]) -> Floats:
    """Blocks built along all their edges, lot by lot, around a court with low wings."""
    edge = np.minimum(plot.edge_u, plot.edge_v)
    lot_u = plot.u // 19.0
    lot_v = plot.v // 23.0
    chance = plot.chance(31, lot_u, lot_v)
    plant = 2.4 * (plot.chance(32, plot.u // 5.0, plot.v // 4.0) < 0.14)
    wing = np.where(
        plot.chance(33, plot.u // 11.0, plot.v // 9.0) < 0.7 * forms["rear_share"], 4.5, 0.0
    )
    is_roof = (edge >= 0) & (edge < forms["depth_m"] + 2.0 + 4.0 * chance)
    return np.where(is_roof, 1.3 * forms["eaves_m"] + 8.0 * chance + plant, wing).astype(np.float32)


def _towers(plot: Plot, forms: dict[str, Floats]) -> Floats:
    """Two towers or slabs on a block's open ground, each with a plant room on its roof."""
    pitch = forms["block_u_m"] / 2
    number = np.floor(plot.u / pitch)
    room = forms["block_v_m"] / 2 - forms["street_m"] / 2 - 3.0
    chance = plot.chance(41, number)
    off_u = np.abs(plot.u - (number + 0.42 + 0.16 * chance) * pitch)
    off_v = np.abs(plot.v - forms["block_v_m"] / 2)
    half_u = np.minimum(8.0 + 13.0 * plot.chance(42, number), 0.4 * pitch)
    half_v = np.minimum(6.5 + 6.0 * plot.chance(43, number), room)
    roof = forms["tower_m"] * (0.7 + 0.6 * chance) + 3.5 * ((off_u < 3.5) & (off_v < 3.5))
    return np.where((off_u < half_u) & (off_v < half_v), roof, 0.0).astype(np.float32)


def _trees(plot: Plot, forms: dict[str, Floats], is_park: Mask) -> Floats:
    """Round crowns in clumps: in parks, yards and, fewer, along streets; none on the roads between areas."""
    is_street = np.minimum(plot.edge_u, plot.edge_v) < 0
    clump = 0.5 + plot.noise(37.0, 52)
    share = forms["tree_share"] * clump * np.where(is_street, 0.2, 1.0 + 0.1 * is_park) * ~plot.road
    (knots_y, at_y, _), (knots_x, at_x, _) = _knots(plot.y / _TREE_M), _knots(plot.x / _TREE_M)
    knots = (
        np.pad(knots_y, 1, mode="reflect", reflect_type="odd")[:, None],
        np.pad(knots_x, 1, mode="reflect", reflect_type="odd")[None, :],
    )
    grows, radius, off_y, off_x = (_hash(plot.seed + salt, *knots) for salt in (53, 54, 55, 56))
    heights = np.zeros(share.shape, dtype=np.float32)
    for near_y, near_x in np.ndindex(3, 3):
        pick = np.ix_(at_y + near_y, at_x + near_x)
        south = plot.y[:, None] - (knots[0][at_y + near_y] + off_y[pick]) * _TREE_M
        east = plot.x - (knots[1][:, at_x + near_x] + off_x[pick]) * _TREE_M
        reach = 2.2 + 2.6 * radius[pick]
        dome = 1.0 - (south**2 + east**2) / reach**2
        is_tree = (dome > 0) & (grows[pick] < share)
        heights = np.maximum(heights, np.where(is_tree, reach * (1.6 + 1.1 * dome), 0.0))
    return heights


def _clutter(plot: Plot) -> Floats:
    """Uneven ground, yards a little above some streets and, along the kerbs, parked cars."""
    uneven = 0.25 * plot.noise(3.5, 61) + 0.5 * plot.noise(45.0, 62)
    is_yard = np.minimum(plot.edge_u, plot.edge_v) > 1.0
    uneven = uneven + is_yard * np.maximum(2.6 * plot.chance(64) - 0.8, 0.0)
    is_kerb = (plot.edge_v > -2.6) & (plot.edge_v < -0.4) & ~plot.road
    is_car = is_kerb & (plot.chance(63, plot.u // 5.0, plot.v > 20) < 0.35)
    return np.where(is_car, 1.4, uneven).astype(np.float32)


def _noise(x: Floats, y: Floats, scale_m: float, seed: int) -> Floats:
    """Interpolate hashed lattice values smoothly over a grid of cells: (len(y), len(x)), in [0, 1]."""
    knots_y, at_y, part_y = _knots(y / scale_m)
    knots_x, at_x, part_x = _knots(x / scale_m)
    lattice = _hash(seed, knots_y[:, None], knots_x[None, :])
    lines = lattice[at_y] + part_y[:, None] * (lattice[at_y + 1] - lattice[at_y])
    smooth: Floats = lines[:, at_x] + part_x * (lines[:, at_x + 1] - lines[:, at_x])
    return smooth


def _knots(position: Floats) -> tuple[Ints, Ints, Floats]:
    """Return the lattice points around positions; for each position the one before it, and how far on it is."""
    first = np.floor(position).astype(np.int64)
    part = position - first
    knots = np.arange(first.min(), first.max() + 2)
    return knots, first - knots[0], (part * part * (3.0 - 2.0 * part)).astype(np.float32)


def _hash(seed: int, *numbers: NDArray[np.generic]) -> Floats:
    """Return a number in [0, 1) for each tuple of whole numbers: the same on every machine and in any order."""
    state = np.uint32((seed * 0x9E3779B1 + 0x7F4A7C15) & 0xFFFFFFFF)
    mixed: NDArray[np.uint32] | np.uint32 = state
    for part in numbers:
        mixed = (mixed ^ part.astype(np.int64).astype(np.uint32)) * np.uint32(0x85EBCA6B)
        mixed = (mixed ^ (mixed >> np.uint32(15))) * np.uint32(0xC2B2AE35)
        mixed = mixed ^ (mixed >> np.uint32(13))
    return (np.asarray(mixed) >> np.uint32(8)).astype(np.float32) / np.float32(1 << 24)
