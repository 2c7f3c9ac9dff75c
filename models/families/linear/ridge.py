"""Ridge regression: the same sums serve every fold, target and penalty."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from extract.config.arrays import Floats, Ints
from models.data.features import Features
from models.data.folds import Folds, Held
from models.families.family import Family, FitContext, as_probabilities
from models.families.fit_results import Chosen, HeldOut
from models.families.linear.dual_ridge import Dual
from models.families.linear.gram_ridge import Gram
from models.families.linear.iterative_ridge import Iterative
from models.families.linear.ridge_paths import RidgePath, few_threads
from models.families.training_rows import Task, TrainingRows

LOG = logging.getLogger(__name__)
ALPHAS = tuple(float(a) for a in 10.0 ** np.arange(-1, 8.5, 0.5))
# Rows or columns of the largest matrix that is factored: 128 MiB, 0.5 s a penalty on two cores.
EXACT_LIMIT = 4096
_EVERYTHING: Held = frozenset()
Solver = Gram | Dual | Iterative


class Linear(NamedTuple):
    """Chosen solution of one training set: prediction = X · coef + intercept."""

    coef: Floats  # (n_features, n_targets)
    intercept: Floats  # (n_targets,)
    alpha: Floats  # (n_targets,)
    error: Floats  # (n_targets,), weighted sum of squares on the inner folds

    @property
    def chosen(self) -> list[Chosen]:
        """The penalty of each target."""
        return [{"alpha": float(alpha)} for alpha in self.alpha]


class SharedRidge(Family):
    """Ridge on standardised features, the penalty of each target chosen on the inner folds.

    The same minimum as scikit-learn's `Ridge(alpha)` behind a `StandardScaler`, both with the
    weights. The grid is wide because the best penalty grows with noise and columns: from 1 at 100
    rows of 10 columns to 10⁶ at 36,723 of 25,088.

    The features are read once: sums over the parts of the folds give every training set (`Gram`),
    or products of rows where there are fewer rows than columns (`Dual`), both exact. Where there
    are more than `exact_limit` of both, the solutions are iterated (`Iterative`), the largest
    penalties first, until the errors on the inner folds have risen over two smaller penalties, for
    every fold and target; the log names penalties that are not reached.

    Without inner folds to choose on, the penalty nearest to the number of columns is taken: signal
    and noise of one size. Classes get one penalty, and shares of least squares that sum to 1; the
    likeliest class is that of scikit-learn's `RidgeClassifier(alpha)`.

    Parameters
    ----------
    alphas : penalties to choose from.
    exact_limit : rows or columns of the largest matrix that is factored.
    standardise : false leaves the columns their scale, as those of a PCA need.
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

    def fit_rows(self, data: TrainingRows, context: FitContext) -> None:
        """Choose the penalties, then fit every target on all its labelled rows."""
        linear = self._solve(data, [_EVERYTHING])[_EVERYTHING]
        self.coef_ = linear.coef
        self.intercept_ = linear.intercept
        self.chosen_ = linear.chosen

    def predict(self, X: Features) -> Floats:
        """Return X · coef + intercept: (n_rows, n_targets)."""
        predicted = _predict(X, self.coef_, self.intercept_)
        return as_probabilities(predicted, self.task)

    def slopes(self) -> Floats | None:
        """Return the sum of the coefficients' sizes: (n_features,)."""
        sizes = np.abs(self.coef_)
        return sizes.sum(axis=1)

    def predict_held(
        self, data: TrainingRows, asked: Mapping[Held, Ints], context: FitContext
    ) -> Iterator[tuple[Held, HeldOut]]:
        """Yield what a model without each set of held parts gives, all from the same sums."""
        solutions = self._solve(data, sorted(asked, key=sorted))
        for held, rows in asked.items():
            linear = solutions[held]
            X = data.X.rows(rows)
            predicted = _predict(X, linear.coef, linear.intercept)
            predicted = as_probabilities(predicted, self.task)
            yield held, HeldOut(predicted, linear.chosen)

    def _solve(self, data: TrainingRows, outers: list[Held]) -> dict[Held, Linear]:
        """Solve every set of parts left out; the targets with labels in the same rows together."""
        n_targets = data.Y.shape[1]
        whole = {}
        for outer in outers:
            whole[outer] = Linear(
                coef=np.zeros((data.X.shape[1], n_targets)),
                intercept=np.zeros(n_targets),
                alpha=np.zeros(n_targets),
                error=np.zeros(n_targets),
            )
        for _, columns, labelled in data.split_labelled():
            solver = self._choose_solver(labelled)
            for outer, linear in solve_sets(solver, outers, task=self.task).items():
                for name, values in linear._asdict().items():
                    getattr(whole[outer], name)[..., columns] = values
        return whole

    def _choose_solver(self, data: TrainingRows) -> Solver:
        n_rows, n_features = data.X.shape
        kind: type[Solver] = Dual
        if n_features <= n_rows:
            kind = Gram
        if min(n_rows, n_features) > self.exact_limit:
            kind = Iterative
        return kind(data, np.sort(self.alphas), is_scaled=self.standardise)


def solve_sets(solver: Solver, outers: list[Held], *, task: Task = "number") -> dict[Held, Linear]:
    """Choose the penalties on the inner folds and solve, for each set of parts left out.

    Parameters
    ----------
    task : `class` for one penalty for all columns, by the sum of their errors.

    Raises
    ------
    ValueError : no row is left to train on, or no penalty can be solved.
    """
    folds = solver.data.folds
    inner = {outer: _inner_parts(folds, outer) for outer in outers}
    helds = list(outers)
    for outer, parts in inner.items():
        helds += [outer | {part} for part in parts]
    distinct = list(dict.fromkeys(helds))

    def measure(paths: dict[Held, RidgePath]) -> dict[Held, Floats]:
        return {outer: _errors(solver, paths, outer, parts, task) for outer, parts in inner.items()}

    def is_enough(paths: dict[Held, RidgePath]) -> bool:
        every = measure(paths)
        return all(_is_past(errors) for errors in every.values())

    with few_threads(min(solver.data.X.shape)):
        paths = solver.solve(distinct, is_enough)
        every = measure(paths)
    return {outer: _choose(paths[outer], errors, solver.alphas) for outer, errors in every.items()}


def _inner_parts(folds: Folds, outer: Held) -> list[int]:
    """Return the parts that penalties are judged on inside an outer fold; none if only one.

    Raises
    ------
    ValueError : no row is left to train on.
    """
    if not len(folds.training(outer)):
        raise ValueError(
            f"without parts {sorted(outer)} of the folds no labelled tile is left to train on; "
            "fill in labels, or lower folds or buffer_m in [models]"
        )
    usable = []
    for part in folds.parts:
        if part in outer:
            continue
        asked = folds.asked(part, outer)
        training = folds.training(outer | {part})
        if len(asked) and len(training):
            usable.append(part)
    if len(usable) < 2:
        return []
    return usable


def _errors(
    solver: Solver, paths: dict[Held, RidgePath], outer: Held, inner: list[int], task: Task
) -> Floats:
    """Sum the errors on the inner folds: (n_alphas, n_targets), inf where a set is not solved."""
    path = paths[outer]
    errors = np.where(path.is_solved, 0.0, np.inf)
    for part in inner:
        inside = paths[outer | {part}]
        of_part = solver.errors(inside, part, outer)
        errors += np.where(inside.is_solved, of_part, np.inf)
    if not inner:
        n_features = len(path.coef)
        ratio = solver.alphas / n_features
        distance = np.abs(np.log(ratio))
        errors += distance[:, None]
    if task == "class":
        total = errors.sum(axis=1, keepdims=True)
        errors[:] = total
    return errors


def _is_past(errors: Floats) -> bool:
    """Return whether the two penalties solved below the best of each target predict ever worse.

    The error on held-out rows falls and rises again with the penalty; what lies beyond a rise over
    a decade is not looked at.
    """
    best = errors.argmin(axis=0)
    if (best < 2).any():
        return False
    columns = np.arange(len(best))
    least = errors[best, columns]
    below = errors[best - 1, columns]
    lowest = errors[best - 2, columns]
    is_rising = (lowest > below) & (below > least)
    is_solved = np.isfinite(lowest)
    is_past = is_rising & is_solved
    return bool(is_past.all())


def _choose(path: RidgePath, errors: Floats, alphas: Floats) -> Linear:
    """Choose the penalty of least error among those solved, for each target."""
    n_features = len(path.coef)
    is_candidate = np.isfinite(errors)
    has_candidate = is_candidate.any(axis=0)
    if not has_candidate.all():
        raise ValueError(
            f"ridge: no penalty up to {alphas[-1]:g} could be solved on {n_features} features. "
            "Reduce them first: 'ridge+pca:256'."
        )
    is_reached = is_candidate.any(axis=1)
    missed = alphas[~is_reached]
    if len(missed) and not _is_past(errors):
        LOG.warning(
            "ridge on %d features: penalties up to %g were not reached in time, and are no "
            "candidates",
            n_features,
            missed[-1],
        )
    best = errors.argmin(axis=0)
    targets = np.arange(len(best))
    chosen = path.coef[:, best, targets]
    coef = chosen.astype(np.float64)
    return Linear(
        coef=coef,
        intercept=path.y_mean - path.x_mean @ coef,
        alpha=alphas[best],
        error=errors.min(axis=0),
    )


def _predict(X: Features, coef: Floats, intercept: Floats) -> Floats:
    n_targets = len(intercept)
    out = np.empty((len(X), n_targets))
    for rows, chunk in X.chunks():
        out[rows] = chunk @ coef + intercept
    return out
