"""The demo city on disk: tiles, table, ceiling, description and settings."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from joblib import cpu_count

from extract.city.drawing import TILE_M, draw_tile
from extract.city.town import Town, build_table, plan_town
from extract.city.truth import FORMS, TARGETS, compute_ceiling
from extract.errors import OptionError
from extract.files.atomic import name_place, publish

SETTINGS_NAME = "demo.toml"
_MARK = "# Settings of a made city; this line lets the folder be made anew.\n"
ORIGIN = (700_000.0, 500_000.0)  # on the British grid, but in the North Sea: no real place is meant
MIN_TILES = 20
MIN_AREAS = 2


def write_city(
    folder: Path, *, n_tiles: int = 600, n_areas: int = 120, seed: int = 0, is_deep: bool = False
) -> Path:
    """Write a made city: tiles that look like coloured LiDAR, their table, ceiling and settings.

    The labels are a known function of what the pictures show plus noise, so that the best
    reachable R² of each target is known and written beside the data. Same arguments, same bytes.

    Parameters
    ----------
    folder : created where it is missing; a city made before is overwritten.
    n_tiles : pictures of 200 m × 200 m, at least 20.
    n_areas : areas that share the tiles, 2 … n_tiles.
    seed : whole number, 0 or more.
    is_deep : write settings that train networks too, briefly, for two targets and one split.

    Returns
    -------
    Path of the settings file `demo.toml`, which is written last.

    Raises
    ------
    OptionError : an argument out of its range, or a folder of other files.

    Examples
    --------
    >>> write_city(Path("city"), n_tiles=40, n_areas=8)  # doctest: +SKIP
    PosixPath('city/demo.toml')
    """
    _check_arguments(n_tiles, n_areas, seed)
    town = plan_town(n_tiles=n_tiles, n_areas=n_areas, seed=seed)
    partial = _claim_folder(folder)
    _write_tiles(folder / "tiles", town, seed)
    build_table(town, seed).to_csv(folder / "EmbeddingData.csv", index=False, lineterminator="\n")
    ceiling = compute_ceiling(town.labels, town.expected, town.area)
    ceiling.to_csv(folder / "ceiling.csv", index=False, lineterminator="\n")
    (folder / "README.txt").write_text(_render_readme(town, seed, ceiling), encoding="utf-8")
    settings = _SETTINGS.format(
        rows=town.side,
        size=TILE_M,
        east=ORIGIN[0],
        north=ORIGIN[1],
        **(_DEEP if is_deep else _SHALLOW),
    )
    partial.write_text(_MARK + settings, encoding="utf-8")
    publish(partial, folder / SETTINGS_NAME)
    return folder / SETTINGS_NAME


def _check_arguments(n_tiles: int, n_areas: int, seed: int) -> None:
    least = {"n_tiles": (n_tiles, MIN_TILES), "n_areas": (n_areas, MIN_AREAS), "seed": (seed, 0)}
    for name, (value, minimum) in least.items():
        if value < minimum:
            raise OptionError(
                f"{name}: expected {minimum} or more, got {value}. Choose a greater number."
            )
    if n_areas > n_tiles:
        raise OptionError(
            f"n_areas: expected at most one a tile, got {n_areas} areas for {n_tiles} tiles. "
            f"Ask for {n_tiles} areas or fewer, or for more tiles."
        )


def _claim_folder(folder: Path) -> Path:
    """Check that the folder may be written; return the mark that stands for unfinished settings."""
    settings = folder / SETTINGS_NAME
    partial = folder / f"{SETTINGS_NAME}.partial"
    is_ours = _is_ours(settings) or _is_ours(partial)
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir()) and not is_ours):
        raise OptionError(
            f"{folder}: expected a new or empty folder, or a city made before, found other files "
            f"and no {SETTINGS_NAME} of such a city. Name another folder."
        )
    (folder / "tiles").mkdir(parents=True, exist_ok=True)
    partial.write_text(_MARK, encoding="utf-8")
    settings.unlink(missing_ok=True)
    return partial


def _is_ours(settings: Path) -> bool:
    return settings.is_file() and settings.read_bytes().startswith(_MARK.encode())


def _write_tiles(folder: Path, town: Town, seed: int) -> None:
    """Draw all tiles, several at once, and remove those of an earlier city."""
    for old in folder.glob("LIDAR_*.png"):
        old.unlink()

    def write(number: int, area: int) -> None:
        tile = draw_tile(town.scores[area], np.random.default_rng([seed, 2, number]))
        path = folder / f"LIDAR_{number}.png"
        _, png = cv2.imencode(".png", tile, [cv2.IMWRITE_PNG_COMPRESSION, 3])
        with name_place(path):
            path.write_bytes(png.tobytes())

    with ThreadPoolExecutor(cpu_count()) as pool:
        list(pool.map(write, town.ids, town.area))


def _render_readme(town: Town, seed: int, ceiling: pd.DataFrame) -> str:
    """Describe how the data was made, what each target depends on, and how to read the ceiling."""
    r2 = ceiling.set_index(["target", "level"])["r2"]
    lines = []
    for name, target in TARGETS.items():
        weights = zip(FORMS, target.weights, strict=True)
        terms = " ".join(f"{weight:+.1f} {form}" for form, weight in weights if weight)
        lines.append(
            f"{name}: {terms}\n    mean {target.mean}, sd {target.sd}, limit {target.limit}, "
            f"share {target.share}; ceiling {r2[name, 'tile']:.2f} over tiles, "
            f"{r2[name, 'area']:.2f} over areas"
        )
    return _README.format(
        n_tiles=len(town.ids), n_areas=len(town.labels), seed=seed, functions="\n".join(lines)
    )


_README = """A made city: {n_tiles} tiles of 200 m in {n_areas} areas, seed {seed}.
No real place is meant.

How it was made
    Every area has an urban form: five standard scores (coverage, height, towers, trees and street
    width), partly like its neighbours', partly its own. Streets, houses, towers and trees of each
    tile are drawn at random from that form as heights in 2 m cells, coloured by height times
    hillshade and enlarged to 224 x 224 pixels, so that no tile shows the form exactly. SOAC11CD
    and LACCD are coarse classes of a noisy look at it.

The function of each target
    signal = the weighted sum of the form scores below, standardised over the areas
    z      = sqrt(share) * signal + sqrt(1 - share) * noise, one draw an area
    target = limit + (a + b z)^2, or limit - (a - b z)^2 where the limit lies above the mean,
             with a, b such that z ~ N(0, 1) gives the mean and standard deviation below
{functions}

What the ceiling means
    ceiling.csv holds the R2 that perfect knowledge of the form reaches: that of the target's mean
    given the form, against the target; at level "tile" an area counts once for each of its tiles,
    at level "area" once. The rest is noise of the area, which no picture shows. A model that passes
    the ceiling, where the tiles of an area are kept on one side of the split, has seen what it
    should not have, or was lucky.
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
size = {pixels}

[models]
names = ["mean", "region", "location", "geodemographic", "metadata", "ridge", "ridge@area", \
"ridge+groups@area", "knn", "xgboost", {names}]
splits = [{splits}]
folds = {folds}
block_m = 1000
seed = 0
{more}
[reports]
title = "A made city"
higher_is = "more deprived"
"""

_FEW_TREES = """
# Few trees and small pictures (size), so that two cores end within minutes. For a fit in earnest
# remove this table, and set size to 224.
[models.params.forest]
n_estimators = 20
"""
_SHALLOW = {
    "name": "demo",
    "cuts": '"vgg16/block4_pool:avg", "resnet50v2/conv4_block6_out:avg"',
    "pixels": 112,
    "targets": ", ".join(f'"{name}"' for name in TARGETS),
    "names": '"forest", "head", "stack"',
    "splits": '"random", "area", "block"',
    "folds": 5,
    "more": _FEW_TREES,
}
_NETWORKS = """keep = ["ridge", "head", "tail", "finetune:mobilenetv2"]
maps = "networks"  # the map cuts are for networks alone

# A short training, so that two cores end within minutes: few targets, folds and epochs, small
# pictures and long steps. For one in earnest remove these two tables, or raise epochs in them.
[models.params.tail]
joint = true  # one network for all targets
pool = "avg"
hidden = [64]
dropout = 0.2
batch = 8
learning_rate = 1e-3
epochs = 8

[models.params.finetune]
joint = true
pool = "avg"
hidden = [64]
dropout = 0.2
batch = 16
warm_learning_rate = 3e-3
learning_rate = 3e-4
epochs = 2
"""
_DEEP = {
    "name": "demo-deep",
    "cuts": '"mobilenetv2/block_13_expand_relu:avg", "mobilenetv2/out_relu:avg", '
    '"mobilenetv2/block_15_add:map", "pixels/96:map"',
    "pixels": 224,
    "targets": '"income", "living_environment"',
    "names": '"head", "tail", "finetune:mobilenetv2"',
    "splits": '"area"',
    "folds": 3,
    "more": _NETWORKS,
}
