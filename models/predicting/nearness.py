"""How far the tiles of a place lie from training tiles, beside the tiles that splits held out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from extract.tables.tile_table import read_tiles
from models.data.fold_distances import describe_distances, measure_nearest, measure_split
from models.data.fold_file import open_folds
from models.settings import FitSettings

_FARTHER = 1.5  # times the median distance of the farthest split, from where it is said

Nearness = dict[str, Any]  # "place" → distances, "splits" → split → distances, as JSON


def measure_nearness(settings: FitSettings, pieces: list[Path]) -> Nearness | None:
    """Measure how far a place and the held-out tiles of each split lie from training tiles.

    Parameters
    ----------
    settings : of the experiment. pieces : predicted tiles, with `x` and `y` in the coordinates of
        the experiment's table.

    Returns
    -------
    Quantiles of the distances to the nearest training tile [m]; None where the place or the
    experiment has no coordinates, or its table is gone.
    """
    if not settings.tiles.source.exists():
        return None
    tiles = read_tiles(settings)
    xy = tiles.xy
    places = list(_read_places(pieces))
    if xy is None or not places:
        return None
    options = settings.models.fold_options
    folds = open_folds(settings.folder, tiles, options, is_read_only=True).folds
    distance = np.concatenate([measure_nearest(place, xy) for place in places])
    return {
        "place": describe_distances(distance),
        "splits": {
            split: describe_distances(measure_split(one, xy)) for split, one in folds.items()
        },
    }


def _read_places(pieces: list[Path]) -> Iterator[np.ndarray]:
    for path in pieces:
        frame = pd.read_parquet(path)
        if "x" not in frame:
            return
        yield frame[["x", "y"]].to_numpy(np.float64)


def describe_nearness(nearness: Nearness) -> Iterator[str]:
    """Describe the distances, and warn of a place that is farther than any split held out."""
    place = nearness["place"]["median"]
    medians = {split: one["median"] for split, one in nearness["splits"].items()}
    held_out = ", ".join(f"{_format_metres(m)} on {split!r}" for split, m in medians.items())
    yield (
        f"half of the tiles lie more than {_format_metres(place)} from the nearest training tile; "
        f"of the tiles that were held out, half lay more than {held_out}."
    )
    if place > _FARTHER * max(medians.values()):
        yield (
            "the place lies farther away than any split held out: scores and intervals are those "
            "of nearer places. The split 'knndm' with predict_at, or 'block' with a larger block_m "
            "or buffer_m, measures how well places this far away are predicted."
        )


def _format_metres(metres: float) -> str:
    if metres < 1000:
        return f"{metres:.0f} m"
    return f"{metres / 1000:.1f} km"
