"""A stack: for each target, the weighted mean of the cells that see pictures."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from models.family import Floats, Ints
from models.folds import Folds

PENALTIES = (0.01, 0.1, 1.0, 10.0)


class Weights(NamedTuple):
    """A stack of one target inside one fold: prediction = intercept + members · weights."""

    weights: Floats
    intercept: float
    penalty: float


def stack_folds(truth: Floats, predicted: Floats, nested: Floats, *, folds: Folds, area: NDArray[Any]
                ) -> tuple[Floats, dict[str, Weights]]:
    """Combine the members' out-of-fold predictions, each fold by weights that have not seen it.

    The weights of fold f are learned on the fold after it, from nested predictions: those were made by models that
    had seen neither of the two. So no label of fold f has a part in its own prediction (Wolpert 1992, Neural
    Networks 5:241; non-negative: Breiman 1996, Machine Learning 24:49).

    Parameters
    ----------
    truth : (n,), NaN where the label is missing. predicted, nested : (n, n_members), NaN where a member has no tile.
    area : (n,), the unit that the penalty's choice holds out.

    Returns
    -------
    (n,), NaN where nothing can be said; and the weights by fold.
    """
    out, learned = np.full(len(truth), np.nan), {}
    usable = np.isfinite(predicted).all(axis=1)
    for fold in folds.folds:
        after = next(g for g in folds.folds if folds.before(g) == fold)
        rows = np.flatnonzero((folds.fold == after) & np.isfinite(truth) & np.isfinite(nested).all(axis=1))
        asked = np.flatnonzero((folds.fold == fold) & usable)
        if not len(rows) or not len(asked):
            continue
        learned[str(fold)] = fit_weights(truth[rows], nested[rows], np.unique(area[rows], return_inverse=True)[1])
        out[asked] = predicted[asked] @ learned[str(fold)].weights + learned[str(fold)].intercept
    return out, learned


def fit_weights(truth: Floats, members: Floats, group: Ints) -> Weights:
    """Fit non-negative weights, drawn towards the plain mean by a penalty that is chosen on held-out groups."""
    part = group % min(5, int(group.max()) + 1)
    errors = np.zeros(len(PENALTIES))
    for held in range(int(part.max()) + 1) if part.max() > 0 else ():
        train, test = part != held, part == held
        for i, penalty in enumerate(PENALTIES):
            weights, intercept = _solve(truth[train], members[train], penalty)
            errors[i] += ((members[test] @ weights + intercept - truth[test]) ** 2).sum()
    penalty = PENALTIES[int(errors.argmin())] if errors.any() else PENALTIES[-1]
    weights, intercept = _solve(truth, members, penalty)
    return Weights(weights, intercept, penalty)


def _solve(truth: Floats, members: Floats, penalty: float) -> tuple[Floats, float]:
    """Minimise mean (y − b − M w)² + penalty · v · |w − 1/m|² over w ≥ 0, v the mean variance of the members."""
    centre, mean, m = members.mean(axis=0), float(truth.mean()), members.shape[1]
    spread = float(members.var(axis=0).mean())
    root = np.sqrt(penalty * (spread or 1.0) * len(truth))
    system = np.vstack([members - centre, root * np.eye(m)])
    weights, _ = nnls(system, np.concatenate([truth - mean, np.full(m, root / m)]))
    return weights, mean - float(centre @ weights)
