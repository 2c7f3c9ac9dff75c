"""Stack models: predict each target by a weighted sum of the predictions of other models."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from extract.config.arrays import Floats, Ints
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
    usable = np.isfinite(predicted).all(axis=1)
    for fold in folds.folds:
        after = next(g for g in folds.folds if folds.before(g) == fold)
        known = folds.training(folds.parts_of(fold))
        known = known[np.isfinite(truth[known])]
        rows = known[(folds.fold[known] == after) & np.isfinite(nested[known]).all(axis=1)]
        asked = np.flatnonzero((folds.fold == fold) & usable)
        if not len(rows) or not len(asked):
            continue
        mean = float(np.average(truth[known], weights=weight[known]))
        solved = fit_weights(
            truth[rows], nested[rows], unit=unit[rows], weight=weight[rows], mean=mean
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
    truth = truth - mean
    members = members - mean
    units, unit = np.unique(unit, return_inverse=True)
    part = np.random.default_rng(0).permutation(len(units))[unit] % _INNER_FOLDS
    errors = np.zeros((len(PENALTIES), len(units)))
    for held in np.unique(part) if len(units) > 1 else ():
        train = part != held
        test = part == held
        for i, penalty in enumerate(PENALTIES):
            weights = _solve(truth[train], members[train], weight[train], penalty)
            squares = weight[test] * (members[test] @ weights - truth[test]) ** 2
            errors[i] += np.bincount(unit[test], weights=squares, minlength=len(units))
    penalty = PENALTIES[_choose(errors)]
    weights = _solve(truth, members, weight, penalty)
    return Weights(weights, mean * (1 - float(weights.sum())), penalty)


def _choose(errors: Floats) -> int:
    """Return the last penalty whose errors (n_penalties, n_units) exceed the least by no more than
    their standard error.
    """
    n = errors.shape[1]
    if n < 2:
        return len(errors) - 1
    more = errors - errors[errors.sum(axis=1).argmin()]
    return int(np.flatnonzero(more.mean(axis=1) <= more.std(axis=1, ddof=1) / np.sqrt(n)).max())


def _solve(truth: Floats, members: Floats, weight: Floats, penalty: float) -> Floats:
    """Minimise mean (y − M w)² + penalty · v · |w − 1/m|² over 0 ≤ w ≤ 1, v the mean square of y:
    (n_members,).

    The squares are summed in an (m, m) matrix, so that the search for w does not grow with the
    rows.
    """
    share = weight / weight.sum()
    m = members.shape[1]
    from scipy.optimize import lsq_linear, nnls  # slow to import

    scaled = members * np.sqrt(share)[:, None]
    ridge = penalty * (float(share @ truth**2) or 1.0)
    upper = np.linalg.cholesky(scaled.T @ scaled + ridge * np.eye(m)).T
    right = np.linalg.solve(upper.T, members.T @ (share * truth) + ridge / m)
    weights: Floats = nnls(upper, right)[0]
    if weights.max() > 1:
        weights = lsq_linear(upper, right, bounds=(0, 1), method="bvls").x
    return weights
