"""A stack: for each target, the weighted mean of the cells that see pictures."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from models.family import Floats, Ints
from models.folds import Folds

PENALTIES = (0.01, 0.1, 1.0, 10.0)
_INNER_FOLDS = 5


class Weights(NamedTuple):
    """A stack of one target inside one fold: prediction = intercept + members · weights."""

    weights: Floats
    intercept: float
    penalty: float


def stack_folds(truth: Floats, predicted: Floats, nested: Floats, *, folds: Folds, unit: Ints, weight: Floats
                ) -> tuple[Floats, dict[str, Weights]]:
    """Combine the members' out-of-fold predictions, each fold by weights that have not seen it.

    The weights of fold f are learned on the fold after it, from nested predictions: those were made by models that
    had seen neither of the two. So no label of fold f has a part in its own prediction (Wolpert 1992, Neural
    Networks 5:241; non-negative: Breiman 1996, Machine Learning 24:49). Rows within the buffer of fold f are left out,
    as in every training.

    Parameters
    ----------
    truth : (n,), NaN where the label is missing. predicted, nested : (n, n_members), NaN where a member has no tile.
    unit : (n,), what moves together when folds of this kind are made; the penalty is chosen on held-out units.
    weight : (n,), > 0, how much each row counts.

    Returns
    -------
    (n,), NaN where a member has no prediction; and the weights by fold.
    """
    out, learned = np.full(len(truth), np.nan), {}
    usable = np.isfinite(predicted).all(axis=1)
    for fold in folds.folds:
        after = next(g for g in folds.folds if folds.before(g) == fold)
        rows = folds.training(folds.parts_of(fold))
        rows = rows[(folds.fold[rows] == after) & np.isfinite(truth[rows]) & np.isfinite(nested[rows]).all(axis=1)]
        asked = np.flatnonzero((folds.fold == fold) & usable)
        if not len(rows) or not len(asked):
            continue
        solved = fit_weights(truth[rows], nested[rows], unit=unit[rows], weight=weight[rows])
        learned[str(fold)] = solved
        out[asked] = predicted[asked] @ solved.weights + solved.intercept
    return out, learned


def fit_weights(truth: Floats, members: Floats, *, unit: Ints, weight: Floats) -> Weights:
    """Fit non-negative weights, drawn towards the plain mean by a penalty that is chosen on held-out units."""
    units, unit = np.unique(unit, return_inverse=True)
    part = np.random.default_rng(0).permutation(len(units))[unit] % _INNER_FOLDS
    errors = np.zeros(len(PENALTIES))
    for held in np.unique(part) if len(units) > 1 else ():
        train, test = part != held, part == held
        for i, penalty in enumerate(PENALTIES):
            weights, intercept = _solve(truth[train], members[train], weight[train], penalty)
            errors[i] += (weight[test] * (members[test] @ weights + intercept - truth[test]) ** 2).sum()
    penalty = PENALTIES[int(errors.argmin())] if errors.any() else PENALTIES[-1]
    return Weights(*_solve(truth, members, weight, penalty), penalty)


def _solve(truth: Floats, members: Floats, weight: Floats, penalty: float) -> tuple[Floats, float]:
    """Minimise mean (y − b − M w)² + penalty · v · |w − 1/m|² over w ≥ 0, v the mean variance of the members.

    The squares are summed in an (m, m) matrix, so that the search for w does not grow with the rows.
    """
    share, m = weight / weight.sum(), members.shape[1]
    centre, mean = share @ members, float(share @ truth)
    centred, root = members - centre, np.sqrt(share)[:, None]
    gram = (centred * root).T @ (centred * root)
    ridge = penalty * (float(np.trace(gram)) / m or 1.0)
    upper = np.linalg.cholesky(gram + ridge * np.eye(m)).T
    from scipy.optimize import nnls  # slow to load, and a run with nothing to do should not

    weights, _ = nnls(upper, np.linalg.solve(upper.T, centred.T @ (share * (truth - mean)) + ridge / m))
    return weights, mean - float(centre @ weights)
