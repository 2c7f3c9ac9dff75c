"""Ridge regression solved exactly, from the second moments of the parts of the folds."""

from __future__ import annotations

import numpy as np

from extract.config.arrays import Floats, Ints, Matrix
from models.data.folds import Held
from models.families.linear.ridge_paths import (
    Enough,
    RidgePath,
    column_scales,
    rounding_variance,
    solve_shifted,
)
from models.families.training_rows import TrainingRows

_SAMPLE = 1024  # rows that the shift is taken from


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

    def __init__(self, data: TrainingRows, alphas: Floats, *, is_scaled: bool = True) -> None:
        self.data = data
        self.alphas = alphas
        self._is_scaled = is_scaled
        self._n_features = data.X.shape[1]
        sample = data.X.sample(_SAMPLE)
        x_shift = sample.mean(axis=0, dtype=np.float64)
        y_shift = np.average(data.Y, axis=0, weights=data.weight)
        self._shift = np.concatenate([x_shift, y_shift])
        self._moments = self._measure(data)
        no_rows = np.empty(0, np.int64)
        whole = self._sum(data.folds.parts, no_rows)
        diagonal = np.diag(whole)
        total = diagonal[0]
        x_squares = diagonal[1 : self._n_features + 1]
        self._squares = x_squares / total

    def _measure(self, data: TrainingRows) -> dict[int, Floats]:
        """Compute the second moments of every part of the folds, in one pass."""
        moments: dict[int, Floats] = {}
        for rows, chunk in data.X.chunks():
            part = data.folds.part[rows]
            labels = data.Y[rows]
            weight = data.weight[rows]
            root = np.sqrt(weight)
            is_used = part >= 0
            used = np.unique(part[is_used])
            for p in used.tolist():
                is_mine = part == p
                z = self._augment(chunk[is_mine], labels[is_mine])
                z *= root[is_mine, None]
                square = z.T @ z
                if p in moments:
                    square += moments[p]
                moments[p] = square
        return moments

    def _augment(self, x: Matrix, y: Floats) -> Floats:
        """Return z = (1, x, y) less the shift: (n, 1 + n_features + n_targets)."""
        xy = np.hstack([x, y])
        shifted = xy - self._shift
        ones = np.ones((len(xy), 1))
        return np.hstack([ones, shifted])

    def _sum(self, parts: list[int], without: Ints) -> Floats:
        """Sum the moments of some parts, without some of their rows."""
        first, *others = parts
        total = self._moments[first].copy()
        for part in others:
            total += self._moments[part]
        left_out = self._measure(self.data.take(without))
        for moments in left_out.values():
            total -= moments
        return total

    def solve(self, helds: list[Held], enough: Enough) -> dict[Held, RidgePath]:
        """Solve every training set, named by the parts that it does not see."""
        return {held: self._solve_one(held) for held in helds}

    def _solve_one(self, held: Held) -> RidgePath:
        folds = self.data.folds
        d = self._n_features
        parts = [p for p in folds.parts if p not in held]
        inside = np.flatnonzero(np.isin(folds.part, parts))
        near = np.setdiff1d(inside, folds.training(held))
        moments = self._sum(parts, near)
        total = moments[0, 0]
        mean = moments[0, 1:] / total
        covariance = moments[1:, 1:] / total
        covariance -= np.outer(mean, mean)
        x_mean = self._shift[:d] + mean[:d]
        y_mean = self._shift[d:] + mean[d:]
        x_covariance = covariance[:d, :d]
        xy_covariance = covariance[:d, d:]
        variance = np.diag(x_covariance)
        least = 1e-10 * self._squares
        least += rounding_variance(x_mean, mean[:d])
        scale = column_scales(variance, least, is_scaled=self._is_scaled)
        system = total * x_covariance
        system /= np.outer(scale, scale)
        right = total * xy_covariance
        right /= scale[:, None]
        coef = solve_shifted(system, right, self.alphas)
        coef /= scale[:, None, None]
        return RidgePath(
            coef=coef,
            x_mean=x_mean,
            y_mean=y_mean,
            is_solved=np.ones(coef.shape[1:], dtype=bool),
        )

    def errors(self, path: RidgePath, part: int, outer: Held) -> Floats:
        """Return the weighted sum of squared residuals on a part: (n_alphas, n_targets)."""
        folds = self.data.folds
        held = folds.held(frozenset({part}))
        near = np.setdiff1d(held, folds.asked(part, outer))
        moments = self._sum([part], near)
        d, n_alphas, n_targets = path.coef.shape
        slope = path.coef.reshape(d, -1)
        x_mean = path.x_mean - self._shift[:d]
        y_mean = path.y_mean - self._shift[d:]
        y_means = np.tile(y_mean, n_alphas)
        intercept = y_means - x_mean @ slope
        label = np.eye(n_targets)
        labels = np.tile(label, n_alphas)
        residual = np.vstack([-intercept, -slope, labels])
        product = moments @ residual
        squares = np.einsum("zr,zr->r", residual, product)
        return squares.reshape(n_alphas, n_targets)
