"""Ridge regression solved exactly, by Cholesky factors of a Gram matrix or of its dual."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import ThreadpoolController

from extract.config.arrays import Bools, Floats, Ints, Matrix
from models.data.features import Features
from models.data.folds import Folds, Held

_BLOCK = 2048  # columns of a dual product that are float64 at once
_ONE_THREAD = 1024  # rows or columns of the largest matrix that one thread factors as fast as two
_SAMPLE = 1024  # rows that the shift is taken from


class RidgePath(NamedTuple):
    """Solutions of one training set for every penalty: y = y_mean + (x − x_mean) · coef.

    Attributes
    ----------
    coef : (n_features, n_alphas, n_targets), of the features as they are stored.
    x_mean, y_mean : (n_features,) and (n_targets,), means of the training set.
    is_solved : (n_alphas, n_targets), false where the solver did not meet its tolerance.
    """

    coef: Matrix
    x_mean: Matrix
    y_mean: Floats
    is_solved: Bools


# Whether the penalties solved so far show that no smaller one can be the best.
Enough = Callable[[dict[Held, RidgePath]], bool]


class LabelledRows(NamedTuple):
    """Rows that all have labels: X (n, d), Y (n, n_targets), weight (n,), and their folds."""

    X: Features
    Y: Floats
    weight: Floats
    folds: Folds

    def take(self, rows: Ints) -> LabelledRows:
        """Return some of the rows."""
        folds = self.folds.take(rows)
        return LabelledRows(self.X.rows(rows), self.Y[rows], self.weight[rows], folds)


class Gram:
    """Solve every training set from second moments of the parts of the folds, in float64.

    For z = (1, x, y), less a shift, the matrix M = Σ w z zᵀ of a set of rows is the sum of those of
    its parts: one pass over the features serves every training set. Rows in the buffers of held
    parts are read again, and taken off. A prediction's residual is linear in z, so the sum of
    squared residuals of held-out rows is cᵀ M c, without another pass.

    Parameters
    ----------
    alphas : (n_alphas,), increasing.
    is_scaled : whether the features are standardised; else they are centred alone.
    """

    def __init__(self, data: LabelledRows, alphas: Floats, *, is_scaled: bool = True) -> None:
        self.data = data
        self.alphas = alphas
        self._is_scaled = is_scaled
        self._n_features = data.X.shape[1]
        self._shift = np.concatenate(
            [
                data.X.sample(_SAMPLE).mean(axis=0, dtype=np.float64),
                np.average(data.Y, axis=0, weights=data.weight),
            ]
        )
        self._moments = self._measure(data)
        whole = self._sum(data.folds.parts, np.empty(0, np.int64))
        self._squares = np.diag(whole)[1 : self._n_features + 1] / whole[0, 0]

    def _measure(self, data: LabelledRows) -> dict[int, Floats]:
        """Compute the second moments of every part of the folds, in one pass."""
        moments: dict[int, Floats] = {}
        for rows, chunk in data.X.chunks():
            part = data.folds.part[rows]
            for p in np.unique(part[part >= 0]).tolist():
                mine = part == p
                xy = np.hstack([chunk[mine], data.Y[rows][mine]]) - self._shift
                z = np.hstack([np.ones((len(xy), 1)), xy])
                z *= np.sqrt(data.weight[rows][mine])[:, None]
                square = z.T @ z
                if p in moments:
                    square += moments[p]
                moments[p] = square
        return moments

    def _sum(self, parts: list[int], without: Ints) -> Floats:
        """Sum the moments of some parts, without some of their rows."""
        total = self._moments[parts[0]].copy()
        for part in parts[1:]:
            total += self._moments[part]
        for moments in self._measure(self.data.take(without)).values():
            total -= moments
        return total

    def solve(self, helds: list[Held], enough: Enough) -> dict[Held, RidgePath]:
        """Solve every training set, named by the parts that it does not see."""
        return {held: self._solve_one(held) for held in helds}

    def _solve_one(self, held: Held) -> RidgePath:
        folds = self.data.folds
        d = self._n_features
        parts = [p for p in folds.parts if p not in held]
        near = np.setdiff1d(np.flatnonzero(np.isin(folds.part, parts)), folds.training(held))
        moments = self._sum(parts, near)
        total = moments[0, 0]
        mean = moments[0, 1:] / total
        covariance = moments[1:, 1:] / total - np.outer(mean, mean)
        variance = np.diag(covariance)[:d]
        x_mean = self._shift[:d] + mean[:d]
        least = 1e-10 * self._squares + _rounding(x_mean, mean[:d])
        scale = _scales(variance, least, is_scaled=self._is_scaled)
        system = total * covariance[:d, :d] / np.outer(scale, scale)
        right = total * covariance[:d, d:] / scale[:, None]
        coef = _solve_shifted(system, right, self.alphas) / scale[:, None, None]
        is_solved = np.ones(coef.shape[1:], dtype=bool)
        return RidgePath(coef, x_mean, self._shift[d:] + mean[d:], is_solved)

    def errors(self, path: RidgePath, part: int, outer: Held) -> Floats:
        """Return the weighted sum of squared residuals on a part: (n_alphas, n_targets)."""
        folds = self.data.folds
        near = np.setdiff1d(folds.held(frozenset({part})), folds.asked(part, outer))
        moments = self._sum([part], near)
        d, n_alphas, n_targets = path.coef.shape
        slope = path.coef.reshape(d, -1)
        x_mean = path.x_mean - self._shift[:d]
        y_mean = np.tile(path.y_mean - self._shift[d:], n_alphas)
        intercept = y_mean - x_mean @ slope
        residual = np.vstack([-intercept, -slope, np.tile(np.eye(n_targets), n_alphas)])
        squares = np.einsum("zr,zr->r", residual, moments @ residual)
        return squares.reshape(n_alphas, n_targets)


class Direct:
    """Base of the solvers whose errors are measured by predicting the held-out rows."""

    def __init__(self, data: LabelledRows, alphas: Floats, *, is_scaled: bool = True) -> None:
        self.data = data
        self.alphas = alphas
        self._is_scaled = is_scaled

    def errors(self, path: RidgePath, part: int, outer: Held) -> Floats:
        """Return the weighted sum of squared residuals on a part: (n_alphas, n_targets).

        It is inf where a penalty is not solved.
        """
        held = self.data.take(self.data.folds.asked(part, outer))
        is_any = path.is_solved.any(axis=1)
        coef = path.coef[:, is_any]
        x_mean = path.x_mean.astype(np.float32)
        squares = np.zeros(coef.shape[1:])
        for rows, chunk in held.X.chunks():
            products = (chunk - x_mean) @ coef.reshape(len(coef), -1)
            predicted = path.y_mean + products.reshape(len(chunk), *squares.shape)
            residuals = held.Y[rows, None] - predicted
            squares += np.tensordot(held.weight[rows], residuals**2, axes=1)
        errors = np.full(path.is_solved.shape, np.inf)
        errors[is_any] = squares
        return np.where(path.is_solved, errors, np.inf)


class Dual(Direct):
    """Solve training sets of fewer rows than columns from the products of their rows.

    With standardised features Z, coef = Zᵀ (Z Zᵀ + α)⁻¹ y (Saunders, Gammerman and Vovk 1998, ICML,
    "Ridge regression learning algorithm in dual variables").
    """

    def solve(self, helds: list[Held], enough: Enough) -> dict[Held, RidgePath]:
        """Solve every training set, named by the parts that it does not see."""
        folds = self.data.folds
        return {held: self._solve_one(self.data.take(folds.training(held))) for held in helds}

    def _solve_one(self, data: LabelledRows) -> RidgePath:
        X = data.X.array()
        n, d = X.shape
        total = data.weight.sum()
        root = np.sqrt(data.weight)[:, None]
        x_mean: Floats = np.average(X, axis=0, weights=data.weight).astype(np.float64)
        y_mean = np.average(data.Y, axis=0, weights=data.weight)
        scale = np.empty(d)
        kernel = np.zeros((n, n))
        blocks = [slice(start, start + _BLOCK) for start in range(0, d, _BLOCK)]
        for block in blocks:
            Z = (X[:, block] - x_mean[block]) * root
            variance = (Z * Z).sum(axis=0) / total
            least = _rounding(x_mean[block], np.zeros(1))
            scale[block] = _scales(variance, least, is_scaled=self._is_scaled)
            Z /= scale[block]
            kernel += Z @ Z.T
        right = (data.Y - y_mean) * root
        dual = _solve_shifted(kernel, right, self.alphas)
        weighted = dual.reshape(n, -1) * root
        coef = np.empty((d, weighted.shape[1]), np.float32)
        for block in blocks:
            products = (X[:, block] - x_mean[block]).T @ weighted
            coef[block] = products / scale[block, None] ** 2
        is_solved = np.ones(dual.shape[1:], dtype=bool)
        return RidgePath(coef.reshape(d, *is_solved.shape), x_mean, y_mean, is_solved)


def _solve_shifted(system: Floats, right: Floats, alphas: Floats) -> Floats:
    """Solve (system + α) b = right for every α: (n, n_alphas, n_right).

    Twenty Cholesky factors cost less than one eigendecomposition: they are all matrix products.
    """
    from scipy.linalg import cho_factor, cho_solve  # slow to import

    out = np.empty((len(system), len(alphas), right.shape[1]))
    for i, alpha in enumerate(alphas):
        shifted = system.copy(order="F")
        shifted.flat[:: len(system) + 1] += alpha
        factor = cho_factor(shifted, overwrite_a=True, check_finite=False)
        out[:, i] = cho_solve(factor, right, check_finite=False)
    return out


def _scales(variance: Floats, least: Floats, *, is_scaled: bool) -> Floats:
    """Return what each column is divided by: inf where it is constant, so that its coef is 0."""
    spread = np.sqrt(np.maximum(variance, 0)) if is_scaled else np.ones(len(variance))
    return np.where(variance <= least, np.inf, spread)


def _rounding(mean: Matrix, offset: Matrix) -> Floats:
    """Return the variance that rounding to float32 alone gives a constant column."""
    step = 10 * np.finfo(np.float32).eps * (np.abs(mean) + np.abs(offset))
    return np.square(step, dtype=np.float64)


@lru_cache(maxsize=1)
def _pools() -> ThreadpoolController:
    return ThreadpoolController()


def few_threads(size: int) -> AbstractContextManager[Any]:
    """Limit BLAS to one thread for small matrices.

    More only wait for each other, twenty times as long on a busy machine.
    """
    return _pools().limit(limits=1, user_api="blas") if size <= _ONE_THREAD else nullcontext()
