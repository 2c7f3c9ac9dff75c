"""Ridge regression: what one training set costs serves every fold, target and penalty."""

from __future__ import annotations

import logging
from typing import NamedTuple, Self

import numpy as np

from models.data.arrays import Floats
from models.data.features import Features
from models.data.folds import Folds, Held
from models.families.family import Chosen, CrossFit, Family, Task, as_probabilities, labelled_groups
from models.families.linear.gram_ridge import Data, Dual, Gram, Paths, few_threads
from models.families.linear.iterative_ridge import Krylov

LOG = logging.getLogger(__name__)
ALPHAS = tuple(float(a) for a in 10.0 ** np.arange(-1, 8.5, 0.5))
EXACT_LIMIT = 4096  # rows or columns of the largest matrix that is factored: 128 MiB, 0.5 s a penalty on two cores


class Linear(NamedTuple):
    """The chosen solution of one training set: prediction = X · coef + intercept."""

    coef: Floats  # (n_features, n_targets)
    intercept: Floats  # (n_targets,)
    alpha: Floats  # (n_targets,)
    error: Floats  # (n_targets,), weighted sum of squared errors on the inner folds


class SharedRidge(Family):
    """Ridge on standardised features, the penalty of each target chosen on the inner folds.

    The same minimum as scikit-learn's `Ridge(alpha)` behind a `StandardScaler`, both given the weights; so a penalty
    means there what it means here, whatever the number of rows. The grid is wide because the best one grows with
    noise and columns: from 1 at 100 rows of 10 columns to 10⁶ at 36,723 of 25,088.

    The features are read once: sums over the parts of the folds give every training set (`gram`), or products of
    rows where there are fewer of those than columns, both exact. Where there are more than `exact_limit` of both, the
    solutions are iterated (`krylov`) to 10⁻⁵ standard deviations of the target, the largest penalties first, until
    the errors on the inner folds have risen again over two smaller ones, for every fold and target; penalties that are
    not reached in 200 steps are not candidates, and the log says which. Where there are no inner folds to choose on, the
    penalty nearest to the number of columns is taken: signal and noise of one size. `standardise` false leaves the
    columns their scale, as those of a PCA need. Classes get one penalty, and shares of least squares that sum to 1: the
    likeliest class is that of scikit-learn's `RidgeClassifier(alpha)`.
    """

    revision = 2  # small penalties are left out where larger ones predict better

    def __init__(
        self,
        alphas: tuple[float, ...] = ALPHAS,
        exact_limit: int = EXACT_LIMIT,
        standardise: bool = True,
        task: Task = "number",
    ) -> None:
        self.alphas = alphas
        self.exact_limit = exact_limit
        self.standardise = standardise
        self.task = task

    def fit(self, X: Features, Y: Floats, *, folds: Folds, weight: Floats) -> Self:
        """Choose the penalties, then fit every target on all its labelled rows."""
        everything: Held = frozenset()
        self.coef_ = np.zeros((X.shape[1], Y.shape[1]))
        self.intercept_ = np.zeros(Y.shape[1])
        self.chosen_ = [{} for _ in range(Y.shape[1])]
        for rows, columns in labelled_groups(Y):
            data = Data(X, Y[:, columns], weight, folds).take(rows)
            linear = self._solve(data, [everything])[everything]
            self.coef_[:, columns], self.intercept_[columns] = linear.coef, linear.intercept
            for t, alpha in zip(columns, linear.alpha, strict=True):
                self.chosen_[t] = {"alpha": float(alpha)}
        return self

    def predict(self, X: Features) -> Floats:
        """Return X · coef + intercept: (n_rows, n_targets)."""
        return as_probabilities(_predict(X, self.coef_, self.intercept_), self.task)

    def cross_fit(
        self, X: Features, Y: Floats, *, folds: Folds, weight: Floats, nested: bool = False
    ) -> CrossFit:
        """Predict every row by a model that has not seen its fold; all models from the same sums."""
        predicted = np.full(Y.shape, np.nan)
        deeper = np.full(Y.shape, np.nan)
        chosen: list[dict[str, Chosen]] = [{} for _ in range(Y.shape[1])]
        both = {f: folds.parts_of(f, folds.before(f)) for f in folds.folds}
        outers = {folds.parts_of(f) for f in folds.folds} | (
            set(both.values()) if nested else set()
        )
        for known, columns in labelled_groups(Y):
            linear = self._solve(
                Data(X, Y[:, columns], weight, folds).take(known), sorted(outers, key=sorted)
            )
            for fold in folds.folds:
                rows = folds.held(folds.parts_of(fold))
                mine = linear[folds.parts_of(fold)]
                predicted[np.ix_(rows, columns)] = _predict(X.rows(rows), mine.coef, mine.intercept)
                if nested:
                    deep = linear[both[fold]]
                    deeper[np.ix_(rows, columns)] = _predict(
                        X.rows(rows), deep.coef, deep.intercept
                    )
                for t, alpha in zip(columns, mine.alpha, strict=True):
                    chosen[t][str(fold)] = {"alpha": float(alpha)}
        predicted = as_probabilities(predicted, self.task)
        deeper = as_probabilities(deeper, self.task)
        return CrossFit(predicted, deeper if nested else None, chosen)

    def _solve(self, data: Data, outers: list[Held]) -> dict[Held, Linear]:
        alphas = np.sort(np.asarray(self.alphas, dtype=float))
        n_rows, n_features = data.X.shape
        kind: type[Gram | Dual | Krylov] = Gram if n_features <= n_rows else Dual
        if min(n_rows, n_features) > self.exact_limit:
            kind = Krylov
        return solve_sets(
            kind(data, alphas, is_scaled=self.standardise), data, outers, alphas, task=self.task
        )


def solve_sets(
    solver: Gram | Dual | Krylov,
    data: Data,
    outers: list[Held],
    alphas: Floats,
    *,
    task: Task = "number",
) -> dict[Held, Linear]:
    """Choose the penalty of each target on the inner folds, and solve, for each set of parts that is not to be seen.

    Parameters
    ----------
    task : `class` for one penalty for all columns, by their errors together.

    Raises
    ------
    ValueError : nothing is left to train on, or no penalty can be solved.
    """
    for outer in outers:
        if not len(data.folds.training(outer)):
            raise ValueError(
                f"without parts {sorted(outer)} of the folds no labelled tile is left to train on; "
                "fill in labels, or lower folds or buffer_m in [models]"
            )
    inner = {outer: _inner(data, outer) for outer in outers}
    helds = list(dict.fromkeys([*outers, *(outer | {p} for outer in outers for p in inner[outer])]))

    def judge(paths: dict[Held, Paths]) -> dict[Held, Floats]:
        return {outer: _errors(solver, paths, outer, inner[outer], task) for outer in outers}

    with few_threads(min(data.X.shape)):
        paths = solver.paths(
            helds, lambda found: all(_is_past(errors) for errors in judge(found).values())
        )
        return {
            outer: _choose(paths[outer], errors, alphas) for outer, errors in judge(paths).items()
        }


def _errors(
    solver: Gram | Dual | Krylov,
    paths: dict[Held, Paths],
    outer: Held,
    inner: list[int],
    task: Task,
) -> Floats:
    """Errors on the inner folds, of every penalty and target: (n_alphas, n_targets), inf where a set is not solved."""
    path = paths[outer]
    alphas = solver.alphas
    errors = np.where(path.is_solved, 0.0, np.inf)
    for p in inner:
        errors += np.where(
            paths[outer | {p}].is_solved, solver.errors(paths[outer | {p}], p, outer), np.inf
        )
    if not inner:
        errors += np.abs(np.log(alphas / len(path.coef)))[:, None]
    return (
        np.repeat(errors.sum(axis=1, keepdims=True), errors.shape[1], axis=1)
        if task == "class"
        else errors
    )


def _is_past(errors: Floats) -> bool:
    """Whether the best penalty of every target lies behind: the two solved next below it predict worse, the second more so.

    The error on held-out rows falls and rises again with the penalty; what lies beyond a rise of a decade is not looked at.
    """
    best = errors.argmin(axis=0)
    columns = np.arange(errors.shape[1])
    below = [errors[np.maximum(best - step, 0), columns] for step in range(3)]
    is_solved = np.isfinite(below[2]) & (best >= 2)
    return bool((is_solved & (below[2] > below[1]) & (below[1] > below[0])).all())


def _inner(data: Data, outer: Held) -> list[int]:
    """Parts that a choice inside an outer fold can be judged on; none where there are not two."""
    folds = data.folds
    parts = [
        p
        for p in folds.parts
        if p not in outer and len(folds.asked(p, outer)) and len(folds.training(outer | {p}))
    ]
    return parts if len(parts) > 1 else []


def _choose(path: Paths, errors: Floats, alphas: Floats) -> Linear:
    """Take the penalty of least error among those solved, for each target."""
    if not np.isfinite(errors).any(axis=0).all():
        raise ValueError(
            f"ridge: no penalty up to {alphas[-1]:g} could be solved on {len(path.coef)} features. "
            "Reduce them first: 'ridge+pca:256'."
        )
    missed = alphas[~np.isfinite(errors).any(axis=1)]
    if len(missed) and not _is_past(errors):
        LOG.warning(
            "ridge on %d features: penalties up to %g were not reached in time, and are no candidates",
            len(path.coef),
            missed[-1],
        )
    best = errors.argmin(axis=0)
    coef = np.stack([path.coef[:, a, t] for t, a in enumerate(best)], axis=1).astype(np.float64)
    return Linear(coef, path.y - path.x @ coef, alphas[best], errors.min(axis=0))


def _predict(X: Features, coef: Floats, intercept: Floats) -> Floats:
    out = np.empty((len(X), coef.shape[1]))
    for rows, chunk in X.chunks():
        out[rows] = chunk @ coef + intercept
    return out
