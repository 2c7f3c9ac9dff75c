"""Comparisons of cells on the same rows: paired differences, simultaneous intervals and verdicts.

Three traps, and what is done about each.

- Training sets vary. A bootstrap of the units knows the models as they are, and would tell two
  embeddings that tell as much apart in a fifth of all data sets. The variance of a difference is
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

import math
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from extract.config.arrays import Floats
from models.evaluation.evaluate import Evaluated, Sees
from models.evaluation.training_variance import TRAINING_VARIANCE, shrink, stretch

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
ALPHA = 0.05
NORMAL = 1.959964  # what a normal deviate exceeds in 5 % of cases
_LEAST_SPREAD = 1e-9  # below it a standard deviation is rounding
_LARGEST = 700.0  # of what an exponential is taken
_CHUNK = 64  # replicates whose pairs of cells are compared at once


class Differences(NamedTuple):
    """One cell beside each other, on the scale of `stretch`: each (n_cells,), NaN where there is
    nothing to compare: the cell itself, and cells that predict the same.

    Attributes
    ----------
    sd : standard deviation over data sets, training included.
    critical : half width of the simultaneous 95 % interval, in `sd`.
    p : two-sided, of Student's t with one degree of freedom less than units.
    p_corrected : two-sided, of the largest studentised difference between any two of all cells.
    """

    sd: Floats
    critical: Floats
    p: Floats
    p_corrected: Floats


class Largest(NamedTuple):
    """The largest studentised difference between any two cells in each replicate, as if no two
    differed, in ascending order: (n_replicates,); and the degrees of freedom of one difference.
    """

    ordered: Floats
    freedom: int


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
    if len(values) < 2 or evaluated.n_units < 2 or not np.isfinite(values).all():
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
    corrected = evaluated.correct()
    ends = [evaluated.scores[f"{score}_{end}"][best] for end in ("low", "high")]
    moved = stretch(np.array([corrected, evaluated.values[best], *ends]), score)
    low, high = shrink(moved[2:] + moved[0] - moved[1], score)
    return {
        "value_corrected": corrected,
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
    return max(found, key=evaluated.values.__getitem__, default=None)


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
        n_targets = group["p"].notna().sum()
        for i in group.index:
            judged[i] = correct_number(rows[i], n_targets)
    return judged


def correct_number(row: Row, n_tests: int) -> Row:
    """Widen the interval of one of several tests, so that all hold at once (Bonferroni)."""
    n_tests = max(n_tests, 1)
    of_number = find_quantile(row["n_units"] - 1, ALPHA / n_tests)
    critical = max(row["critical"], of_number)
    p = max(row["p_corrected"], min(n_tests * row["p"], 1.0))
    return judge({**row, "critical": critical, "p_corrected": p})


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
        low, high = 2 * error * np.sinh(np.clip([low, high], -_LARGEST, _LARGEST) / 2)
    ends = {"low": float(low), "high": float(high), "verdict": verdict}
    return {**row, "difference": float(values[0] - values[1]), **ends}


def find_quantile(freedom: int, alpha: float) -> float:
    """Return what |t| exceeds with the probability `alpha`."""
    from scipy.special import stdtrit  # slow to load, and a run with nothing to do needs none

    return float(stdtrit(max(freedom, 1), 1 - alpha / 2))


def compare_with(cell: int, evaluated: Evaluated, largest: Largest) -> Differences:
    """Compare one cell with every other.

    With 2,000 replicates no count of them can be a p-value below 0.001; the difference over its
    standard deviation can.

    Parameters
    ----------
    largest : from `largest_differences`.
    """
    from scipy.special import stdtr  # slow to load, and a run with nothing to do needs none

    replicates = stretch(evaluated.replicates, evaluated.score)
    drawn = replicates[:, [cell]] - replicates
    spread = np.nanstd(drawn, axis=0)
    spread[spread <= _LEAST_SPREAD] = np.nan
    sd = spread * np.sqrt(TRAINING_VARIANCE)
    values = stretch(evaluated.values, evaluated.score)
    statistic = np.abs(values[cell] - values) / sd
    p = 2 * stdtr(largest.freedom, -statistic)
    n = len(largest.ordered)
    beyond = n - np.searchsorted(largest.ordered, statistic)
    share = (1 + beyond) / (1 + n)
    n_beyond = math.ceil(ALPHA * (1 + n)) - 1  # as many may lie beyond what is significant
    critical = find_quantile(largest.freedom, ALPHA)
    if 0 < n_beyond <= n:
        critical = max(critical, float(largest.ordered[n - n_beyond]))
    return Differences(
        sd=sd,
        critical=np.full(len(sd), critical),
        p=p,
        p_corrected=np.maximum(share, p),
    )


def largest_differences(evaluated: Evaluated) -> Largest:
    """Compute the largest studentised difference between any two cells in each replicate.

    Each cell's replicates are centred on their mean, so that only chance remains. A difference that
    exceeds 95 % of these is one that no choice of the best and the worst of these cells would show
    by chance. Fewer units have wider tails, as Student's t has beside the normal distribution.

    References
    ----------
    Westfall and Young 1993, Resampling-Based Multiple Testing, section 2.3 (max-t); Hsu 1996,
    Multiple Comparisons, chapter 5 (all pairs, as Tukey's range).
    """
    replicates = stretch(evaluated.replicates, evaluated.score)
    freedom = max(evaluated.n_units - 1, 1)
    widened = find_quantile(freedom, ALPHA) / NORMAL
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
        return Largest(np.zeros(len(centred)), freedom)
    largest = []
    for start in range(0, len(centred), _CHUNK):
        chunk = centred[start : start + _CHUNK]
        difference = chunk[:, first[differs]] - chunk[:, second[differs]]
        largest.append(np.abs(difference / spread[differs]).max(axis=1))
    ordered = np.sort(np.concatenate(largest)) * widened
    return Largest(ordered, freedom)


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
