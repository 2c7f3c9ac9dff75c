"""Learning curves of the models that the page shows."""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path

import pandas as pd

from models.store.runs import read_curves

COLUMNS = ["target", "model", "cut", "fold", "epoch", "loss", "held_loss", "best"]


def read_best_curves(folder: Path, scores: pd.DataFrame) -> pd.DataFrame:
    """Read the curves of each target's best model that has some.

    Parameters
    ----------
    scores : rows of scores.csv at the reported split and level, with `cut`.

    Returns
    -------
    `COLUMNS`, one row an epoch of a fold; `best` marks the epoch that was kept.

    Raises
    ------
    RunFileError : a `curves.csv` that is not the one its run wrote.
    """
    score = scores["r2"].fillna(scores["balanced_accuracy"])
    ranked = scores.assign(score=score).sort_values("score", ascending=False)
    read = cache(partial(read_curves, folder))
    found: dict[str, pd.DataFrame] = {}
    keys = ranked[["target", "split", "cut", "model"]].to_numpy().tolist()
    for target, split, cut, model in keys:
        if target in found:
            continue
        curves = read(split, cut, model)
        curves = curves[curves["target"] == target]
        if len(curves):
            found[target] = curves.assign(model=model, cut=cut)[COLUMNS]
    if not found:
        return pd.DataFrame(columns=COLUMNS)
    return pd.concat(found.values(), ignore_index=True)
