"""The plan of the made city: which squares it covers, how they are shared among areas, and what those are called."""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from extract.city.drawing import FORMS
from extract.city.truth import TARGETS, Floats, draw_labels, draw_scores

_NAME_STARTS = (
    "Quarn",
    "Velm",
    "Ostr",
    "Drune",
    "Ilver",
    "Mosk",
    "Threl",
    "Yaven",
    "Corv",
    "Lisk",
    "Zelb",
)
_NAME_ENDS = (
    "hithe",
    "combe",
    "mere",
    "stow",
    "wick",
    "holt",
    "garth",
    "marsh",
    "fold",
    "leigh",
    "ness",
)
_CLOSE = ("Loosely built", "Evenly built", "Closely built")
_HARD = ("with houses under trees", "with houses and flats", "with towers and few trees")

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Town:
    """The plan of the town: what is where, what it is built like, and its labels.

    Attributes
    ----------
    frame : (n_side, n_side) int64, area of every grid square, −1 outside the town; row 0 in the north.
    places : (n_tiles, 2) int64, row and column of the tiles, in the order of their ids.
    area : (n_tiles,) int64, area of each tile, 0 … n_areas − 1.
    msoa, lad : (n_areas,) int64, the larger areas that each area lies in.
    scores : (n_areas, 8), standard scores of the urban form, one column for each of `city.FORMS`.
    labels : (n_areas, 7), the targets, rounded to three decimals.
    expected : (n_areas, 7), their noise-free function: the mean of each target given the form.
    """

    frame: Ints
    places: Ints
    area: Ints
    msoa: Ints
    lad: Ints
    scores: Floats
    labels: Floats
    expected: Floats

    @property
    def ids(self) -> Ints:
        """(n_tiles,), the number of each tile's grid square, counted down the columns from the north-west."""
        ids: Ints = self.places[:, 1] * len(self.frame) + self.places[:, 0]
        return ids


def plan_town(*, n_tiles: int, n_areas: int, seed: int) -> Town:
    """Lay the town out, give every area its form, and draw the targets from the form."""
    rng = np.random.default_rng(seed)
    places = _grow_town(n_tiles, rng)
    near = _neighbours(places)
    area = _grow_groups(near, _spread_starts(places, n_areas, rng, n_tries=2), rng, spread=0.35)
    near = _merge(near, area)
    centres = _centres(places, area)
    starts = _spread_starts(centres, max(1, round(n_areas / 5)), rng, n_tries=8)
    msoa = _grow_groups(near, starts, rng, spread=0.1)
    near = _merge(near, msoa)
    middles = _centres(centres, msoa)
    starts = _spread_starts(middles, max(1, round(n_areas / 30)), rng, n_tries=20)
    lad = _grow_groups(near, starts, rng, spread=0.1)[msoa]
    side = _side(n_tiles)
    frame = np.full((side, side), -1, dtype=np.int64)
    frame[places[:, 0], places[:, 1]] = area
    scores = draw_scores(centres, rng)
    labels, expected = draw_labels(scores, rng)
    return Town(
        frame=frame,
        places=places,
        area=area,
        msoa=msoa,
        lad=lad,
        scores=scores,
        labels=labels,
        expected=expected,
    )


def build_table(town: Town, seed: int) -> pd.DataFrame:
    """Return the 18 columns of the real coursework table, one row a tile, in the order of the ids."""
    areas = _describe_areas(town, np.random.default_rng([seed, 1]))
    for k, name in enumerate(TARGETS):
        areas[name] = town.labels[:, k]
    table = areas.iloc[town.area].reset_index(drop=True)
    table.insert(0, "id", town.ids)
    return table


def _side(n_tiles: int) -> int:
    return int(np.ceil(1.45 * np.sqrt(n_tiles))) + 3


def _grow_town(n_tiles: int, rng: np.random.Generator) -> Ints:
    """Choose connected grid squares, outwards from the middle, with an irregular outline; sorted by id."""
    side = _side(n_tiles)
    south, east = np.indices((side, side)) - side / 2
    angle = np.arctan2(south, east)
    lobes = sum(0.1 * np.cos(k * angle + rng.uniform(0, 2 * np.pi)) for k in (1, 2, 3, 5))
    cost = np.hypot(south, east) * (1 + lobes) + 0.06 * side * rng.random((side, side))
    queue = [(0.0, side // 2, side // 2)]
    seen = {(side // 2, side // 2)}
    places: list[tuple[int, int]] = []
    while len(places) < n_tiles:
        _, row, column = heapq.heappop(queue)
        places.append((column, row))
        for near in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
            if near not in seen and min(near) >= 0 and max(near) < side:
                seen.add(near)
                heapq.heappush(queue, (float(cost[near]), *near))
    return np.array(sorted(places), dtype=np.int64)[:, ::-1]


def _neighbours(places: Ints) -> list[list[int]]:
    """List, for each tile, the tiles that share an edge with it."""
    index = {(int(row), int(column)): k for k, (row, column) in enumerate(places)}
    steps = ((-1, 0), (0, -1), (0, 1), (1, 0))
    return [
        [index[row + i, column + j] for i, j in steps if (row + i, column + j) in index]
        for row, column in index
    ]


def _merge(near: list[list[int]], group: Ints) -> list[list[int]]:
    """List, for each group, the groups that touch it."""
    touching: list[set[int]] = [set() for _ in range(int(group.max()) + 1)]
    for k, others in enumerate(near):
        touching[group[k]] |= {int(group[other]) for other in others} - {int(group[k])}
    return [sorted(others) for others in touching]


def _centres(places: Floats | Ints, group: Ints) -> Floats:
    """Return the mean place of each group: (n_groups, 2)."""
    centres: Floats = pd.DataFrame(places).groupby(group).mean().to_numpy()
    return centres


def _spread_starts(
    places: Floats | Ints, n_starts: int, rng: np.random.Generator, *, n_tries: int
) -> Ints:
    """Choose distinct rows of `places`, each the farthest from those before of `n_tries` drawn at random."""
    far = np.full(len(places), np.inf)
    starts = np.empty(n_starts, dtype=np.int64)
    for k in range(n_starts):
        tries = rng.choice(np.flatnonzero(far > 0), n_tries)
        starts[k] = tries[far[tries].argmax()]
        far = np.minimum(far, np.hypot(*(places - places[starts[k]]).T))
        far[starts[k]] = 0.0
    return starts


def _grow_groups(
    near: list[list[int]], starts: Ints, rng: np.random.Generator, *, spread: float
) -> Ints:
    """Share connected things among contiguous groups of unequal size: (len(near),), each one's group.

    Every group grows from its start at its own pace (log-normal, standard deviation `spread`).
    """
    pace = rng.lognormal(0.0, spread, len(starts))
    group = np.full(len(near), -1, dtype=np.int64)
    queue = [(0.0, int(start), number) for number, start in enumerate(starts)]
    while queue:
        time, here, number = heapq.heappop(queue)
        if group[here] < 0:
            group[here] = number
            for other in near[here]:
                heapq.heappush(queue, (time + rng.gamma(4.0) / pace[number], other, number))
    return group


def _describe_areas(town: Town, rng: np.random.Generator) -> pd.DataFrame:
    """Name the areas and class them coarsely by a noisy look at their form: (n_areas) rows, 10 columns."""
    n_lad = int(town.lad.max()) + 1
    msoa_lad = np.array([town.lad[town.msoa == k][0] for k in range(int(town.msoa.max()) + 1)])
    msoa_number = pd.Series(msoa_lad).groupby(msoa_lad).cumcount().to_numpy() + 1
    letter = pd.Series(town.msoa).groupby(town.msoa).cumcount()
    lad_name = np.array([_lad_name(k) for k in range(n_lad)])[town.lad]
    msoa_name = [
        f"{name} {msoa_number[m]:03d}" for name, m in zip(lad_name, town.msoa, strict=True)
    ]
    noisy = town.scores + 0.6 * rng.standard_normal(town.scores.shape)
    form = dict(zip(FORMS, noisy.T, strict=True))
    close = form["coverage"] - form["yards"]
    hard = form["towers"] - form["trees"]
    group = 3 * _thirds(close) + _thirds(hard)
    district = _thirds(pd.Series(close).groupby(town.lad).mean().to_numpy())[town.lad]
    return pd.DataFrame(
        {
            "LSOA11CD": [f"E01{900_001 + k}" for k in range(len(town.lad))],
            "LSOA11NM": [f"{name}{_letters(k)}" for name, k in zip(msoa_name, letter, strict=True)],
            "SOAC11CD": [f"{k // 3 + 1}{'abc'[k % 3]}" for k in group],
            "SOAC11NM": [f"{_CLOSE[k // 3]} {_HARD[k % 3]}" for k in group],
            "MSOA11CD": [f"E02{900_001 + k}" for k in town.msoa],
            "MSOA11NM": msoa_name,
            "LAD17CD": [f"E09{900_001 + k}" for k in town.lad],
            "LAD17NM": lad_name,
            "LACCD": [f"{k + 1}a1r" for k in district],
            "LACNM": [f"{_CLOSE[k]} districts" for k in district],
        }
    )


def _lad_name(number: int) -> str:
    again, place = divmod(number, len(_NAME_STARTS) * len(_NAME_ENDS))
    name = (
        _NAME_STARTS[place % len(_NAME_STARTS)]
        + _NAME_ENDS[(place * 5 + place // 12) % len(_NAME_ENDS)]
    )
    return name if again == 0 else f"{name} {again + 1}"


def _letters(number: int) -> str:
    """Count as a spreadsheet does: A … Z, AA, AB and so on."""
    first, last = divmod(int(number), 26)
    return (_letters(first - 1) if first else "") + chr(ord("A") + last)


def _thirds(values: Floats) -> Ints:
    """Class values into low, middle and high thirds by rank: 0, 1, 2."""
    rank = np.argsort(np.argsort(values, kind="stable"), kind="stable")
    return rank * 3 // len(values)
