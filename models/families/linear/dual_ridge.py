"""Ridge regression solved exactly where there are fewer rows than columns."""

from __future__ import annotations

import numpy as np

from extract.config.arrays import Float32s, Floats
from models.data.folds import Held
from models.families.linear.ridge_paths import (
    Enough,
    RidgePath,
    column_scales,
    rounding_variance,
    solve_shifted,
)
from models.families.training_rows import TrainingRows

_BLOCK = 2048  # columns of a product that are float64 at once


class Direct:
    """Base of the solvers whose errors are measured by predicting the held-out rows.

    Parameters
    ----------
    alphas : (n_alphas,), increasing.
    is_scaled : whether the features are standardised; else they are centred alone.
    """

    def __init__(self, data: TrainingRows, alphas: Floats, *, is_scaled: bool = True) -> None:
        self.data = data
        self.alphas = alphas
        self._is_scaled = is_scaled

    def errors(self, path: RidgePath, part: int, outer: Held) -> Floats:
        """Return the weighted sum of squared residuals on a part: (n_alphas, n_targets).

        It is inf where a penalty is not solved.
        """
        asked = self.data.folds.asked(part, outer)
        held = self.data.take(asked)
        is_solved = path.is_solved
        is_any = is_solved.any(axis=1)
        coef = path.coef[:, is_any]
        slope = coef.reshape(len(coef), -1)
        x_mean = path.x_mean.astype(np.float32)
        shape = coef.shape[1:]
        squares = np.zeros(shape)
        for rows, chunk in held.X.chunks():
            centred = chunk - x_mean
            products = centred @ slope
            products = products.reshape(len(chunk), *shape)
            predicted = path.y_mean + products
            labels = held.Y[rows, None]
            residuals = labels - predicted
            weight = held.weight[rows]
            squares += np.tensordot(weight, residuals**2, axes=1)
        errors = np.full(is_solved.shape, np.inf)
        errors[is_any] = squares
        return np.where(is_solved, errors, np.inf)


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

    def _solve_one(self, data: TrainingRows) -> RidgePath:
        X = data.X.array()
        weight = data.weight
        root = np.sqrt(weight)[:, None]
        x_mean: Floats = np.average(X, axis=0, weights=weight).astype(np.float64)
        y_mean = np.average(data.Y, axis=0, weights=weight)
        kernel, scale = self._multiply_rows(X, x_mean, root)
        centred_labels = data.Y - y_mean
        right = centred_labels * root
        dual = solve_shifted(kernel, right, self.alphas)
        n_rows, *shape = dual.shape
        flat = dual.reshape(n_rows, -1)
        weighted = flat * root
        n_features = X.shape[1]
        coef = np.empty((n_features, weighted.shape[1]), np.float32)
        for block in _blocks(n_features):
            centred = X[:, block] - x_mean[block]
            products = centred.T @ weighted
            variance = scale[block, None] ** 2
            coef[block] = products / variance
        return RidgePath(
            coef=coef.reshape(n_features, *shape),
            x_mean=x_mean,
            y_mean=y_mean,
            is_solved=np.ones(shape, dtype=bool),
        )

    def _multiply_rows(self, X: Float32s, x_mean: Floats, root: Floats) -> tuple[Floats, Floats]:
        """Return Z Zᵀ, (n, n), and the scale of each column, (d,).

        Parameters
        ----------
        root : (n, 1), square root of the weights.
        """
        n, d = X.shape
        weight = root * root
        total = weight.sum()
        scale = np.empty(d)
        kernel = np.zeros((n, n))
        no_offset = np.zeros(1)
        for block in _blocks(d):
            mean = x_mean[block]
            centred = X[:, block] - mean
            Z = centred * root
            squares = Z * Z
            variance = squares.sum(axis=0) / total
            least = rounding_variance(mean, no_offset)
            of_block = column_scales(variance, least, is_scaled=self._is_scaled)
            scale[block] = of_block
            Z /= of_block
            kernel += Z @ Z.T
        return kernel, scale


def _blocks(n_columns: int) -> list[slice]:
    starts = range(0, n_columns, _BLOCK)
    return [slice(start, start + _BLOCK) for start in starts]
