"""The demo city: a made town with tiles, areas and seven targets whose best reachable R² is known."""

from __future__ import annotations

import heapq
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from extract.city import FORMS, TILE_M, City, build_forms, draw_tile

SETTINGS_NAME = "demo.toml"
_MARK = "# Settings of a made city; this line lets the folder be made anew.\n"
ORIGIN = (700_000.0, 500_000.0)  # on the British grid, but in the North Sea: no real place is meant
MIN_TILES, MIN_AREAS = 20, 2

# Mean, standard deviation and a limit that no value passes, from the Indices of Deprivation 2019 of London's
# 4,835 LSOAs; then the share of the variance that the form explains, and its weights (in the order of FORMS).
TARGETS: dict[str, tuple[float, float, float, float, tuple[float, ...]]] = {
    #                    mean     sd     limit  share    cov  height tower  terr  yards  trees width bend
    "income":             (0.136, 0.0757, 0.004, 0.68, (0.2, 0.0, 0.7, 0.1, -0.2, -0.6, 0.0, 0.0)),
    "employment":         (0.087, 0.0468, 0.002, 0.64, (0.2, 0.0, 0.7, 0.1, -0.1, -0.6, 0.1, 0.0)),
    "education":          (13.07, 9.973, 0.010, 0.60, (-0.2, 0.0, 0.6, 0.1, -0.1, -0.6, 0.0, -0.1)),
    "health":             (-0.383, 0.705, 1.78, 0.56, (0.3, 0.1, 0.6, 0.0, -0.2, -0.5, 0.0, 0.0)),
    "crime":              (0.258, 0.571, 6.85, 0.52, (0.6, 0.1, 0.3, 0.1, 0.0, -0.4, 0.1, 0.0)),
    "barriers":           (31.62, 9.745, 0.500, 0.48, (0.2, 0.0, 0.6, -0.1, 0.0, -0.7, 0.0, 0.0)),
    "living_environment": (29.21, 10.89, 5.000, 0.80, (0.7, 0.2, 0.0, 0.2, -0.5, 0.1, -0.1, 0.0)),
}
# Correlations of the seven in the same LSOAs, in the order of TARGETS.
CORRELATION = np.array([
    [1.00, 0.95, 0.71, 0.78, 0.50, 0.56, 0.10],
    [0.95, 1.00, 0.69, 0.77, 0.47, 0.48, 0.05],
    [0.71, 0.69, 1.00, 0.56, 0.33, 0.46, -0.11],
    [0.78, 0.77, 0.56, 1.00, 0.49, 0.45, 0.18],
    [0.50, 0.47, 0.33, 0.49, 1.00, 0.31, 0.36],
    [0.56, 0.48, 0.46, 0.45, 0.31, 1.00, 0.11],
    [0.10, 0.05, -0.11, 0.18, 0.36, 0.11, 1.00],
])
_NAME_STARTS = ("Quarn", "Velm", "Ostr", "Drune", "Ilver", "Mosk", "Threl", "Yaven", "Corv", "Lisk", "Zelb")
_NAME_ENDS = ("hithe", "combe", "mere", "stow", "wick", "holt", "garth", "marsh", "fold", "leigh", "ness")
_CLOSE = ("Loosely built", "Evenly built", "Closely built")
_HARD = ("with houses under trees", "with houses and flats", "with towers and few trees")

Floats = NDArray[np.float64]
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


def write_city(folder: Path, *, n_tiles: int = 600, n_areas: int = 120, seed: int = 0, is_deep: bool = False) -> Path:
    """Make a procedural city: tiles that look like coloured LiDAR, their table, its ceiling and settings.

    The labels are a known function of what the pictures show plus noise, so that the best reachable R² of
    each target is known and written beside the data. Same arguments, same bytes.

    Parameters
    ----------
    folder : made where it is not there; a city made before is overwritten in place.
    n_tiles : pictures of 200 m × 200 m, at least 20.
    n_areas : areas that the tiles are shared among, 2 … n_tiles.
    seed : whole number, 0 or more.
    is_deep : the settings train networks too, briefly, for two of the targets, on one split and without the stack.

    Returns
    -------
    Path of the settings file `demo.toml`, which is written last.

    Raises
    ------
    ValueError : an argument out of its range.
    FileExistsError : the folder holds files, and no city made before.

    Examples
    --------
    >>> write_city(Path("city"), n_tiles=40, n_areas=8)  # doctest: +SKIP
    PosixPath('city/demo.toml')
    """
    check_arguments(n_tiles, n_areas, seed)
    town = plan_town(n_tiles=n_tiles, n_areas=n_areas, seed=seed)
    partial = _claim_folder(folder)
    _write_tiles(folder / "tiles", town, seed)
    build_table(town, seed).to_csv(folder / "EmbeddingData.csv", index=False, lineterminator="\n")
    ceiling = build_ceiling(town)
    ceiling.to_csv(folder / "ceiling.csv", index=False, lineterminator="\n")
    (folder / "README.txt").write_text(_render_readme(town, seed, ceiling), encoding="utf-8")
    settings = _SETTINGS.format(rows=len(town.frame), size=TILE_M, east=ORIGIN[0], north=ORIGIN[1],
                                **(_DEEP if is_deep else _SHALLOW))
    partial.write_text(_MARK + settings, encoding="utf-8")
    return partial.replace(folder / SETTINGS_NAME)


def check_arguments(n_tiles: int, n_areas: int, seed: int) -> None:
    """Raise ValueError for a number of tiles or areas, or a seed, that no city can be made from."""
    if n_tiles < MIN_TILES:
        raise ValueError(f"n_tiles: expected {MIN_TILES} or more, got {n_tiles}. Ask for more tiles.")
    if n_areas < MIN_AREAS:
        raise ValueError(f"n_areas: expected {MIN_AREAS} or more, got {n_areas}. Ask for more areas.")
    if n_areas > n_tiles:
        raise ValueError(f"n_areas: expected at most one a tile, got {n_areas} areas for {n_tiles} tiles. "
                         f"Ask for {n_tiles} areas or fewer, or for more tiles.")
    if seed < 0:
        raise ValueError(f"seed: expected 0 or more, got {seed}. Give a whole number that is not negative.")


def plan_town(*, n_tiles: int, n_areas: int, seed: int) -> Town:
    """Lay the town out, give every area its form, and draw the targets from the form."""
    rng = np.random.default_rng(seed)
    places = _grow_town(n_tiles, rng)
    near = _neighbours(places)
    area = _grow_groups(near, _spread_starts(places, n_areas, rng, n_tries=2), rng, spread=0.35)
    near, centres = _merge(near, area), _centres(places, area)
    starts = _spread_starts(centres, max(1, round(n_areas / 5)), rng, n_tries=8)
    msoa = _grow_groups(near, starts, rng, spread=0.1)
    near, middles = _merge(near, msoa), _centres(centres, msoa)
    starts = _spread_starts(middles, max(1, round(n_areas / 30)), rng, n_tries=20)
    lad = _grow_groups(near, starts, rng, spread=0.1)[msoa]
    side = _side(n_tiles)
    frame = np.full((side, side), -1, dtype=np.int64)
    frame[places[:, 0], places[:, 1]] = area
    scores = _draw_scores(centres, rng)
    labels, expected = _draw_labels(scores, rng)
    return Town(frame=frame, places=places, area=area, msoa=msoa, lad=lad,
                scores=scores, labels=labels, expected=expected)


def build_table(town: Town, seed: int) -> pd.DataFrame:
    """Give the 18 columns of the real coursework table, one row a tile, in the order of the ids."""
    areas = _describe_areas(town, np.random.default_rng([seed, 1]))
    for k, name in enumerate(TARGETS):
        areas[name] = town.labels[:, k]
    table = areas.iloc[town.area].reset_index(drop=True)
    table.insert(0, "id", town.ids)
    return table


def build_ceiling(town: Town) -> pd.DataFrame:
    """Give the R² of the noise-free function: columns target, level (`tile` or `area`) and r2.

    At `tile` level an area counts once for each of its tiles, at `area` level once.
    """
    rows = []
    for k, name in enumerate(TARGETS):
        for level, pick in (("tile", town.area), ("area", np.arange(len(town.labels)))):
            truth, expected = town.labels[pick, k], town.expected[pick, k]
            r2 = 1.0 - ((truth - expected) ** 2).sum() / ((truth - truth.mean()) ** 2).sum()
            rows.append({"target": name, "level": level, "r2": round(float(r2), 4)})
    return pd.DataFrame(rows)


def _claim_folder(folder: Path) -> Path:
    """Make sure that the folder is ours to write, and mark it as ours until the settings file is back."""
    settings, partial = folder / SETTINGS_NAME, folder / f"{SETTINGS_NAME}.partial"
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"{folder}: expected a folder, found a file. Name another folder.")
    if _is_ours(settings):
        settings.replace(partial)
    elif folder.is_dir() and any(folder.iterdir()) and not _is_ours(partial):
        raise FileExistsError(f"{folder}: holds files but no {SETTINGS_NAME} of a city made before. "
                              "Name an empty or a new folder, or remove the files.")
    (folder / "tiles").mkdir(parents=True, exist_ok=True)
    partial.write_text(_MARK, encoding="utf-8")
    return partial


def _is_ours(settings: Path) -> bool:
    return settings.is_file() and settings.read_bytes().startswith(_MARK.encode())


def _write_tiles(folder: Path, town: Town, seed: int) -> None:
    """Draw all tiles, several at once, and remove those of an earlier city."""
    forms = build_forms(town.scores, np.random.default_rng([seed, 2]))
    city = City(frame=_fill_outside(town.frame), forms=forms, seed=seed * 1000)
    for old in folder.glob("LIDAR_*.png"):
        old.unlink()

    def write(tile: int) -> None:
        row, column = town.places[tile]
        png = cv2.imencode(".png", draw_tile(city, row, column), [cv2.IMWRITE_PNG_COMPRESSION, 3])[1]
        (folder / f"LIDAR_{town.ids[tile]}.png").write_bytes(png.tobytes())

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(write, range(len(town.places))))


def _fill_outside(frame: Ints) -> Ints:
    """Give every square outside the town the area of the nearest one inside, for what shows at the edges."""
    row, column = distance_transform_edt(frame < 0, return_distances=False, return_indices=True)
    filled: Ints = frame[row, column]
    return filled


def _side(n_tiles: int) -> int:
    return int(np.ceil(1.45 * np.sqrt(n_tiles))) + 3


def _grow_town(n_tiles: int, rng: np.random.Generator) -> Ints:
    """Choose connected grid squares, outwards from the middle, with an irregular outline; sorted by id."""
    side = _side(n_tiles)
    south, east = np.indices((side, side)) - side / 2
    angle = np.arctan2(south, east)
    lobes = sum(0.1 * np.cos(k * angle + rng.uniform(0, 2 * np.pi)) for k in (1, 2, 3, 5))
    cost = np.hypot(south, east) * (1 + lobes) + 0.06 * side * rng.random((side, side))
    queue, seen = [(0.0, side // 2, side // 2)], {(side // 2, side // 2)}
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
    return [[index[row + i, column + j] for i, j in steps if (row + i, column + j) in index]
            for row, column in index]


def _merge(near: list[list[int]], group: Ints) -> list[list[int]]:
    """List, for each group, the groups that touch it."""
    touching: list[set[int]] = [set() for _ in range(int(group.max()) + 1)]
    for k, others in enumerate(near):
        touching[group[k]] |= {int(group[other]) for other in others} - {int(group[k])}
    return [sorted(others) for others in touching]


def _centres(places: Floats | Ints, group: Ints) -> Floats:
    """Give the mean place of each group: (n_groups, 2)."""
    centres: Floats = pd.DataFrame(places).groupby(group).mean().to_numpy()
    return centres


def _spread_starts(places: Floats | Ints, n_starts: int, rng: np.random.Generator, *, n_tries: int) -> Ints:
    """Choose distinct rows of `places`, each the farthest from those before of `n_tries` drawn at random."""
    far = np.full(len(places), np.inf)
    starts = np.empty(n_starts, dtype=np.int64)
    for k in range(n_starts):
        tries = rng.choice(np.flatnonzero(far > 0), n_tries)
        starts[k] = tries[far[tries].argmax()]
        far = np.minimum(far, np.hypot(*(places - places[starts[k]]).T))
        far[starts[k]] = 0.0
    return starts


def _grow_groups(near: list[list[int]], starts: Ints, rng: np.random.Generator, *, spread: float) -> Ints:
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


def _draw_scores(centres: Floats, rng: np.random.Generator) -> Floats:
    """Draw the form of the areas: (n_areas, 8), the greater part smooth over some km, the rest their own."""
    n_areas, n_forms, n_waves = len(centres), len(FORMS), 12
    length = rng.uniform(18.0, 45.0, (n_waves, n_forms))  # in tiles
    turn, phase = rng.uniform(0.0, 2 * np.pi, (2, n_waves, n_forms))
    south, east = centres.T[..., None, None]
    waves = np.cos(2 * np.pi / length * (south * np.cos(turn) + east * np.sin(turn)) + phase)
    smooth = _standardise(waves.sum(axis=1))
    own = np.sqrt(0.65) * smooth + np.sqrt(0.35) * rng.standard_normal((n_areas, n_forms))
    coverage, height, towers, terraces, yards, trees, width, bend = own.T
    mixed = [coverage, 0.7 * height + 0.4 * coverage + 0.5 * towers, towers, 0.8 * terraces + 0.4 * coverage,
             0.7 * yards - 0.6 * coverage, 0.8 * trees - 0.5 * towers - 0.2 * coverage + 0.2 * yards,
             0.8 * width + 0.5 * towers, bend - 0.3 * terraces]
    return _standardise(np.column_stack(mixed))


def _standardise(values: Floats) -> Floats:
    spread = values.std(axis=0)
    standard: Floats = (values - values.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    return standard


def _draw_labels(scores: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Draw the targets from the form: labels and their noise-free function, both (n_areas, 7).

    A target is limit ± (a ± b·z)² with z = √share·signal + √(1 − share)·noise, the signal being the weighted
    and standardised form. The square gives the skew of the real targets, and keeps shares positive. The
    noise is such that the z correlate as the real targets do, and does not follow the form by chance.
    """
    mean, sd, limit, share = np.array([spec[:4] for spec in TARGETS.values()]).T
    signal = _standardise(scores @ np.array([spec[4] for spec in TARGETS.values()]).T)
    known = np.sqrt(share) * signal
    z = known + np.sqrt(1.0 - share) * _draw_noise(scores, signal, share, rng)
    span, sign = np.abs(mean - limit), np.sign(mean - limit)
    b2 = span - np.sqrt(span**2 - sd**2 / 2.0)  # so that a² + b² = span, 4a²b² + 2b⁴ = sd²
    a, b = np.sqrt(span - b2), sign * np.sqrt(b2)
    labels = limit + sign * (a + b * z) ** 2
    expected = limit + sign * ((a + b * known) ** 2 + b2 * (1.0 - share))
    return np.round(labels, 3), expected


def _draw_noise(scores: Floats, signal: Floats, share: Floats, rng: np.random.Generator) -> Floats:
    """Draw area noise (n_areas, 7) that brings the correlation of the targets to the real one."""
    n_areas, n_targets = signal.shape
    white = rng.standard_normal((n_areas, n_targets))
    if n_areas > 2 * (scores.shape[1] + n_targets):
        form = np.column_stack([np.ones(n_areas), scores])
        white -= form @ np.linalg.lstsq(form, white, rcond=None)[0]
        white = np.linalg.qr(white)[0] * np.sqrt(n_areas)
    wanted = CORRELATION - np.sqrt(np.outer(share, share)) * (signal.T @ signal / n_areas)
    values, vectors = np.linalg.eigh(wanted / np.sqrt(np.outer(1.0 - share, 1.0 - share)))
    root = vectors * np.sqrt(np.clip(values, 0.02, None))
    noise: Floats = white @ (root / np.linalg.norm(root, axis=1, keepdims=True)).T
    return noise


def _describe_areas(town: Town, rng: np.random.Generator) -> pd.DataFrame:
    """Name the areas and class them coarsely by a noisy look at their form: (n_areas) rows, 10 columns."""
    n_lad = int(town.lad.max()) + 1
    msoa_lad = np.array([town.lad[town.msoa == k][0] for k in range(int(town.msoa.max()) + 1)])
    msoa_number = pd.Series(msoa_lad).groupby(msoa_lad).cumcount().to_numpy() + 1
    letter = pd.Series(town.msoa).groupby(town.msoa).cumcount()
    lad_name = np.array([_lad_name(k) for k in range(n_lad)])[town.lad]
    msoa_name = [f"{name} {msoa_number[m]:03d}" for name, m in zip(lad_name, town.msoa, strict=True)]
    noisy = town.scores + 0.6 * rng.standard_normal(town.scores.shape)
    form = dict(zip(FORMS, noisy.T, strict=True))
    close, hard = form["coverage"] - form["yards"], form["towers"] - form["trees"]
    group = 3 * _thirds(close) + _thirds(hard)
    district = _thirds(pd.Series(close).groupby(town.lad).mean().to_numpy())[town.lad]
    return pd.DataFrame({
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
    })


def _lad_name(number: int) -> str:
    again, place = divmod(number, len(_NAME_STARTS) * len(_NAME_ENDS))
    name = _NAME_STARTS[place % len(_NAME_STARTS)] + _NAME_ENDS[(place * 5 + place // 12) % len(_NAME_ENDS)]
    return name if again == 0 else f"{name} {again + 1}"


def _letters(number: int) -> str:
    """Count as a spreadsheet does: A … Z, AA, AB and so on."""
    first, last = divmod(int(number), 26)
    return (_letters(first - 1) if first else "") + chr(ord("A") + last)


def _thirds(values: Floats) -> Ints:
    """Class values into low, middle and high thirds by rank: 0, 1, 2."""
    rank = np.argsort(np.argsort(values, kind="stable"), kind="stable")
    return rank * 3 // len(values)


def _render_readme(town: Town, seed: int, ceiling: pd.DataFrame) -> str:
    """Say how the data was made, what each target depends on, and how to read the ceiling."""
    r2 = ceiling.set_index(["target", "level"])["r2"]
    lines = []
    for name, (mean, sd, limit, share, weights) in TARGETS.items():
        terms = " ".join(f"{weight:+.1f} {form}" for form, weight in zip(FORMS, weights, strict=True)
                         if weight)
        lines.append(f"{name}: {terms}\n    mean {mean}, sd {sd}, limit {limit}, share {share}; "
                     f"ceiling {r2[name, 'tile']:.2f} over tiles, {r2[name, 'area']:.2f} over areas")
    return _README.format(n_tiles=len(town.places), n_areas=len(town.lad), seed=seed,
                          functions="\n".join(lines))


_README = """A made city: {n_tiles} tiles of 200 m in {n_areas} areas, seed {seed}. No real place is meant.

How it was made
    Every area has an urban form: eight standard scores (coverage, height, towers, terraces, yards, trees,
    street width, bend of the streets), partly like its neighbours', partly its own. Its streets, houses,
    towers, yards and trees are drawn from that form as heights in 2 m cells, coloured by height times
    hillshade and enlarged to 224 x 224 pixels. Blocks differ by chance and borders between areas wind, so
    that no tile shows the form exactly. SOAC11CD and LACCD are coarse classes of a noisy look at it.

The function of each target
    signal = the weighted sum of the form scores below, standardised over the areas
    z      = sqrt(share) * signal + sqrt(1 - share) * noise, one draw an area
    target = limit + (a + b z)^2, or limit - (a - b z)^2 where the limit lies above the mean,
             with a, b such that z ~ N(0, 1) gives the mean and standard deviation below
{functions}

What the ceiling means
    ceiling.csv holds the R2 that perfect knowledge of the form reaches: that of the target's mean given the
    form, against the target; at level "tile" an area counts once for each of its tiles, at level "area" once.
    The rest is noise of the area, which no picture shows. A model that passes the ceiling, where the tiles of
    an area are kept on one side of the split, has seen what it should not have, or was lucky.
"""

_SETTINGS = """name = "{name}"

[tiles]
table = "EmbeddingData.csv"
images = "tiles"
path = "LIDAR_{{id}}.png"
id = "id"
area = "LSOA11CD"
grid = {{ rows = {rows}, size_m = {size:.0f}, origin = [{east:.0f}, {north:.0f}] }}
groups = ["LAD17NM", "LACCD", "SOAC11CD"]

[targets]
columns = [{targets}]
ceiling = "ceiling.csv"

[extract]
cuts = [{cuts}]
{views}weights = "imagenet"

[models]
names = ["mean", "region", "location", "geodemographic", "metadata", "ridge", "ridge@area", "ridge+groups@area", \
"knn", "xgboost", "head", {names}]
splits = [{splits}]
folds = {folds}
block_m = 1000
seed = 0
{more}
[reports]
title = "A made city"
higher_is = "more deprived"
"""

_SHALLOW = {"name": "demo", "cuts": '"vgg16/block3_pool:avg", "mobilenetv2/block_13_expand_relu:avg"', "views": "",
            "targets": ", ".join(f'"{name}"' for name in TARGETS), "names": '"stack"', "splits": '"random", "area", "block"',
            "folds": 5, "more": ""}
_NETWORKS = """keep = ["ridge", "head", "tail", "finetune:mobilenetv2"]
maps = "networks"  # the map cuts are for networks alone

# A short training, so that two cores end within minutes: few targets, folds and epochs, small pictures, and steps that are long.
# For one in earnest remove these two tables, or raise epochs and patience in them.
[models.params.tail]
joint = true  # one network for all targets
augment = ["hflip"]
pool = "avg"
hidden = [64]
dropout = 0.2
batch = 8
rate = 1e-3
epochs = 8

[models.params.finetune]
joint = true
pool = "avg"
hidden = [64]
dropout = 0.2
batch = 16
warm_rate = 3e-3
rate = 3e-4
epochs = 2
"""
_DEEP = {"name": "demo-deep", "views": 'views = ["hflip"]  # for the tail to learn from\n',
         "cuts": '"mobilenetv2/block_13_expand_relu:avg", "mobilenetv2/out_relu:avg", "mobilenetv2/block_15_add:map", '
                 '"pixels/96:map"',
         "targets": '"income", "living_environment"', "names": '"tail", "finetune:mobilenetv2"', "splits": '"area"', "folds": 3,
         "more": _NETWORKS}
