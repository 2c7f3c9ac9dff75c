"""Bootstrap intervals of the scores of numbers, by resampled areas or blocks.

Tiles of one area share a label, so that areas (or blocks) are drawn and never single tiles.
Every score here is made of sums over units, so that all replicates of all cells are one matrix
product; nothing is fitted again. An interval here says how much a score would differ had other
areas been measured by the same models; `models.evaluation.training_variance` widens it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from extract.config.arrays import Array, Floats, Ints
from models.evaluation.ranks import rank_column, rank_influence

REPLICATES = 2000
TAILS = (0.025, 0.975)  # of a 95 % interval
_BLOCK = 250  # replicates multiplied at once: bounds the memory of counts as floats
_LARGEST = 700.0  # of what an exponential is taken
Counts = NDArray[np.uint16]


class Interval(NamedTuple):
    """Ends of a 95 % interval of each cell: (n_cells,), NaN where the score is not defined."""

    low: Floats
    high: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitSums:
    """What a bootstrap needs of the rows, summed over each unit that is drawn.

    Attributes
    ----------
    n : (n_units,), rows. total, squares : (n_units,), sums of the centred truth and of its square.
    errors : (n_units, n_cells), sums of squared errors.
    rho : (n_cells,), Spearman's correlation. influence : (n_units, n_cells), sums of its influence.
    """

    n: Floats
    total: Floats
    squares: Floats
    errors: Floats
    rho: Floats
    influence: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Bootstrap:
    """Intervals of every cell, and what comparisons are made from.

    Attributes
    ----------
    r2, rmse, spearman : 95 % intervals.
    r2_replicates : (n_replicates, n_cells), R² in each replicate.
    """

    r2: Interval
    rmse: Interval
    spearman: Interval
    r2_replicates: Floats


@lru_cache(maxsize=3)
def draw_units(n_units: int, seed: int, n_replicates: int = REPLICATES) -> Counts:
    """Return how often each unit is drawn, with replacement, in each replicate: (n_replicates,
    n_units).

    The same numbers give the same draws, so that cells scored on the same units are compared in the
    same resamples.
    """
    rng = np.random.default_rng(seed)
    counts = np.empty((n_replicates, n_units), np.uint16)
    for replicate in counts:
        drawn = rng.integers(n_units, size=n_units)
        replicate[:] = np.bincount(drawn, minlength=n_units)
    counts.flags.writeable = False
    return counts


def sum_draws(counts: Array, values: Floats) -> Floats:
    """Sum unit values (n_units, k) over what each replicate has drawn: (n_replicates, k)."""
    drawn = np.empty((len(counts), values.shape[1]))
    for start in range(0, len(counts), _BLOCK):
        block = slice(start, start + _BLOCK)
        weights = counts[block].astype(np.float64)
        drawn[block] = weights @ values
    return drawn


def draw_each(counts: Array, columns: list[Floats]) -> list[Floats]:
    """Sum each of some unit values over what each replicate has drawn, in one product."""
    ends = np.cumsum([values.shape[1] for values in columns])
    drawn = sum_draws(counts, np.hstack(columns))
    return np.split(drawn, ends[:-1], axis=1)


def sum_units(truth: Floats, predicted: Array, unit: Ints) -> UnitSums:
    """Sum what a bootstrap needs over each unit.

    Parameters
    ----------
    truth : (n,), finite. predicted : (n, n_cells), finite. unit : (n,), 0 … n_units − 1.
    """
    centred = truth - truth.mean()
    ones = np.ones(len(unit))
    truth_ranks = rank_column(truth)
    n_units = int(unit.max()) + 1
    n_cells = predicted.shape[1]
    errors = np.empty((n_units, n_cells))
    influence = np.empty((n_units, n_cells))
    rho = np.empty(n_cells)
    for cell, column in enumerate(predicted.T):
        residuals = truth - column
        errors[:, cell] = _sum_by(unit, residuals**2)
        ranks = rank_column(column)
        rho[cell], row_influence = rank_influence(truth_ranks, ranks)
        influence[:, cell] = _sum_by(unit, row_influence)
    return UnitSums(
        n=_sum_by(unit, ones),
        total=_sum_by(unit, centred),
        squares=_sum_by(unit, centred**2),
        errors=errors,
        rho=rho,
        influence=influence,
    )


def _sum_by(unit: Ints, values: Floats) -> Floats:
    total = np.bincount(unit, weights=values)
    return np.asarray(total, dtype=np.float64)


def bootstrap_scores(sums: UnitSums, counts: Counts) -> Bootstrap:
    """Return 95 % intervals of R², RMSE and Spearman's correlation for every cell.

    Of R² and RMSE the logarithms of 1 − R² and of the mean squared error are studentised: each
    replicate's deviation is divided by its own standard error, from the influence of the units
    drawn. Spearman's correlation is resampled to first order (`models.evaluation.ranks`) on
    Fisher's z scale, and its percentiles are taken.

    Parameters
    ----------
    sums : of n_units units. counts : (n_replicates, n_units), from `draw_units`.

    References
    ----------
    Efron and Tibshirani 1993, An Introduction to the Bootstrap, sections 12.5 (bootstrap-t) and
    12.6 (on a transformed scale); Davison and Hinkley 1997, Bootstrap Methods and their
    Application, section 2.7 (standard errors by influence).
    """
    every_unit = np.ones((1, len(sums.n)))
    observed = _log_scores(sums, every_unit)
    drawn = _log_scores(sums, counts)
    r2 = _studentise(observed.r2, drawn.r2)
    mse = _studentise(observed.mse, drawn.mse)
    return Bootstrap(
        r2=Interval(low=1 - _exp(r2.high), high=1 - _exp(r2.low)),
        spearman=_spearman(sums, counts),
        rmse=Interval(low=_exp(mse.low / 2), high=_exp(mse.high / 2)),
        r2_replicates=1 - _exp(drawn.r2.value),
    )


def _exp(values: Floats) -> Floats:
    """Exponential that stays finite: predictions far from all truth have intervals beyond any
    number.
    """
    bounded = np.minimum(values, _LARGEST)
    return np.exp(bounded)


class _Estimate(NamedTuple):
    """A score of each cell in each replicate, and its standard error: (n_replicates, n_cells)."""

    value: Floats
    error: Floats


class _LogScores(NamedTuple):
    """Logarithms of 1 − R² and of the MSE."""

    r2: _Estimate
    mse: _Estimate


def _log_scores(sums: UnitSums, counts: Array) -> _LogScores:
    """Score every replicate, with standard errors from the units' influences.

    With the mean m of the drawn truth, a unit adds e to the squared errors E, s = squares − 2 m
    total + m² n to the spread S, and n to the rows N; it moves log(E / S) by e / E − s / S, and
    log(E / N) by e / E − n / N. `a_b` below is the drawn sum of the products of a and b.
    """
    s = sums.squares[:, None]
    t = sums.total[:, None]
    n = sums.n[:, None]
    e = sums.errors
    truth = [s, t, n, s * s, s * t, s * n, t * t, t * n, n * n]
    S, T, N, s_s, s_t, s_n, t_t, t_n, n_n = draw_each(counts, truth)
    E, e_e, e_s, e_t, e_n = draw_each(counts, [e, e * e, e * s, e * t, e * n])
    with np.errstate(divide="ignore", invalid="ignore"):
        m = T / N
        spread = _positive(S - m * T, float(s.max()))
        e_spread = e_s - 2 * m * e_t + m**2 * e_n
        spread_spread = s_s - 4 * m * s_t + 2 * m**2 * s_n
        spread_spread += 4 * m**2 * t_t - 4 * m**3 * t_n + m**4 * n_n
        of_r2 = _Ratio(
            above=E,
            below=spread,
            above_above=e_e,
            above_below=e_spread,
            below_below=spread_spread,
        )
        of_mse = _Ratio(
            above=E,
            below=N,
            above_above=e_e,
            above_below=e_n,
            below_below=n_n,
        )
        return _LogScores(r2=of_r2.log(), mse=of_mse.log())


class _Ratio(NamedTuple):
    """A ratio of two sums, and the sums of the units' products."""

    above: Floats
    below: Floats
    above_above: Floats
    above_below: Floats
    below_below: Floats

    def log(self) -> _Estimate:
        """Return its logarithm."""
        variance = self.above_above / self.above**2
        variance -= 2 * self.above_below / (self.above * self.below)
        variance += self.below_below / self.below**2
        positive = np.maximum(variance, 0)
        value = np.log(self.above / self.below)
        return _Estimate(value, np.sqrt(positive))


def _positive(spread: Floats, largest: float) -> Floats:
    """Return the spread, NaN where it is nothing but rounding: all drawn labels were the same."""
    tiny = np.finfo(float).tiny
    rounding = 1e-12 * max(largest, tiny)
    has_spread = spread > rounding
    return np.where(has_spread, spread, np.nan)


def _studentise(observed: _Estimate, drawn: _Estimate) -> Interval:
    """Bootstrap-t interval of each column; replicates without a score or an error are left out."""
    with np.errstate(divide="ignore", invalid="ignore"):
        deviation = drawn.value - observed.value
        t = deviation / drawn.error
    is_defined = np.isfinite(t)
    t[~is_defined] = np.nan
    tails = _quantiles(t)
    (value,) = observed.value
    (error,) = observed.error
    return Interval(
        low=value - tails.high * error,
        high=value - tails.low * error,
    )


def _spearman(sums: UnitSums, counts: Counts) -> Interval:
    n_drawn = sum_draws(counts, sums.n[:, None])
    moved = sum_draws(counts, sums.influence) / n_drawn
    with np.errstate(divide="ignore", invalid="ignore"):
        moved_z = moved / (1 - sums.rho**2)
        z = np.arctanh(sums.rho)
    tails = _quantiles(moved_z)
    return Interval(
        low=np.tanh(z + tails.low),
        high=np.tanh(z + tails.high),
    )


def _quantiles(values: Floats) -> Interval:
    """Ends of the middle 95 % of each column; NaN where a tenth of it or more is not a number."""
    ordered = np.sort(values, axis=0)  # NaN comes last
    is_number = np.isfinite(values)
    n = is_number.sum(axis=0)
    is_undefined = n <= 0.9 * len(values)
    columns = np.arange(values.shape[1])
    ends = []
    for tail in TAILS:
        rank = np.rint(tail * (n - 1))
        rank = np.maximum(rank, 0)
        end = ordered[rank.astype(int), columns]
        end[is_undefined] = np.nan
        ends.append(end)
    return Interval(*ends)
