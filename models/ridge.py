"""Ridge regression: one decomposition serves every target and every penalty."""

from __future__ import annotations

from typing import NamedTuple, Self

import numpy as np

from models.family import Family, Floats, labelled_groups
from models.features import Features
from models.folds import Folds

ALPHAS = tuple(float(a) for a in 10.0 ** np.arange(-1, 7.5, 0.5))


class _Spectrum(NamedTuple):
    """Standardised training features in their principal axes."""

    mean: Floats
    scale: Floats
    axes: Floats  # (d, r)
    squares: Floats  # (r,), squared singular values
    centre: Floats  # (n_targets,)
    products: Floats  # (r, n_targets): axesᵀ Xᵀ (Y − centre)


class SharedRidge(Family):
    """Ridge on standardised features, the penalty of each target chosen on the inner folds.

    The same minimum as scikit-learn's `Ridge` behind a `StandardScaler`.
    """

    def __init__(self, alphas: tuple[float, ...] = ALPHAS) -> None:
        self.alphas = alphas

    def fit(self, X: Features, Y: Floats, *, folds: Folds, weight: Floats) -> Self:  # noqa: ARG002
        """Choose the penalties, then fit every target on all its labelled rows."""
        alphas, matrix = np.asarray(self.alphas, dtype=float), X.array().astype(float)
        self.coef_ = np.zeros((X.shape[1], Y.shape[1]))
        self.intercept_ = np.zeros(Y.shape[1])
        self.chosen_ = [{} for _ in range(Y.shape[1])]
        for rows, columns in labelled_groups(Y):
            part, labels = matrix[rows], Y[np.ix_(rows, columns)]
            chosen = alphas[_inner_errors(part, labels, folds.take(rows), alphas).argmin(axis=0)]
            whole = _decompose(part, labels)
            weights = whole.axes @ (whole.products / (whole.squares[:, None] + chosen)) / whole.scale[:, None]
            self.coef_[:, columns] = weights
            self.intercept_[columns] = whole.centre - whole.mean @ weights
            for t, a in zip(columns, chosen, strict=True):
                self.chosen_[t] = {"alpha": float(a)}
        return self

    def predict(self, X: Features) -> Floats:
        """Give X · coef + intercept: (n_rows, n_targets)."""
        out: Floats = X.array().astype(float) @ self.coef_ + self.intercept_
        return out


def _inner_errors(X: Floats, Y: Floats, folds: Folds, alphas: Floats) -> Floats:
    """Squared error of every penalty and target on the held-out folds: (n_alphas, n_targets)."""
    errors = np.zeros((len(alphas), Y.shape[1]))
    for train, held in folds.splits():
        part = _decompose(X[train], Y[train])
        scores = ((X[held] - part.mean) / part.scale) @ part.axes
        for i, alpha in enumerate(alphas):
            predicted = scores @ (part.products / (part.squares[:, None] + alpha)) + part.centre
            errors[i] += ((predicted - Y[held]) ** 2).sum(axis=0)
    return errors


def _decompose(X: Floats, Y: Floats) -> _Spectrum:
    """Decompose through the smaller of XᵀX and XXᵀ."""
    mean, scale = X.mean(axis=0), X.std(axis=0)
    scale = np.where(scale > 10 * np.finfo(np.float32).eps * np.abs(mean), scale, 1.0)  # constant but for rounding
    Z, centre = (X - mean) / scale, Y.mean(axis=0)
    if len(Z) <= Z.shape[1]:
        squares, left = np.linalg.eigh(Z @ Z.T)
        is_kept = squares > squares.max(initial=0.0) * 1e-12
        squares, left = squares[is_kept], left[:, is_kept]
        axes = Z.T @ (left / np.sqrt(squares))
    else:
        squares, axes = np.linalg.eigh(Z.T @ Z)
        is_kept = squares > squares.max(initial=0.0) * 1e-12
        squares, axes = squares[is_kept], axes[:, is_kept]
    return _Spectrum(mean, scale, axes, squares, centre, axes.T @ (Z.T @ (Y - centre)))
