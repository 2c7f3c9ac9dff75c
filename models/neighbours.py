"""k nearest neighbours in the embedding: one search serves every k and every target."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler

from models.family import Family, Floats, Ints, Matrix, labelled_groups
from models.features import Features
from models.folds import Folds

K_CHOICES = (1, 2, 3, 5, 8, 12, 20, 30, 50, 80)
_DEFAULT_K = 5  # where there are no folds to choose on
_BATCH = 1024


class Neighbours(Family):
    """Predict the mean label of the k nearest tiles, features standardised and rows scaled to length one.

    Both transformers live in the fitted pipeline, so that a tile is asked as the training tiles were stored.
    """

    def __init__(self, k_choices: tuple[int, ...] = K_CHOICES) -> None:
        self.k_choices = k_choices

    def fit(self, X: Features, Y: Floats, *, folds: Folds, weight: Floats) -> Self:  # noqa: ARG002
        """Keep the scaled rows, and choose k of every target on the folds."""
        self.scaler_ = make_pipeline(StandardScaler(), Normalizer())
        self.X_, self.Y_ = self.scaler_.fit_transform(X.array()), Y
        self.chosen_ = [{} for _ in range(Y.shape[1])]
        for rows, columns in labelled_groups(Y):
            k = choose_k(self.X_[rows], Y[np.ix_(rows, columns)], folds.take(rows), self.k_choices)
            for i, t in enumerate(columns):
                self.chosen_[t] = {"k": int(k[i])}
        return self

    def predict(self, X: Features) -> Floats:
        """Average the nearest labels: (n_rows, n_targets)."""
        ks = [chosen["k"] for chosen in self.chosen_]
        return nearest_means(self.X_, self.Y_, self.scaler_.transform(X.array()), ks)


def choose_k(X: Matrix, Y: Floats, folds: Folds, choices: Sequence[int]) -> Ints:
    """Give the best k of each target: (n_targets,); each row is predicted from the rows that its fold may see.

    Parameters
    ----------
    X : (n, d), searched by Euclidean distance. Y : (n, n_targets), no NaN. folds : of the rows. choices : the k to try.
    """
    splits = list(folds.splits())
    largest = min((len(train) for train, _ in splits), default=0)
    ks = np.array([k for k in choices if k <= largest] or [1])
    if not largest:
        return np.full(Y.shape[1], min(_DEFAULT_K, len(X)))
    errors = np.zeros((len(ks), Y.shape[1]))
    for train, held in splits:
        for part, order in _search(X[train], X[held], int(ks[-1])):
            sums = np.cumsum(Y[train][order], axis=1)[:, ks - 1]
            errors += ((sums / ks[None, :, None] - Y[held[part]][:, None]) ** 2).sum(axis=0)
    best: Ints = ks[errors.argmin(axis=0)]
    return best


def nearest_means(X: Matrix, Y: Floats, asked: Matrix, ks: Sequence[int]) -> Floats:
    """Mean label of the `ks[t]` nearest labelled rows, for every asked row and target: (n_asked, n_targets)."""
    out = np.empty((len(asked), Y.shape[1]))
    for rows, columns in labelled_groups(Y):
        known, k_of = Y[np.ix_(rows, columns)], np.minimum([ks[t] for t in columns], len(rows))
        for part, order in _search(X[rows], asked, int(k_of.max())):
            sums = np.cumsum(known[order], axis=1)
            for i, t in enumerate(columns):
                out[part, t] = sums[:, k_of[i] - 1, i] / k_of[i]
    return out


def _search(X: Matrix, asked: Matrix, k: int) -> list[tuple[Ints, NDArray[np.int64]]]:
    """Give (rows, (n_rows, k) nearest of X in order) a batch."""
    centre = X.mean(axis=0)  # far from the origin the expanded square loses its digits
    X, asked = X - centre, asked - centre
    squares = (X * X).sum(axis=1)
    found = []
    for start in range(0, len(asked), _BATCH):
        rows = np.arange(start, min(start + _BATCH, len(asked)))
        distances = squares[None] - 2 * asked[rows] @ X.T
        near = np.argpartition(distances, k - 1, axis=1)[:, :k]
        order = np.argsort(np.take_along_axis(distances, near, axis=1), axis=1, kind="stable")
        found.append((rows, np.take_along_axis(near, order, axis=1)))
    return found
