"""The demo city: a made town with tiles, areas and seven targets whose best reachable R² is known."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from joblib import cpu_count
from scipy.ndimage import distance_transform_edt

from extract.city.drawing import FORMS, TILE_M, City, build_forms, draw_tile
from extract.city.town import Ints, Town, build_table, plan_town
from extract.city.truth import TARGETS

SETTINGS_NAME = "demo.toml"
_MARK = "# Settings of a made city; this line lets the folder be made anew.\n"
ORIGIN = (700_000.0, 500_000.0)  # on the British grid, but in the North Sea: no real place is meant
MIN_TILES = 20
MIN_AREAS = 2


def write_city(
    folder: Path, *, n_tiles: int = 600, n_areas: int = 120, seed: int = 0, is_deep: bool = False
) -> Path:
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
    settings = _SETTINGS.format(
        rows=len(town.frame),
        size=TILE_M,
        east=ORIGIN[0],
        north=ORIGIN[1],
        **(_DEEP if is_deep else _SHALLOW),
    )
    partial.write_text(_MARK + settings, encoding="utf-8")
    return partial.replace(folder / SETTINGS_NAME)


def check_arguments(n_tiles: int, n_areas: int, seed: int) -> None:
    """Raise ValueError for a number of tiles or areas, or a seed, that no city can be made from."""
    if n_tiles < MIN_TILES:
        raise ValueError(
            f"n_tiles: expected {MIN_TILES} or more, got {n_tiles}. Ask for more tiles."
        )
    if n_areas < MIN_AREAS:
        raise ValueError(
            f"n_areas: expected {MIN_AREAS} or more, got {n_areas}. Ask for more areas."
        )
    if n_areas > n_tiles:
        raise ValueError(
            f"n_areas: expected at most one a tile, got {n_areas} areas for {n_tiles} tiles. "
            f"Ask for {n_tiles} areas or fewer, or for more tiles."
        )
    if seed < 0:
        raise ValueError(
            f"seed: expected 0 or more, got {seed}. Give a whole number that is not negative."
        )


def build_ceiling(town: Town) -> pd.DataFrame:
    """Return the R² of the noise-free function: columns target, level (`tile` or `area`) and r2.

    At `tile` level an area counts once for each of its tiles, at `area` level once.
    """
    rows = []
    for k, name in enumerate(TARGETS):
        for level, pick in (("tile", town.area), ("area", np.arange(len(town.labels)))):
            truth = town.labels[pick, k]
            expected = town.expected[pick, k]
            r2 = 1.0 - ((truth - expected) ** 2).sum() / ((truth - truth.mean()) ** 2).sum()
            rows.append({"target": name, "level": level, "r2": round(float(r2), 4)})
    return pd.DataFrame(rows)


def _claim_folder(folder: Path) -> Path:
    """Make sure that the folder is ours to write, and mark it as ours until the settings file is back."""
    settings = folder / SETTINGS_NAME
    partial = folder / f"{SETTINGS_NAME}.partial"
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"{folder}: expected a folder, found a file. Name another folder.")
    if _is_ours(settings):
        settings.replace(partial)
    elif folder.is_dir() and any(folder.iterdir()) and not _is_ours(partial):
        raise FileExistsError(
            f"{folder}: holds files but no {SETTINGS_NAME} of a city made before. "
            "Name an empty or a new folder, or remove the files."
        )
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
        png = cv2.imencode(".png", draw_tile(city, row, column), [cv2.IMWRITE_PNG_COMPRESSION, 3])[
            1
        ]
        (folder / f"LIDAR_{town.ids[tile]}.png").write_bytes(png.tobytes())

    with ThreadPoolExecutor(cpu_count()) as pool:
        list(pool.map(write, range(len(town.places))))


def _fill_outside(frame: Ints) -> Ints:
    """Return every square outside the town the area of the nearest one inside, for what shows at the edges."""
    row, column = distance_transform_edt(frame < 0, return_distances=False, return_indices=True)
    filled: Ints = frame[row, column]
    return filled


def _render_readme(town: Town, seed: int, ceiling: pd.DataFrame) -> str:
    """Describe how the data was made, what each target depends on, and how to read the ceiling."""
    r2 = ceiling.set_index(["target", "level"])["r2"]
    lines = []
    for name, (mean, sd, limit, share, weights) in TARGETS.items():
        terms = " ".join(
            f"{weight:+.1f} {form}" for form, weight in zip(FORMS, weights, strict=True) if weight
        )
        lines.append(
            f"{name}: {terms}\n    mean {mean}, sd {sd}, limit {limit}, share {share}; "
            f"ceiling {r2[name, 'tile']:.2f} over tiles, {r2[name, 'area']:.2f} over areas"
        )
    return _README.format(
        n_tiles=len(town.places), n_areas=len(town.lad), seed=seed, functions="\n".join(lines)
    )


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
weights = "imagenet"

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

_SHALLOW = {
    "name": "demo",
    "cuts": '"vgg16/block3_pool:avg", "mobilenetv2/block_13_expand_relu:avg"',
    "targets": ", ".join(f'"{name}"' for name in TARGETS),
    "names": '"stack"',
    "splits": '"random", "area", "block"',
    "folds": 5,
    "more": "",
}
_NETWORKS = """keep = ["ridge", "head", "tail", "finetune:mobilenetv2"]
maps = "networks"  # the map cuts are for networks alone

# A short training, so that two cores end within minutes: few targets, folds and epochs, small pictures, and steps that are long.
# For one in earnest remove these two tables, or raise epochs and patience in them.
[models.params.tail]
joint = true  # one network for all targets
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
_DEEP = {
    "name": "demo-deep",
    "cuts": '"mobilenetv2/block_13_expand_relu:avg", "mobilenetv2/out_relu:avg", "mobilenetv2/block_15_add:map", '
    '"pixels/96:map"',
    "targets": '"income", "living_environment"',
    "names": '"tail", "finetune:mobilenetv2"',
    "splits": '"area"',
    "folds": 3,
    "more": _NETWORKS,
}
