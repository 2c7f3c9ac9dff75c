"""Ridge on standardised features, exactly: every penalty from one Gram matrix a training set, or from its dual."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from models.data.arrays import Floats, Ints, Matrix
from models.data.features import Features
from models.data.folds import Folds, Held

_COLUMNS = 2048  # of a dual product at once in float64
_ONE_THREAD = 1024  # rows or columns of the largest matrix that one thread factors as fast as two
_SAMPLE = 1024  # rows that the shift is taken from


class Paths(NamedTuple):
    """The solutions of one training set, a penalty and target each.

    Attributes
    ----------
    coef : (n_features, n_alphas, n_targets), of the features as they are stored.
    x, y : (n_features,) and (n_targets,), means of the training set: prediction = y + (features − x) · coef.
    is_solved : (n_alphas, n_targets), false where the solver did not meet its tolerance.
    """

    coef: Matrix
    x: Matrix
    y: Floats
    is_solved: NDArray[np.bool_]


Enough = Callable[
    [dict[Held, Paths]], bool
]  # whether the penalties solved so far tell that no smaller one can be the best


class Data(NamedTuple):
    """What is fitted: rows that all have labels. X (n, d), Y (n, n_targets), weight (n,), folds of the rows."""

    X: Features
    Y: Floats
    weight: Floats
    folds: Folds

    def take(self, rows: Ints) -> Data:
        """Return some of the rows."""
        return Data(self.X.rows(rows), self.Y[rows], self.weight[rows], self.folds.take(rows))


class Moments(NamedTuple):
    """Weighted sums over some rows of features x and labels y, both less a shift; sets of rows add up."""

    w: float
    x: Floats
    y: Floats
    xx: Floats
    xy: Floats
    yy: Floats

    def plus(self, other: Moments) -> Moments:
        """Return the sums over both sets."""
        return Moments(
            self.w + other.w,
            self.x + other.x,
            self.y + other.y,
            self.xx + other.xx,
            self.xy + other.xy,
            self.yy + other.yy,
        )

    def minus(self, other: Moments) -> Moments:
        """Return the sums over the rows of this set that are not of the other, which is part of it."""
        return Moments(
            self.w - other.w,
            self.x - other.x,
            self.y - other.y,
            self.xx - other.xx,
            self.xy - other.xy,
            self.yy - other.yy,
        )


class Gram:
    """Every training set from the sums of its parts: one pass over the features, float64 throughout.

    A training set's sums are those of its parts, less the rows in the buffers of the held parts, which are read again.
    The errors on held-out rows follow from their sums too, so that no penalty needs a pass of its own.
    `is_scaled` false leaves the features their scale, and only centres them.
    """

    def __init__(self, data: Data, alphas: Floats, *, is_scaled: bool = True) -> None:
        self._data = data
        self.alphas = alphas
        self._is_scaled = is_scaled
        self._shift = data.X.sample(_SAMPLE).mean(axis=0, dtype=np.float64)
        self._centre = np.average(data.Y, axis=0, weights=data.weight)
        self._parts = self._measure(data)
        whole = self._sum(data.folds.parts)
        self._squares = np.diag(whole.xx) / whole.w

    def _measure(self, data: Data) -> dict[int, Moments]:
        """Sums of every part of the folds, in one pass."""
        parts: dict[int, Moments] = {}
        for rows, chunk in data.X.chunks():
            of_row = data.folds.part[rows]
            for part in np.unique(of_row[of_row >= 0]):
                mine = np.flatnonzero(of_row == part)
                new = self._sums(chunk[mine], data.Y[rows][mine], data.weight[rows][mine])
                parts[int(part)] = parts[int(part)].plus(new) if int(part) in parts else new
        return parts

    def _sums(self, X: Matrix, Y: Floats, weight: Floats) -> Moments:
        root = np.sqrt(weight)[:, None]
        x = (X - self._shift) * root
        y = (Y - self._centre) * root
        return Moments(
            float(weight.sum()),
            root[:, 0] @ x,
            root[:, 0] @ y,
            x.T @ x,
            x.T @ y,
            (y * y).sum(axis=0),
        )

    def _sum(self, parts: list[int]) -> Moments:
        total = self._parts[parts[0]]
        for part in parts[1:]:
            total = total.plus(self._parts[part])
        return total

    def _without(self, whole: Moments, rows: Ints) -> Moments:
        """Take rows out of a set, which are read again."""
        for moments in self._measure(self._data.take(rows)).values() if len(rows) else ():
            whole = whole.minus(moments)
        return whole

    def paths(self, helds: list[Held], enough: Enough) -> dict[Held, Paths]:  # noqa: ARG002
        """Solve every training set, named by what it does not see; all penalties, which cost nearly what one does."""
        return {held: self._path(held) for held in helds}

    def _path(self, held: Held) -> Paths:
        folds = self._data.folds
        left = [p for p in folds.parts if p not in held]
        near = np.setdiff1d(
            np.flatnonzero(np.isin(folds.part, left)), folds.training(held), assume_unique=True
        )
        sums = self._without(self._sum(left), near)
        mean = sums.x / sums.w
        variance = np.diag(sums.xx) / sums.w - mean**2
        is_constant = variance <= 1e-10 * self._squares + _tiny(self._shift + mean, mean)
        spread = np.sqrt(np.maximum(variance, 0)) if self._is_scaled else np.ones(len(mean))
        scale = np.where(is_constant, np.inf, spread)
        system = (sums.xx - sums.w * np.outer(mean, mean)) / np.outer(scale, scale)
        right = (sums.xy - np.outer(mean, sums.y)) / scale[:, None]
        coef = _solve(system, right, self.alphas) / scale[:, None, None]
        return Paths(
            coef,
            self._shift + mean,
            self._centre + sums.y / sums.w,
            np.ones(coef.shape[1:], dtype=bool),
        )

    def errors(self, path: Paths, part: int, outer: Held) -> Floats:
        """Weighted sum of squared errors on a part, of every penalty and target: (n_alphas, n_targets)."""
        folds = self._data.folds
        near = np.setdiff1d(
            folds.held(frozenset({part})), self._data.folds.asked(part, outer), assume_unique=True
        )
        sums = self._without(self._parts[part], near)
        n_features, n_alphas, n_targets = path.coef.shape
        b = path.coef.reshape(n_features, -1)
        x = path.x - self._shift
        y = np.tile(path.y - self._centre, n_alphas)
        slope_x = sums.x @ b
        slope_mean = x @ b
        squares = (
            np.einsum("dr,dr->r", b, sums.xx @ b)
            - 2 * slope_x * slope_mean
            + sums.w * slope_mean**2
        )
        cross = (
            np.einsum("dar,dr->ar", path.coef, sums.xy).ravel()
            - np.tile(sums.y, n_alphas) * slope_mean
            - slope_x * y
            + sums.w * slope_mean * y
        )
        labels = np.tile(sums.yy, n_alphas) - 2 * y * np.tile(sums.y, n_alphas) + sums.w * y**2
        return (labels - 2 * cross + squares).reshape(n_alphas, n_targets)


def _solve(system: Floats, right: Floats, alphas: Floats) -> Floats:
    """Solve (system + α) b = right for every α: (n, n_alphas, n_right).

    A Cholesky factor for each of twenty penalties costs less than one eigendecomposition, for it is all matrix products.
    """
    from scipy.linalg import (  # slow to load, and a run with nothing to do should not
        cho_factor,
        cho_solve,
    )

    out = np.empty((len(system), len(alphas), right.shape[1]))
    for i, alpha in enumerate(alphas):
        shifted = system.copy(order="F")
        shifted.flat[:: len(system) + 1] += alpha
        out[:, i] = cho_solve(
            cho_factor(shifted, overwrite_a=True, check_finite=False), right, check_finite=False
        )
    return out


@lru_cache(maxsize=1)
def _pools() -> ThreadpoolController:
    return ThreadpoolController()


def few_threads(size: int) -> AbstractContextManager[Any]:
    """Factor small matrices on one thread: more only wait for each other, twenty times as long on a busy machine."""
    return _pools().limit(limits=1, user_api="blas") if size <= _ONE_THREAD else nullcontext()


def _tiny(mean: Matrix, offset: Matrix) -> Floats:
    """Variance that rounding alone gives a constant column of float32, seen from a shift."""
    return np.square(
        10 * np.finfo(np.float32).eps * (np.abs(mean) + np.abs(offset)), dtype=np.float64
    )


class Direct:
    """Solvers whose errors are measured by predicting the held-out rows."""

    def __init__(self, data: Data, alphas: Floats, *, is_scaled: bool = True) -> None:
        self._data = data
        self.alphas = alphas
        self._is_scaled = is_scaled

    def errors(self, path: Paths, part: int, outer: Held) -> Floats:
        """Weighted sum of squared errors on a part, of every penalty and target: (n_alphas, n_targets); inf where unsolved."""
        rows = self._data.folds.asked(part, outer)
        is_any = path.is_solved.any(axis=1)
        every = np.full(path.is_solved.shape, np.inf)
        if not is_any.any():
            return every
        asked = self._data.take(rows)
        some = path.coef[:, is_any]
        flat = some.reshape(len(some), -1)
        errors = np.zeros(some.shape[1:])
        for chunk_rows, chunk in asked.X.chunks():
            predicted = ((chunk - path.x.astype(np.float32)) @ flat).reshape(
                -1, *errors.shape
            ) + path.y
            misses = (asked.Y[chunk_rows, None] - predicted) ** 2
            errors += np.tensordot(asked.weight[chunk_rows], misses, axes=1)
        every[is_any] = errors
        return np.where(path.is_solved, every, np.inf)


class Dual(Direct):
    """The same solutions where there are fewer rows than columns, from the products of the rows."""

    def paths(self, helds: list[Held], enough: Enough) -> dict[Held, Paths]:  # noqa: ARG002
        """Solve every training set, named by what it does not see; all penalties, which cost nearly what one does."""
        return {
            held: self._path(self._data.take(self._data.folds.training(held))) for held in helds
        }

    def _path(self, data: Data) -> Paths:
        X = data.X.array()
        root = np.sqrt(data.weight)[:, None]
        mean: Floats = np.average(X, axis=0, weights=data.weight).astype(np.float64)
        centre = np.average(data.Y, axis=0, weights=data.weight)
        scale = np.empty(X.shape[1])
        kernel = np.zeros((len(X), len(X)))
        blocks = [slice(i, i + _COLUMNS) for i in range(0, X.shape[1], _COLUMNS)]
        for block in blocks:
            Z = (X[:, block] - mean[block]) * root
            variance = (Z * Z).sum(axis=0) / data.weight.sum()
            is_constant = variance <= _tiny(mean[block], np.zeros(1))
            scale[block] = np.where(
                is_constant, np.inf, np.sqrt(variance) if self._is_scaled else 1.0
            )
            Z /= scale[block]
            kernel += Z @ Z.T
        dual = (_solve(kernel, (data.Y - centre) * root, self.alphas) * root[:, :, None]).reshape(
            len(X), -1
        )
        coef = np.empty((X.shape[1], dual.shape[1]), np.float32)
        for block in blocks:
            coef[block] = ((X[:, block] - mean[block]).T @ dual) / (scale[block] ** 2)[:, None]
        shape = len(self.alphas), data.Y.shape[1]
        return Paths(coef.reshape(-1, *shape), mean, centre, np.ones(shape, dtype=bool))
