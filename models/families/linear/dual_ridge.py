"""Ridge regression solved exactly where there are fewer rows than columns."""

from __future__ import annotations

import numpy as np

from extract.config.arrays import Float32s, Floats
from models.data.folds import Held
from models.families.linear.labelled_rows import (
    Enough,
    LabelledRows,
    RidgePath,
    column_scales,
    rounding_variance,
    solve_shifted,
)

_BLOCK = 2048  # columns of a product that are float64 at once


class Direct:
    """Base of the solvers whose errors are measured by predicting the held-out rows.

    Parameters
    ----------
    alphas : (n_alphas,), increasing.
    is_scaled : whether the features are standardised; else they are centred alone.
    """

    def __init__(self, data: LabelledRows, alphas: Floats, *, is_scaled: bool = True) -> None:
        self.data = data
        self.alphas = alphas
        self._is_scaled = is_scaled

    def errors(self, path: RidgePath, part: int, outer: Held) -> Floats:
        """Return the weighted sum of squared residuals on a part: (n_alphas, n_targets).

        It is inf where a penalty is not solved.
        """
        asked = self.data.folds.asked(part, outer)
        held = self.data.take(asked)
        is_any = path.is_solved.any(axis=1)
        coef = path.coef[:, is_any]
        slope = coef.reshape(len(coef), -1)
        x_mean = path.x_mean.astype(np.float32)
        squares = np.zeros(coef.shape[1:])
        for rows, chunk in held.X.chunks():
            products = (chunk - x_mean) @ slope
            predicted = products.reshape(len(chunk), *squares.shape)
            predicted = path.y_mean + predicted
            residuals = held.Y[rows, None] - predicted
            weight = held.weight[rows]
            squares += np.tensordot(weight, residuals**2, axes=1)
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
        found = {}
        for held in helds:
            rows = self.data.folds.training(held)
            found[held] = self._solve_one(self.data.take(rows))
        return found

    def _solve_one(self, data: LabelledRows) -> RidgePath:
        X = data.X.array()
        root = np.sqrt(data.weight)[:, None]
        x_mean: Floats = np.average(X, axis=0, weights=data.weight).astype(np.float64)
        y_mean = np.average(data.Y, axis=0, weights=data.weight)
        kernel, scale = self._multiply_rows(X, x_mean, root)
        right = (data.Y - y_mean) * root
        dual = solve_shifted(kernel, right, self.alphas)
        shape = dual.shape[1:]
        weighted = dual.reshape(len(X), -1) * root
        coef = np.empty((X.shape[1], weighted.shape[1]), np.float32)
        for block in _blocks(X):
            centred = X[:, block] - x_mean[block]
            products = centred.T @ weighted
            coef[block] = products / scale[block, None] ** 2
        is_solved = np.ones(shape, dtype=bool)
        return RidgePath(coef.reshape(-1, *shape), x_mean, y_mean, is_solved)

    def _multiply_rows(self, X: Float32s, x_mean: Floats, root: Floats) -> tuple[Floats, Floats]:
        """Return Z Zᵀ, (n, n), and the scale of each column, (d,).

        Parameters
        ----------
        root : (n, 1), square root of the weights.
        """
        n, d = X.shape
        total = (root * root).sum()
        scale = np.empty(d)
        kernel = np.zeros((n, n))
        no_offset = np.zeros(1)
        for block in _blocks(X):
            Z = (X[:, block] - x_mean[block]) * root
            variance = (Z * Z).sum(axis=0) / total
            least = rounding_variance(x_mean[block], no_offset)
            scale[block] = column_scales(variance, least, is_scaled=self._is_scaled)
            Z /= scale[block]
            kernel += Z @ Z.T
        return kernel, scale


def _blocks(X: Float32s) -> list[slice]:
    starts = range(0, X.shape[1], _BLOCK)
    return [slice(start, start + _BLOCK) for start in starts]
