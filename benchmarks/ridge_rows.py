"""Ridge regression of few rows, the penalty chosen by leave one out, for simulations."""

from __future__ import annotations

import numpy as np
import scipy.linalg

from extract.config.arrays import Floats, Ints

N_FOLDS = 5
ALPHAS = 10.0 ** np.arange(-1, 6, 0.5)


def predict_out_of_fold(y: Floats, X: Floats, fold: Ints) -> Floats:
    """Predict every area by a ridge that has not seen its fold, the penalty chosen by leave one
    out.
    """
    gram = X @ X.T
    predicted = np.empty(len(y))
    for number in np.unique(fold):
        held = np.flatnonzero(fold == number)
        rows = np.flatnonzero(fold != number)
        predicted[held] = _predict_held(gram, y[rows], rows, held)
    return predicted


def _predict_held(gram: Floats, y: Floats, rows: Ints, held: Ints) -> Floats:
    within = gram[np.ix_(rows, rows)]
    across = gram[np.ix_(held, rows)]
    column_mean = within.mean(axis=0)
    mean = column_mean.mean()
    centred = within - column_mean - column_mean[:, None] + mean
    centred_across = across - across.mean(axis=1, keepdims=True) - column_mean + mean
    values, vectors = scipy.linalg.eigh(centred)
    values = np.maximum(values, 0)
    deviations = y - y.mean()
    turned = vectors.T @ deviations
    shrunk = values[:, None] / (values[:, None] + ALPHAS)
    fitted = vectors @ (shrunk * turned[:, None])
    leverage = vectors**2 @ shrunk + 1 / len(y)
    errors = (deviations[:, None] - fitted) / (1 - leverage)
    best = np.argmin(np.mean(errors**2, axis=0))
    weights = vectors @ (turned / (values + ALPHAS[best]))
    predicted: Floats = centred_across @ weights + y.mean()
    return predicted


def predict_new(y: Floats, X: Floats, new: Floats) -> Floats:
    """Predict new rows by a ridge of all rows: (n_new,)."""
    every = np.vstack([X, new])
    rows = np.arange(len(X))
    held = np.arange(len(X), len(every))
    return _predict_held(every @ every.T, y, rows, held)
