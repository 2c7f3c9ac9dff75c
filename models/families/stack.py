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
    out = np.full(len(truth), np.nan)
    learned = {}
    is_labelled = np.isfinite(truth)
    is_usable = np.isfinite(predicted).all(axis=1)
    has_nested = np.isfinite(nested).all(axis=1)
    for fold in folds.folds:
        training = folds.training(folds.parts_of(fold))
        known = training[is_labelled[training]]
        after = next(g for g in folds.folds if folds.before(g) == fold)
        is_taught = (folds.fold == after) & has_nested
        rows = known[is_taught[known]]
        asked = np.flatnonzero((folds.fold == fold) & is_usable)
        if not len(rows) or not len(asked):
            continue
        solved = fit_weights(
            truth[rows],
            nested[rows],
            unit=unit[rows],
            weight=weight[rows],
            mean=float(np.average(truth[known], weights=weight[known])),
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
    penalty = PENALTIES[_choose(_measure(rows, unit))]
    weights = _solve(rows, penalty)
    intercept = mean * (1 - float(weights.sum()))
    return Weights(weights, intercept, penalty)


class _Rows(NamedTuple):
    """Deviations from the mean: truth (n,), members (n, n_members); and weight (n,)."""

    truth: Floats
    members: Floats
    weight: Floats

    def take(self, which: Bools) -> _Rows:
        return _Rows(self.truth[which], self.members[which], self.weight[which])


def _measure(rows: _Rows, unit: Ints) -> Floats:
    """Return the squared errors of each penalty on held-out units: (n_penalties, n_units)."""
    units, number = np.unique(unit, return_inverse=True)
    n_units = len(units)
    errors = np.zeros((len(PENALTIES), n_units))
    if n_units < 2:
        return errors
    shuffled = np.random.default_rng(0).permutation(n_units)
    part = shuffled[number] % _INNER_FOLDS
    for held in np.unique(part):
        is_held = part == held
        training = rows.take(~is_held)
        test = rows.take(is_held)
        for i, penalty in enumerate(PENALTIES):
            residuals = test.members @ _solve(training, penalty) - test.truth
            squares = test.weight * residuals**2
            errors[i] += np.bincount(number[is_held], weights=squares, minlength=n_units)
    return errors


def _choose(errors: Floats) -> int:
    """Return the last penalty whose errors (n_penalties, n_units) exceed the least by no more than
    their standard error.
    """
    n_penalties, n_units = errors.shape
    if n_units < 2:
        return n_penalties - 1
    best = errors.sum(axis=1).argmin()
    excess = errors - errors[best]
    standard_error = excess.std(axis=1, ddof=1) / np.sqrt(n_units)
    is_as_good = excess.mean(axis=1) <= standard_error
    return int(np.flatnonzero(is_as_good).max())


def _solve(rows: _Rows, penalty: float) -> Floats:
    """Minimise mean (y − M w)² + penalty · v · |w − 1/m|² over 0 ≤ w ≤ 1, v the mean square of y:
    (n_members,).

    The squares are summed in an (m, m) matrix, so that the search for w does not grow with the
    rows.
    """
    from scipy.optimize import lsq_linear, nnls  # slow to import

    m = rows.members.shape[1]
    share = rows.weight / rows.weight.sum()
    variance = float(share @ rows.truth**2)
    ridge = penalty * (variance or 1.0)
    scaled = rows.members * np.sqrt(share)[:, None]
    square = scaled.T @ scaled + ridge * np.eye(m)
    upper = np.linalg.cholesky(square).T
    product = rows.members.T @ (share * rows.truth)
    right = np.linalg.solve(upper.T, product + ridge / m)
    weights: Floats = nnls(upper, right)[0]
    if weights.max() > 1:
        weights = lsq_linear(upper, right, bounds=(0, 1), method="bvls").x
    return weights
