"""Paired differences of cells, with intervals and p-values that hold for all pairs at once."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from extract.config.arrays import Floats
from models.evaluation.evaluate import Evaluated
from models.evaluation.training_variance import stretch

ALPHA = 0.05
NORMAL = 1.959964  # what a normal deviate exceeds in 5 % of cases
_LEAST_SPREAD = 1e-9  # below it a standard deviation is rounding
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


def find_quantile(freedom: int, alpha: float) -> float:
    """Return what |t| exceeds with the probability `alpha`."""
    from scipy.special import stdtrit  # slow to load, and a run with nothing to do needs none

    quantile = stdtrit(max(freedom, 1), 1 - alpha / 2)
    return float(quantile)


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
    is_same = spread <= _LEAST_SPREAD
    spread[is_same] = np.nan
    sd = spread * np.sqrt(evaluated.training_variance)
    values = stretch(evaluated.values, evaluated.score)
    difference = np.abs(values[cell] - values)
    statistic = difference / sd
    p = 2 * stdtr(largest.freedom, -statistic)
    n = len(largest.ordered)
    beyond = n - np.searchsorted(largest.ordered, statistic)
    share = (1 + beyond) / (1 + n)
    n_beyond = math.ceil(ALPHA * (1 + n)) - 1  # as many may lie beyond what is significant
    critical = find_quantile(largest.freedom, ALPHA)
    if 0 < n_beyond <= n:
        of_largest = float(largest.ordered[n - n_beyond])
        critical = max(critical, of_largest)
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
    n_known, n_cells = centred.shape
    covariance = centred.T @ centred
    covariance /= max(n_known, 1)
    variance = np.diag(covariance)
    first, second = np.triu_indices(n_cells, 1)
    of_difference = variance[first] + variance[second]
    of_difference -= 2 * covariance[first, second]
    spread = np.sqrt(np.maximum(of_difference, 0))
    differs = spread > _LEAST_SPREAD
    first = first[differs]
    second = second[differs]
    spread = spread[differs]
    largest = np.zeros(n_known)
    if not len(spread):
        return Largest(largest, freedom)
    for start in range(0, n_known, _CHUNK):
        rows = slice(start, start + _CHUNK)
        chunk = centred[rows]
        difference = chunk[:, first] - chunk[:, second]
        studentised = np.abs(difference / spread)
        largest[rows] = studentised.max(axis=1)
    ordered = np.sort(largest) * widened
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
    is_test = np.isfinite(p)
    n_tests = np.count_nonzero(is_test)
    order = np.argsort(p, kind="stable")
    order = order[:n_tests]  # NaN is sorted last
    n_left = np.arange(n_tests, 0, -1)
    rising = np.maximum.accumulate(p[order] * n_left)
    corrected = np.full(len(p), np.nan)
    corrected[order] = np.minimum(rising, 1)
    return corrected
