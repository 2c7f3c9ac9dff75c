"""Stack models: predict each target by a weighted sum of the predictions of other models."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from extract.config.arrays import Bools, Floats, Ints
from models.data.folds import Folds

# Raised by one where the same predictions give another stack: stacks on disk are then stale.
REVISION = 2
PENALTIES = (0.01, 0.1, 1.0, 10.0)
_INNER_FOLDS = 5


class Weights(NamedTuple):
    """A stack of one target inside one fold: prediction = intercept + members · weights."""

    weights: Floats
    intercept: float
    penalty: float


def stack_folds(
    truth: Floats, predicted: Floats, nested: Floats, *, folds: Folds, unit: Ints, weight: Floats
) -> tuple[Floats, dict[str, Weights]]:
    """Combine the members' out-of-fold predictions, each fold by weights that have not seen it.

    The weights of fold f are learned on the fold after it, from nested predictions: those were made
    by models that had seen neither of the two. So no label of fold f has a part in its own
    prediction (Wolpert 1992, Neural Networks 5:241; non-negative: Breiman 1996, Machine Learning
    24:49). Rows within the buffer of fold f are left out, as in every training.

    One fold may hold few areas, and a member that knows nothing predicts next to one value, so that
    free weights would run away. Therefore the intercept is not learned (members are taken as
    deviations from the mean label of the training rows), no weight exceeds 1 (a member's prediction
    is never stretched), and the strongest penalty is taken that is not worse than the best by more
    than one standard error over the units (Breiman et al. 1984, Classification and Regression
    Trees, section 3.4.3).

    Parameters
    ----------
    truth : (n,), NaN where the label is missing. predicted, nested : (n, n_members), NaN where a
        member has no tile.
    unit : (n,), what moves together when folds of this kind are made; the penalty is chosen on
        held-out units.
    weight : (n,), > 0, how much each row counts.

    Returns
    -------
    (n,), NaN where a member has no prediction; and the weights by fold.
    """
    n_rows = len(truth)
    out = np.full(n_rows, np.nan)
    learned = {}
    is_labelled = np.isfinite(truth)
    is_usable = np.isfinite(predicted).all(axis=1)
    has_nested = np.isfinite(nested).all(axis=1)
    for fold in folds.folds:
        is_known = np.zeros(n_rows, dtype=bool)
        is_known[folds.training(folds.parts_of(fold))] = True
        is_known &= is_labelled
        after = next(g for g in folds.folds if folds.before(g) == fold)
        is_taught = (folds.fold == after) & has_nested
        rows = np.flatnonzero(is_known & is_taught)
        is_asked = (folds.fold == fold) & is_usable
        asked = np.flatnonzero(is_asked)
        if not len(rows) or not len(asked):
            continue
        mean = np.average(truth[is_known], weights=weight[is_known])
        solved = fit_weights(
            truth[rows],
            nested[rows],
            unit=unit[rows],
            weight=weight[rows],
            mean=float(mean),
        )
        learned[str(fold)] = solved
        out[asked] = predicted[asked] @ solved.weights + solved.intercept
    return out, learned


def fit_weights(
    truth: Floats, members: Floats, *, unit: Ints, weight: Floats, mean: float
) -> Weights:
    """Fit weights of 0 … 1, drawn towards the plain mean by a penalty that is chosen on held-out
    units.

    Parameters
    ----------
    mean : label that is predicted where no member says more.
    """
    rows = _Rows(truth - mean, members - mean, weight)
    errors = _measure(rows, unit)
    penalty = PENALTIES[_choose(errors)]
    weights = _solve(rows, penalty)
    total = float(weights.sum())
    return Weights(
        weights=weights,
        intercept=mean * (1 - total),
        penalty=penalty,
    )


class _Rows(NamedTuple):
    """Deviations from the mean: truth (n,), members (n, n_members); and weight (n,)."""

    truth: Floats
    members: Floats
    weight: Floats

    def take(self, which: Bools) -> _Rows:
        return _Rows(
            truth=self.truth[which],
            members=self.members[which],
            weight=self.weight[which],
        )


def _measure(rows: _Rows, unit: Ints) -> Floats:
    """Return the squared errors of each penalty on held-out units: (n_penalties, n_units)."""
    units, number = np.unique(unit, return_inverse=True)
    n_units = len(units)
    errors = np.zeros((len(PENALTIES), n_units))
    if n_units < 2:
        return errors
    rng = np.random.default_rng(0)
    shuffled = rng.permutation(n_units)
    part = shuffled[number] % _INNER_FOLDS
    for held in np.unique(part):
        is_held = part == held
        training = rows.take(~is_held)
        test = rows.take(is_held)
        unit_of_test = number[is_held]
        for of_penalty, penalty in zip(errors, PENALTIES, strict=True):
            weights = _solve(training, penalty)
            predicted = test.members @ weights
            residuals = predicted - test.truth
            squares = test.weight * residuals**2
            of_penalty += np.bincount(unit_of_test, weights=squares, minlength=n_units)
    return errors


def _choose(errors: Floats) -> int:
    """Return the last penalty whose errors (n_penalties, n_units) exceed the least by no more than
    their standard error.
    """
    n_penalties, n_units = errors.shape
    if n_units < 2:
        return n_penalties - 1
    total = errors.sum(axis=1)
    best = total.argmin()
    excess = errors - errors[best]
    deviation = excess.std(axis=1, ddof=1)
    standard_error = deviation / np.sqrt(n_units)
    is_as_good = excess.mean(axis=1) <= standard_error
    as_good = np.flatnonzero(is_as_good)
    return int(as_good[-1])


def _solve(rows: _Rows, penalty: float) -> Floats:
    """Minimise mean (y − M w)² + penalty · v · |w − 1/m|² over 0 ≤ w ≤ 1, v the mean square of y:
    (n_members,).

    The squares are summed in an (m, m) matrix, so that the search for w does not grow with the
    rows.
    """
    from scipy.optimize import lsq_linear, nnls  # slow to import

    members = rows.members
    m = members.shape[1]
    share = rows.weight / rows.weight.sum()
    variance = float(share @ rows.truth**2)
    ridge = penalty * (variance or 1.0)
    root = np.sqrt(share)
    scaled = members * root[:, None]
    square = scaled.T @ scaled
    square += ridge * np.eye(m)
    lower = np.linalg.cholesky(square)
    product = members.T @ (share * rows.truth)
    right = np.linalg.solve(lower, product + ridge / m)
    weights: Floats
    weights, _ = nnls(lower.T, right)
    if weights.max() > 1:
        bounded = lsq_linear(lower.T, right, bounds=(0, 1), method="bvls")
        weights = bounded.x
    return weights
