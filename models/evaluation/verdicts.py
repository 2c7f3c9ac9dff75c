"""Who beats whom among the cells of one split, target and level, in rows for `comparisons.csv` and `winners.csv`.

Every target is asked four things: is the best cell better than each other (`AGAINST_OTHERS`); do pictures alone tell more
than the best that sees none (`AGAINST_PLACE`); and do pictures with the area descriptors tell more than the best that sees
no picture (`FUSED_PLACE`), or than the best that sees pictures alone (`FUSED_PICTURES`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from models.data.arrays import Floats
from models.evaluation.compare import (
    Differences,
    compare_with,
    correct_holm,
    correct_winner,
    judge,
    largest_differences,
)
from models.evaluation.evaluate import CellName, Evaluated, Sees

Row = dict[str, Any]
COMPARISON_COLUMNS = (
    "split",
    "level",
    "target",
    "score",
    "best_cut",
    "best_model",
    "cut",
    "model",
    "is_baseline",
    "difference",
    "low",
    "high",
    "p",
    "p_holm",
    "verdict",
    "p_max",
    "kind",
    "n",
    "n_units",
)
WINNER_COLUMNS = (
    "split",
    "level",
    "target",
    "score",
    "best_cut",
    "best_model",
    "value",
    "value_corrected",
    "n_cells",
    "n_not_distinguishable",
)
AGAINST_OTHERS = "best against other"
AGAINST_PLACE = "pictures against place"
FUSED_PLACE = "pictures and groups against place"
FUSED_PICTURES = "pictures and groups against pictures"
QUESTIONS: dict[str, tuple[Sees, Sees]] = {
    AGAINST_PLACE: ("pictures", "none"),
    FUSED_PLACE: ("pictures and groups", "none"),
    FUSED_PICTURES: ("pictures and groups", "pictures"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One score of some cells on the same rows, where greater is better, and its replicates.

    Attributes
    ----------
    score : `r2` or `balanced_accuracy`. values : (n_cells,). replicates : (n_replicates, n_cells), in the same resamples.
    correct : gives what the best can be expected to keep where it was not chosen.
    n : rows. n_units : units that were drawn.
    """

    level: str
    score: Literal["r2", "balanced_accuracy"]
    cells: list[CellName]
    values: Floats
    replicates: Floats
    correct: Callable[[], float]
    n: int
    n_units: int


def measure_r2(one: Evaluated) -> Measured:
    """Return R² of cells that predict numbers."""
    replicates = one.drawn.r2_replicates
    return Measured(
        level=one.level.name,
        score="r2",
        cells=one.cells,
        values=one.scores["r2"],
        replicates=replicates,
        correct=lambda: correct_winner(one.sums, one.counts, replicates),
        n=len(one.level.truth),
        n_units=len(one.sums.n),
    )


def compare_cells(one: Measured) -> tuple[list[Row], list[Row]]:
    """Compare the best cell with every other, and ask `QUESTIONS`.

    Returns
    -------
    comparisons : `COMPARISON_COLUMNS` but for split and target; p_holm of the best is over the other cells, and that of
        `QUESTIONS` is p, which `judge_rows` corrects over the targets.
    winners : one row of `WINNER_COLUMNS` but for split and target. Both empty for fewer than two cells or units, and where
        a score is not defined.
    """
    values = one.values
    if len(values) < 2 or one.n_units < 2 or not np.isfinite(values).all():
        return [], []
    largest = largest_differences(one.replicates)
    best = int(np.argmax(values))
    others = compare_with(best, values, one.replicates, largest, n_units=one.n_units)
    holm = correct_holm(others.p)
    rows = [_row(one, best, i, others, float(holm[i])) for i in range(len(values)) if i != best]
    rows = [
        {**row, "verdict": judge(row["difference"], row["p_holm"], row["p_max"])} for row in rows
    ]
    winner = {
        "level": one.level,
        "score": one.score,
        "best_cut": one.cells[best].cut,
        "best_model": one.cells[best].model,
        "value": float(values[best]),
        "value_corrected": one.correct(),
        "n_cells": len(values),
        "n_not_distinguishable": sum(row["verdict"] != "better" for row in rows),
    }
    return rows + [row for kind in QUESTIONS for row in _ask(one, kind, largest)], [winner]


def _ask(one: Measured, kind: str, largest: Floats) -> list[Row]:
    """Compare the best cell of one kind with the best of another; no row without both."""
    ours, theirs = (
        [i for i, cell in enumerate(one.cells) if cell.sees == what] for what in QUESTIONS[kind]
    )
    if not ours or not theirs:
        return []
    top, base = (max(some, key=lambda i: one.values[i]) for some in (ours, theirs))
    differences = compare_with(top, one.values, one.replicates, largest, n_units=one.n_units)
    return [{**_row(one, top, base, differences, float(differences.p[base])), "kind": kind}]


def _row(one: Measured, best: int, other: int, differences: Differences, p_holm: float) -> Row:
    return {
        "level": one.level,
        "score": one.score,
        "best_cut": one.cells[best].cut,
        "best_model": one.cells[best].model,
        **one.cells[other]._asdict(),
        "is_baseline": one.cells[other].is_baseline,
        **{name: float(value[other]) for name, value in differences._asdict().items()},
        "p_holm": p_holm,
        "kind": AGAINST_OTHERS,
        "n": one.n,
        "n_units": one.n_units,
    }


def judge_rows(rows: list[Row]) -> list[Row]:
    """Correct each of `QUESTIONS` over the targets of a split and level, and give the verdicts."""
    groups: dict[tuple[str, ...], list[int]] = {}
    for i, row in enumerate(rows):
        if row["kind"] in QUESTIONS:
            groups.setdefault((row["kind"], row["split"], row["level"], row["score"]), []).append(i)
    judged = list(rows)
    for which in groups.values():
        for i, p_holm in zip(
            which, correct_holm(np.array([rows[i]["p"] for i in which])), strict=True
        ):
            judged[i] = {
                **rows[i],
                "p_holm": float(p_holm),
                "verdict": judge(rows[i]["difference"], p_holm, rows[i]["p_max"]),
            }
    return judged
