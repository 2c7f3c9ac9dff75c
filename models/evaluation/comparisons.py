"""Comparisons of cells on the same rows: paired differences, simultaneous intervals and verdicts.

Three traps, and what is done about each.

- Training sets vary. A bootstrap of the units treats the models as fixed, and would call two
  equally good embeddings different in a fifth of all data sets. The variance of a difference is
  `TRAINING_VARIANCE` times the bootstrap's.
- Many comparisons. An interval and its verdict hold for all comparisons of a table at once: the
  interval of a difference that is called better or worse leaves out 0, and no other does.
- The winner was chosen on the same data, so it looks better than it is. A difference counts where
  it exceeds the largest between any two of the cells that chance shows in 95 % of the resamples,
  whichever of them came out best; and `value_corrected` scores the rule "take the best" on the
  units that a resample left out.

Every target is asked four things: is the best cell better than each other (`AGAINST_OTHERS`); do
pictures alone tell more than the best baseline (`AGAINST_PLACE`); and do pictures with the area
descriptors tell more than the best baseline (`FUSED_PLACE`), or than the best cell that sees
pictures alone (`FUSED_PICTURES`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from models.evaluation.evaluate import Evaluated, Sees
from models.evaluation.simultaneous import (
    ALPHA,
    Differences,
    Largest,
    compare_with,
    find_quantile,
    largest_differences,
)
from models.evaluation.training_variance import shrink, stretch

Row = dict[str, Any]
COMPARISON_COLUMNS = (
    "split",
    "level",
    "target",
    "score",
    "best_cut",
    "best_model",
    "best_value",
    "cut",
    "model",
    "value",
    "is_baseline",
    "difference",
    "sd",
    "critical",
    "low",
    "high",
    "p",
    "p_corrected",
    "verdict",
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
    "low_corrected",
    "high_corrected",
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
_LARGEST = 700.0  # of what an exponential is taken


def compare_cells(evaluated: Evaluated) -> tuple[list[Row], list[Row]]:
    """Compare the best cell with every other, and ask `QUESTIONS`.

    Returns
    -------
    comparisons : `COMPARISON_COLUMNS` but for split and target; `judge_rows` widens the intervals
        of `QUESTIONS` for the number of targets.
    winners : one row of `WINNER_COLUMNS` but for split and target. Both empty for fewer than two
        cells or units, and where a score is not defined.
    """
    values = evaluated.values
    is_defined = np.isfinite(values).all()
    if len(values) < 2 or evaluated.n_units < 2 or not is_defined:
        return [], []
    largest = largest_differences(evaluated)
    best = int(np.argmax(values))
    differences = compare_with(best, evaluated, largest)
    others = [other for other in range(len(values)) if other != best]
    rows = [_comparison(evaluated, best, other, differences) for other in others]
    winner = {
        **_name_best(evaluated, best),
        "value": float(values[best]),
        **_correct_winner(evaluated, best),
        "n_cells": len(values),
        "n_not_distinguishable": sum(row["verdict"] != "better" for row in rows),
    }
    for kind in QUESTIONS:
        rows += _ask(evaluated, kind, largest)
    return rows, [winner]


def _correct_winner(evaluated: Evaluated, best: int) -> Row:
    """Return what the best cell can be expected to keep, with its interval moved there."""
    score = evaluated.score
    scores = evaluated.scores
    value_corrected = evaluated.correct()
    value = evaluated.values[best]
    low = scores[f"{score}_low"][best]
    high = scores[f"{score}_high"][best]
    stretched = stretch(np.array([value_corrected, value, low, high]), score)
    corrected, chosen, *ends = stretched
    moved = np.array(ends) + corrected - chosen
    low, high = shrink(moved, score)
    return {
        "value_corrected": value_corrected,
        "low_corrected": float(low),
        "high_corrected": float(high),
    }


def _ask(evaluated: Evaluated, kind: str, largest: Largest) -> list[Row]:
    """Compare the best cell of one kind with the best of another; no row without both."""
    we_see, they_see = QUESTIONS[kind]
    ours = _best_that_sees(evaluated, we_see)
    theirs = _best_that_sees(evaluated, they_see)
    if ours is None or theirs is None:
        return []
    differences = compare_with(ours, evaluated, largest)
    row = _comparison(evaluated, ours, theirs, differences)
    return [row | {"kind": kind}]


def _best_that_sees(evaluated: Evaluated, sees: Sees) -> int | None:
    found = [i for i, cell in enumerate(evaluated.cells) if cell.sees == sees]
    if not found:
        return None
    best = np.argmax(evaluated.values[found])
    return found[best]


def _comparison(evaluated: Evaluated, best: int, other: int, differences: Differences) -> Row:
    compared = evaluated.cells[other]
    row: Row = {
        **_name_best(evaluated, best),
        "best_value": float(evaluated.values[best]),
        "cut": compared.cut,
        "model": compared.model,
        "value": float(evaluated.values[other]),
        "is_baseline": compared.is_baseline,
        "kind": AGAINST_OTHERS,
        "n": len(evaluated.rows.truth),
        "n_units": evaluated.n_units,
    }
    for name, values in differences._asdict().items():
        row[name] = float(values[other])
    return judge(row)


def _name_best(evaluated: Evaluated, best: int) -> Row:
    return {
        "level": evaluated.rows.name,
        "score": evaluated.score,
        "best_cut": evaluated.cells[best].cut,
        "best_model": evaluated.cells[best].model,
    }


def judge_rows(rows: list[Row]) -> list[Row]:
    """Correct each of `QUESTIONS` for the number of targets of a split and level (Bonferroni)."""
    table = pd.DataFrame(rows, columns=list(COMPARISON_COLUMNS))
    asked = table[table["kind"].isin(QUESTIONS)]
    judged = list(rows)
    for _, group in asked.groupby(["kind", "split", "level", "score"], sort=False):
        is_test = group["p"].notna()
        n_targets = is_test.sum()
        for i in group.index:
            judged[i] = correct_number(rows[i], n_targets)
    return judged


def correct_number(row: Row, n_tests: int) -> Row:
    """Widen the interval of one of several tests, so that all hold at once (Bonferroni)."""
    n_tests = max(n_tests, 1)
    freedom = row["n_units"] - 1
    critical = find_quantile(freedom, ALPHA / n_tests)
    p = min(n_tests * row["p"], 1.0)
    corrected = {
        "critical": max(row["critical"], critical),
        "p_corrected": max(row["p_corrected"], p),
    }
    return judge(row | corrected)


def judge(row: Row) -> Row:
    """Return a comparison with its difference, `low`, `high` and verdict: `better` or `worse` where
    0 lies outside, else `not distinguishable`.

    Of R² the interval is one of the ratio of the two errors, brought back by their geometric mean.
    """
    values = np.array([row["best_value"], row["value"]])
    best, other = stretch(values, row["score"])
    half_width = row["critical"] * row["sd"]
    low = best - other - half_width
    high = best - other + half_width
    verdict = "not distinguishable"
    if low > 0:
        verdict = "better"
    elif high < 0:
        verdict = "worse"
    if row["score"] == "r2":
        error = np.exp(-(best + other) / 2)
        ends = np.clip([low, high], -_LARGEST, _LARGEST)
        low, high = 2 * error * np.sinh(ends / 2)
    return {
        **row,
        "difference": float(row["best_value"] - row["value"]),
        "low": float(low),
        "high": float(high),
        "verdict": verdict,
    }
