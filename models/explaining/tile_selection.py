"""Which tiles to explain: some across the range of the truth, the best and the worst predicted; or those that are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from extract.config.suggestions import suggest
from extract.errors import ExplainError
from extract.tables.tile_table import Tiles
from models.store.cells import Cell
from models.store.runs import read_classes, read_predictions

N_RANGE = 10
N_ENDS = 5
ROLES = ("best", "worst", "range", "asked")


def read_predicted_tiles(folder: Path, cell: Cell, target: str, tiles: Tiles) -> pd.DataFrame:
    """Return the tiles that were predicted out of fold: id, truth, prediction, error, row (in the table) and fold.

    The error of a number is the distance from the truth; of a class, one less the probability that the truth was given.
    """
    if tiles.kind(target) == "class":
        frame = read_classes(folder, *cell)
        frame = frame[frame["target"].astype(str) == target].dropna(subset=["truth"])
        names = sorted(map(str, tiles.classes[target].dropna().unique()))
        frame["error"] = [
            1 - p[names.index(t)] for p, t in zip(frame["probability"], frame["truth"], strict=True)
        ]
    else:
        frame = read_predictions(folder, *cell)
        frame = frame[frame["target"].astype(str) == target].dropna(subset=["truth", "prediction"])
        frame["error"] = (frame["prediction"] - frame["truth"]).abs()
    frame = frame[frame["fold"] >= 0]
    return (
        frame.assign(row=pd.Index(tiles.id).get_indexer(frame["id"]))
        .query("row >= 0")
        .reset_index(drop=True)
    )


def choose_gallery(predicted: pd.DataFrame, area: pd.Series[str]) -> pd.DataFrame:
    """Return the rows of the gallery, with `role`; no tile twice, and no two of one area in one role where there are others.

    Parameters
    ----------
    predicted : as `read_predicted_tiles`. area : of every tile of the table.
    """
    ranked = predicted.assign(area=area.to_numpy()[predicted["row"]]).sort_values(
        "error", kind="stable"
    )
    taken: set[int] = set()
    worst = _take(ranked.iloc[::-1], N_ENDS, taken, "worst")
    best = _take(ranked, N_ENDS, taken, "best")
    by_truth = ranked.sort_values("truth", kind="stable")
    spread = pd.concat([best, worst, *_across(by_truth, taken)])
    return spread.drop(columns="area")


def _take(ranked: pd.DataFrame, n: int, taken: set[int], role: str) -> pd.DataFrame:
    """Take the first n: one an area, then, where there are too few areas, the next of those."""
    free = ranked[~ranked["row"].isin(taken)]
    first = free.drop_duplicates("area")
    chosen = pd.concat([first, free.drop(first.index)]).head(n)
    taken.update(chosen["row"])
    return chosen.assign(role=role)


def _across(by_truth: pd.DataFrame, taken: set[int]) -> Iterator[pd.DataFrame]:
    """Take a tile from each tenth of the ranks of the truth, the one in its middle that is free."""
    for place in (np.arange(N_RANGE) + 0.5) * len(by_truth) / N_RANGE:
        order = np.argsort(np.abs(np.arange(len(by_truth)) + 0.5 - place), kind="stable")
        yield _take(by_truth.iloc[order[: max(1, len(by_truth) // N_RANGE)]], 1, taken, "range")


def find_tiles(asked: Sequence[str], tiles: Tiles, predicted: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the tiles that are asked for, role `asked`; without a fold there is no prediction.

    Raises
    ------
    ExplainError : no such tile, or none named.
    """
    if not asked:
        raise ExplainError("tiles: expected ids with commas between, or 'gallery', got nothing.")
    names = tiles.id.astype(str)
    known = {name: row for row, name in enumerate(names)}
    for name in asked:
        if name not in known:
            raise ExplainError(
                f"tile {name!r}: no such id in the table; it has {len(names)}, as {', '.join(names.head(3))}."
                f"{suggest(name, names.head(5000))}"
            )
    rows = [known[name] for name in dict.fromkeys(asked)]
    frame = pd.DataFrame({"row": rows, "id": tiles.id.iloc[rows].to_numpy()}).merge(
        predicted.drop(columns="id"), on="row", how="left"
    )
    return frame.assign(role="asked", fold=frame["fold"].fillna(-1).astype(int))
