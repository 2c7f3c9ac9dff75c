"""Is the best really better? Differences in R², paired over the same resamples, corrected for how many were looked at.

Three traps, and what is done about each. Many comparisons: the p-values of one table are corrected by Holm's method. The
winner was chosen on the same data, so it looks better than it is: `p_max` asks how often the largest difference between
any two of the cells would be as large by chance, whichever of them came out best, and `value_corrected` scores the rule
"take the best" on the units that a resample left out. And neither covers what another training set, other folds or
another seed would have done to the models: nothing is fitted again.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from models.data.arrays import Floats
from models.evaluation.bootstrap import TAILS, Counts, UnitSums, sum_draws

ALPHA = 0.05
_CHUNK = 64  # replicates whose pairs are looked at at once
ENOUGH = 500  # replicates of a mean; the ends of an interval need more


class Differences(NamedTuple):
    """R² of one cell less that of each other: each (n_cells,).

    Attributes
    ----------
    low, high : 95 % percentile interval. p : two-sided, of Student's t with one degree of freedom less than units.
    p_max : two-sided, of the largest studentised difference between any two of all cells.
    """

    difference: Floats
    low: Floats
    high: Floats
    p: Floats
    p_max: Floats


def compare_with(
    cell: int, r2: Floats, replicates: Floats, largest: Floats, *, n_units: int
) -> Differences:
    """Compare one cell with every other, replicate by replicate.

    With 2,000 replicates no count of them can be a p-value below 0.001, which Holm's correction over 60 cells would never
    call significant; the difference over its bootstrap standard deviation can.

    Parameters
    ----------
    r2 : (n_cells,), observed. replicates : (n_replicates, n_cells).
    largest : (n_replicates,), from `largest_differences`.
    n_units : units that were drawn; few give heavier tails.

    Returns
    -------
    Differences, NaN where there is nothing to compare: the cell itself, and cells that predict the same.
    """
    from scipy.special import stdtr  # slow to load, and a run with nothing to do should not

    drawn = replicates[:, [cell]] - replicates
    spread = _spread(drawn)
    difference = r2[cell] - r2
    statistic = np.abs(difference) / spread
    low, high = np.nanquantile(drawn, TAILS, axis=0)
    p = 2 * stdtr(max(n_units - 1, 1), -statistic)
    beyond = len(largest) - np.searchsorted(np.sort(largest), statistic)
    p_max = np.where(np.isnan(statistic), np.nan, np.maximum((1 + beyond) / (1 + len(largest)), p))
    return Differences(difference, low, high, p, p_max)


def _spread(drawn: Floats) -> Floats:
    """Standard deviation of each column, NaN where it is nothing but rounding."""
    spread = np.nanstd(drawn, axis=0)
    return np.where(spread > 1e-9, spread, np.nan)


def largest_differences(replicates: Floats) -> Floats:
    """Return the largest studentised difference between any two cells in each replicate, as if no two differed.

    Each cell's replicates are centred on their mean, so that what is left is chance alone. A difference that exceeds 95 % of
    these is one that no choice of the best and the worst of these cells would show by chance.

    Parameters
    ----------
    replicates : (n_replicates, n_cells).

    Returns
    -------
    (n_replicates,), ≥ 0.

    References
    ----------
    Westfall and Young 1993, Resampling-Based Multiple Testing, section 2.3 (max-t); Hsu 1996, Multiple Comparisons, chapter 5
    (all pairs, as Tukey's range).
    """
    known = replicates[np.isfinite(replicates).all(axis=1)]
    centred = known - known.mean(axis=0)
    first, second = np.triu_indices(centred.shape[1], 1)
    covariance = centred.T @ centred / max(len(centred), 1)
    variance = np.diag(covariance)
    spread = np.sqrt(
        np.maximum(variance[first] + variance[second] - 2 * covariance[first, second], 0)
    )
    is_pair = spread > 1e-9
    if not is_pair.any():
        return np.zeros(len(centred))
    first = first[is_pair]
    second = second[is_pair]
    scale = 1 / spread[is_pair]
    blocks = (centred[i : i + _CHUNK] for i in range(0, len(centred), _CHUNK))
    return np.concatenate(
        [np.abs((b[:, first] - b[:, second]) * scale).max(axis=1) for b in blocks]
    )


def correct_holm(p: Floats) -> Floats:
    """Correct p-values for their number, so that one false alarm or more has at most the stated probability.

    Parameters
    ----------
    p : (n,); NaN is no test, and stays NaN.

    References
    ----------
    Holm 1979, Scandinavian Journal of Statistics 6:65.
    """
    is_test = np.isfinite(p)
    corrected = np.full(len(p), np.nan)
    known = p[is_test]
    order = np.argsort(known, kind="stable")
    steps = np.maximum.accumulate(known[order] * np.arange(len(known), 0, -1))
    back = np.empty(len(known))
    back[order] = np.minimum(steps, 1)
    corrected[is_test] = back
    return corrected


def judge(difference: float, p_holm: float, p_max: float) -> str:
    """Return the verdict: `better`, `worse`, or `not distinguishable`; both corrections have to agree."""
    if not max(p_holm, p_max) < ALPHA:
        return "not distinguishable"
    return "better" if difference > 0 else "worse"


def correct_winner(sums: UnitSums, counts: Counts, replicates: Floats) -> float:
    """Return the R² that the best cell can be expected to keep where it was not chosen.

    In each replicate the best cell is chosen on the units drawn, and scored on those left out; the errors of all replicates
    are set against their spread around the common mean.

    Returns
    -------
    NaN where no replicate leaves units out.

    References
    ----------
    Tsamardinos et al. 2018, Machine Learning 107:1895, doi:10.1007/s10994-018-5714-4 (bootstrap bias corrected
    cross-validation).
    """
    replicates = replicates[:ENOUGH]
    counts = counts[:ENOUGH]
    left_out = sum_draws(counts == 0, np.column_stack([sums.squares, sums.errors]))
    is_known = np.isfinite(replicates).all(axis=1)
    chosen = np.argmax(replicates[is_known], axis=1)
    errors = left_out[is_known, 1:][np.arange(len(chosen)), chosen].sum()
    squares = left_out[is_known, 0].sum()
    return float(1 - errors / squares) if squares > 0 else float("nan")
