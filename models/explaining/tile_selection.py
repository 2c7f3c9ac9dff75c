"""Which tiles to explain: over the range of the truth, best and worst predicted, or named."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from extract.config.arrays import Floats
from extract.config.suggestions import suggest
from extract.errors import ExplainError
from extract.tables.tile_table import Tiles
from models.data.classes import list_classes
from models.explaining.tile_maps import spread_sample
from models.store.cells import Cell
from models.store.runs import read_classes, read_predictions

N_RANGE = 10
N_ENDS = 5


def read_predicted_tiles(folder: Path, cell: Cell, target: str, tiles: Tiles) -> pd.DataFrame:
    """Return the tiles that were predicted out of fold.

    Returns
    -------
    id, truth, prediction, error, row (in the table) and fold. The error of a number is the
    distance from the truth; of a class, one less the probability that the truth was given.
    """
    is_class = tiles.kind(target) == "class"
    read = read_classes if is_class else read_predictions
    frame = read(folder, *cell)
    names = frame["target"].astype(str)
    is_target = names == target
    is_held_out = frame["fold"] >= 0
    frame = frame[is_target & is_held_out]
    frame = frame.dropna(subset=["truth", "prediction"])
    if is_class:
        classes = list_classes(tiles.classes[target])
        frame["error"] = _miss_classes(frame, classes)
    else:
        error = frame["prediction"] - frame["truth"]
        frame["error"] = error.abs()
    ids = pd.Index(tiles.id)
    asked = pd.Index(frame["id"])
    frame["row"] = ids.get_indexer(asked)
    is_there = frame["row"] >= 0
    frame = frame[is_there]
    return frame.reset_index(drop=True)


def _miss_classes(frame: pd.DataFrame, names: list[str]) -> Floats:
    """Return one less the probability that the true class of each row was given."""
    classes = pd.Index(names)
    truth = pd.Index(frame["truth"])
    true_class = classes.get_indexer(truth)
    shares = frame["probability"].tolist()
    probability = np.stack(shares)
    row = np.arange(len(frame))
    return 1 - probability[row, true_class]


def choose_gallery(predicted: pd.DataFrame, area: pd.Series[str]) -> pd.DataFrame:
    """Return the rows of the gallery, with `role`.

    No tile is taken twice, and no two of one area in one role where there are others.

    Parameters
    ----------
    predicted : as of `read_predicted_tiles`. area : of every tile of the table.
    """
    area_of_row = area.to_numpy()[predicted["row"]]
    ranked = predicted.assign(area=area_of_row)
    ranked = ranked.sort_values("error", kind="stable")
    worst = _take(ranked.iloc[::-1], N_ENDS, "worst")
    ranked = ranked.drop(worst.index)
    best = _take(ranked, N_ENDS, "best")
    free = ranked.drop(best.index)
    free = free.sort_values("truth", kind="stable")
    every = np.arange(len(free))
    places = spread_sample(every, N_RANGE)
    spread = free.iloc[places]
    spread = spread.assign(role="range")
    gallery = pd.concat([best, worst, spread])
    return gallery.drop(columns="area")


def _take(ranked: pd.DataFrame, n: int, role: str) -> pd.DataFrame:
    """Take the first n: one an area, then, where there are too few areas, the next of those."""
    first = ranked.drop_duplicates("area")
    others = ranked.drop(first.index)
    ordered = pd.concat([first, others])
    taken = ordered.head(n)
    return taken.assign(role=role)


def find_tiles(asked: Sequence[str], tiles: Tiles, predicted: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the tiles that are asked for, role `asked`.

    Without a fold there is no prediction.

    Raises
    ------
    ExplainError : no such tile, or none named.
    """
    if not asked:
        raise ExplainError("tiles: expected ids with commas between, or 'gallery', got nothing.")
    names = tiles.id.astype(str)
    wanted = pd.Index(asked).unique()
    known = pd.Index(names)
    rows = known.get_indexer(wanted)
    is_unknown = rows < 0
    unknown = wanted[is_unknown]
    if len(unknown):
        name = unknown[0]
        some = ", ".join(names.head(3))
        near = suggest(name, names.head(5000))
        raise ExplainError(
            f"tile {name!r}: no such id in the table; it has {len(names)}, as {some}.{near}"
        )
    ids = tiles.id.iloc[rows]
    frame = pd.DataFrame({"row": rows, "id": ids.to_numpy()})
    facts = predicted.drop(columns="id")
    frame = frame.merge(facts, on="row", how="left")
    fold = frame["fold"].fillna(-1)
    fold = fold.astype(int)
    return frame.assign(role="asked", fold=fold)
