"""The table of one target that `python -m models scores` prints: its cells, the best first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from extract.errors import RunFileError
from models.evaluation.comparisons import (
    AGAINST_OTHERS,
)
from models.evaluation.evaluate import CellName
from models.settings import STRICTNESS
from models.store.score_tables import join_cut, read_scores, read_table

BALANCED = "balanced_accuracy"


def is_class(scores: pd.DataFrame, target: str) -> bool:
    """Return whether the scores of a target are those of classes."""
    of_target = select_rows(scores, target=target)
    is_known = of_target[BALANCED].notna()
    return bool(is_known.any())


def build_standings(folder: Path, target: str, *, split: str | None, level: str) -> pd.DataFrame:
    """Return one row a cell of a target, the best first.

    Parameters
    ----------
    split : that ranks; None for the one held out farthest. level : `area` or `tile`.

    Returns
    -------
    cut, model, is_baseline; of a number `r2 <split>` of each split (loosest first), and of the
    ranking split r2_low, r2_high, rmse, spearman; of a class accuracy, balanced_accuracy with its
    interval, f1_macro, log_loss; n and verdict (`best`, `worse`, `not distinguishable` from the
    best, or empty where it was not compared). `attrs` holds split, level, target and is_class.

    Raises
    ------
    RunFileError : files that are missing; a split or level of which there are no scores.
    """
    every = read_scores(folder)
    of_class = is_class(every, target)
    scores = select_rows(every, target=target, level=level)
    scored = set(scores["split"])
    known = [s for s in STRICTNESS if s in scored]
    if not known:
        raise RunFileError(
            f"{folder / 'scores.csv'}: no scores of {target!r} at level {level!r}. "
            "Run `make models` with it."
        )
    if split is not None and split not in known:
        raise RunFileError(
            f"split {split!r}: not scored for {target!r}; there are {', '.join(known)}"
        )
    ranked = split or known[-1]
    parts = scores[["backbone", "layer", "pooling"]].to_numpy()
    cuts = [join_cut(*names) for names in parts.tolist()]
    scores = scores.assign(cut=cuts)
    at_split = scores[scores["split"] == ranked]
    if of_class:
        score = BALANCED
        table = _class_columns(at_split)
    else:
        score = f"r2 {ranked}"
        table = _number_columns(scores, at_split, known)
    table = table.sort_values(score, ascending=False, kind="stable", ignore_index=True)
    pairs = table[["cut", "model"]].to_numpy()
    cells = [CellName(*pair) for pair in pairs.tolist()]
    table.insert(2, "is_baseline", [cell.is_baseline for cell in cells])
    shown = {"target": target, "split": ranked, "level": level}
    verdicts = _read_verdicts(folder, shown)
    table["verdict"] = [verdicts.get(cell, "") for cell in cells]
    table.attrs |= {**shown, "is_class": of_class}
    return table


def _number_columns(
    scores: pd.DataFrame, at_split: pd.DataFrame, known: Sequence[str]
) -> pd.DataFrame:
    wide = scores.pivot_table(
        index=["cut", "model"], columns="split", values="r2", dropna=False, sort=False
    )
    wide = wide.reindex(columns=list(known))
    wide = wide.add_prefix("r2 ").reset_index()
    columns = ["cut", "model", "r2_low", "r2_high", "rmse", "spearman", "n"]
    return wide.merge(at_split[columns], on=["cut", "model"])


def _class_columns(at_split: pd.DataFrame) -> pd.DataFrame:
    interval = [f"{BALANCED}_low", f"{BALANCED}_high"]
    columns = ["cut", "model", "accuracy", BALANCED, *interval, "f1_macro", "log_loss", "n"]
    return at_split[columns]


def _read_verdicts(folder: Path, shown: dict[str, str]) -> dict[CellName, str]:
    """Return how cells compare with the best: `best`, `worse` or `not distinguishable`."""
    table = read_table(folder / "comparisons.csv")
    rows = select_rows(table, kind=AGAINST_OTHERS, **shown)
    verdicts: dict[CellName, str] = {}
    for row in rows.astype(str).to_dict("records"):
        best = CellName(row["best_cut"], row["best_model"])
        other = CellName(row["cut"], row["model"])
        verdicts[best] = "best"
        # the file says whether the best is better, the table what that makes the row
        verdicts[other] = row["verdict"].replace("better", "worse")
    return verdicts


def select_rows(rows: pd.DataFrame, **wanted: str) -> pd.DataFrame:
    """Return the rows with these values."""
    for name, value in wanted.items():
        rows = rows[rows[name].astype(str) == value]
    return rows
