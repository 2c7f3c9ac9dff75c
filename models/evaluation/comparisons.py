"""Comparisons of cells on the same rows: paired differences, corrections for many looks, and
verdicts.

Three traps, and what is done about each. Many comparisons: the p-values of one table are corrected
by Holm's method. The winner was chosen on the same data, so it looks better than it is: `p_max`
asks how often the largest difference between any two of the cells would be as large by chance,
whichever of them came out best, and `value_corrected` scores the rule "take the best" on the units
that a resample left out. Neither covers what another training set, other folds or another seed
would have done to the models: nothing is fitted again.

Every target is asked four things: is the best cell better than each other (`AGAINST_OTHERS`); do
pictures alone tell more than the best baseline (`AGAINST_PLACE`); and do pictures with the area
descriptors tell more than the best baseline (`FUSED_PLACE`), or than the best cell that sees
pictures alone (`FUSED_PICTURES`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from extract.config.arrays import Floats
from models.evaluation.bootstrap import TAILS
from models.evaluation.evaluate import Evaluated, Sees

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
ALPHA = 0.05
_LEAST_SPREAD = 1e-9  # below it a standard deviation is rounding
_CHUNK = 64  # replicates whose pairs of cells are compared at once


class Differences(NamedTuple):
    """Score of one cell less that of each other: each (n_cells,).

    Attributes
    ----------
    low, high : 95 % percentile interval. p : two-sided, of Student's t with one degree of freedom
        less than units.
    p_max : two-sided, of the largest studentised difference between any two of all cells.
    """

    difference: Floats
    low: Floats
    high: Floats
    p: Floats
    p_max: Floats


def compare_cells(evaluated: Evaluated) -> tuple[list[Row], list[Row]]:
    """Compare the best cell with every other, and ask `QUESTIONS`.

    Returns
    -------
    comparisons : `COMPARISON_COLUMNS` but for split and target; `p_holm` of the best is over the
        other cells, and that of `QUESTIONS` is p, which `judge_rows` corrects over the targets.
    winners : one row of `WINNER_COLUMNS` but for split and target. Both empty for fewer than two
        cells or units, and where a score is not defined.
    """
    values = evaluated.values
    if len(values) < 2 or evaluated.n_units < 2 or not np.isfinite(values).all():
        return [], []
    largest = largest_differences(evaluated.replicates)
    best = int(np.argmax(values))
    differences = compare_with(best, evaluated, largest)
    p_holm = correct_holm(differences.p)
    others = [other for other in range(len(values)) if other != best]
    rows = [_comparison(evaluated, best, other, differences, p_holm) for other in others]
    for row in rows:
        row["verdict"] = judge(row["difference"], row["p_holm"], row["p_max"])
    winner = {
        **_name_best(evaluated, best),
        "value": float(values[best]),
        "value_corrected": evaluated.correct(),
        "n_cells": len(values),
        "n_not_distinguishable": sum(row["verdict"] != "better" for row in rows),
    }
    for kind in QUESTIONS:
        rows += _ask(evaluated, kind, largest)
    return rows, [winner]


def _ask(evaluated: Evaluated, kind: str, largest: Floats) -> list[Row]:
    """Compare the best cell of one kind with the best of another; no row without both."""
    we_see, they_see = QUESTIONS[kind]
    ours = _best_that_sees(evaluated, we_see)
    theirs = _best_that_sees(evaluated, they_see)
    if ours is None or theirs is None:
        return []
    differences = compare_with(ours, evaluated, largest)
    row = _comparison(evaluated, ours, theirs, differences, differences.p)
    return [row | {"kind": kind}]


def _best_that_sees(evaluated: Evaluated, sees: Sees) -> int | None:
    found = [i for i, cell in enumerate(evaluated.cells) if cell.sees == sees]
    return max(found, key=evaluated.values.__getitem__, default=None)


def _comparison(
    evaluated: Evaluated, best: int, other: int, differences: Differences, p_holm: Floats
) -> Row:
    compared = evaluated.cells[other]
    row: Row = {
        **_name_best(evaluated, best),
        "cut": compared.cut,
        "model": compared.model,
        "is_baseline": compared.is_baseline,
        "p_holm": float(p_holm[other]),
        "kind": AGAINST_OTHERS,
        "n": len(evaluated.rows.truth),
        "n_units": evaluated.n_units,
    }
    for name, values in differences._asdict().items():
        row[name] = float(values[other])
    return row


def _name_best(evaluated: Evaluated, best: int) -> Row:
    return {
        "level": evaluated.rows.name,
        "score": evaluated.score,
        "best_cut": evaluated.cells[best].cut,
        "best_model": evaluated.cells[best].model,
    }


def judge_rows(rows: list[Row]) -> list[Row]:
    """Correct each of `QUESTIONS` over the targets of a split and level, and add the verdicts."""
    table = pd.DataFrame(rows, columns=list(COMPARISON_COLUMNS))
    asked = table[table["kind"].isin(QUESTIONS)]
    judged = list(rows)
    for _, group in asked.groupby(["kind", "split", "level", "score"], sort=False):
        p_holm = correct_holm(group["p"].to_numpy(np.float64))
        for i, p in zip(group.index, p_holm.tolist(), strict=True):
            verdict = judge(rows[i]["difference"], p, rows[i]["p_max"])
            judged[i] = {**rows[i], "p_holm": p, "verdict": verdict}
    return judged


def compare_with(cell: int, evaluated: Evaluated, largest: Floats) -> Differences:
    """Compare one cell with every other, replicate by replicate.

    With 2,000 replicates no count of them can be a p-value below 0.001, which Holm's correction
    over 60 cells would never call significant; the difference over its bootstrap standard deviation
    can.

    Parameters
    ----------
    largest : (n_replicates,), from `largest_differences`.

    Returns
    -------
    Differences, NaN where there is nothing to compare: the cell itself, and cells that predict the
    same.
    """
    from scipy.special import stdtr  # slow to load, and a run with nothing to do needs none

    replicates = evaluated.replicates
    drawn = replicates[:, [cell]] - replicates
    spread = np.nanstd(drawn, axis=0)
    spread[spread <= _LEAST_SPREAD] = np.nan
    difference = evaluated.values[cell] - evaluated.values
    statistic = np.abs(difference) / spread
    low, high = np.nanquantile(drawn, TAILS, axis=0)
    freedom = max(evaluated.n_units - 1, 1)
    p = 2 * stdtr(freedom, -statistic)
    below = np.searchsorted(np.sort(largest), statistic)
    beyond = len(largest) - below
    share = (1 + beyond) / (1 + len(largest))
    return Differences(difference, low, high, p, p_max=np.maximum(share, p))


def largest_differences(replicates: Floats) -> Floats:
    """Compute the largest studentised difference between any two cells in each replicate, as if no
    two differed.

    Each cell's replicates are centred on their mean, so that only chance remains. A difference that
    exceeds 95 % of these is one that no choice of the best and the worst of these cells would show
    by chance.

    Parameters
    ----------
    replicates : (n_replicates, n_cells).

    Returns
    -------
    (n_replicates,), ≥ 0.

    References
    ----------
    Westfall and Young 1993, Resampling-Based Multiple Testing, section 2.3 (max-t); Hsu 1996,
    Multiple Comparisons, chapter 5 (all pairs, as Tukey's range).
    """
    is_known = np.isfinite(replicates).all(axis=1)
    known = replicates[is_known]
    centred = known - known.mean(axis=0)
    covariance = centred.T @ centred / max(len(centred), 1)
    variance = np.diag(covariance)
    first, second = np.triu_indices(len(variance), 1)
    difference_variance = variance[first] + variance[second] - 2 * covariance[first, second]
    spread = np.sqrt(np.maximum(difference_variance, 0))
    differs = spread > _LEAST_SPREAD
    if not differs.any():
        return np.zeros(len(centred))
    largest = []
    for start in range(0, len(centred), _CHUNK):
        chunk = centred[start : start + _CHUNK]
        difference = chunk[:, first[differs]] - chunk[:, second[differs]]
        largest.append(np.abs(difference / spread[differs]).max(axis=1))
    return np.concatenate(largest)


def correct_holm(p: Floats) -> Floats:
    """Correct p-values for their number, so that one false alarm or more has at most the stated
    probability.

    Parameters
    ----------
    p : (n,); NaN is no test, and stays NaN.

    References
    ----------
    Holm 1979, Scandinavian Journal of Statistics 6:65.
    """
    n_tests = np.count_nonzero(np.isfinite(p))
    order = np.argsort(p, kind="stable")[:n_tests]  # NaN is sorted last
    steps = p[order] * np.arange(n_tests, 0, -1)
    corrected = np.full(len(p), np.nan)
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return corrected


def judge(difference: float, p_holm: float, p_max: float) -> str:
    """Return the verdict: `better`, `worse`, or `not distinguishable`; both corrections have to
    agree.
    """
    if not max(p_holm, p_max) < ALPHA:
        return "not distinguishable"
    return "better" if difference > 0 else "worse"
