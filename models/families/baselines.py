"""What a model has to beat without seeing a picture: the mean, and the region's mean."""

from __future__ import annotations

from typing import Self

import numpy as np

from models.data.arrays import Floats
from models.data.features import Features
from models.data.folds import Folds
from models.families.family import Family, Task, labelled_groups


class Mean(Family):
    """Predict the mean of the training labels, or the shares of their classes: then the likeliest is the majority's."""

    def __init__(self, task: Task = "number") -> None:
        self.task = task

    def fit(self, X: Features, Y: Floats, *, folds: Folds, weight: Floats) -> Self:  # noqa: ARG002
        """Keep the mean of every target."""
        self.mean_ = weighted_means(Y, weight)
        self.chosen_ = [{} for _ in range(Y.shape[1])]
        return self

    def predict(self, X: Features) -> Floats:
        """Repeat the mean: (n_rows, n_targets)."""
        return np.tile(self.mean_, (len(X), 1))


class Region(Family):
    """Predict the mean training label, or the classes' shares, of the tile's region; of all where it has no training label."""

    def __init__(self, task: Task = "number") -> None:
        self.task = task

    def fit(self, X: Features, Y: Floats, *, folds: Folds, weight: Floats) -> Self:  # noqa: ARG002
        """Keep the mean of every region and target; X is the number of the region, (n_rows, 1)."""
        code = X.array()[:, 0].astype(np.int64)
        self.mean_ = np.tile(weighted_means(Y, weight), (int(code.max()) + 1, 1))
        for t, y in enumerate(Y.T):
            known = ~np.isnan(y)
            n = np.bincount(code[known], weights=weight[known], minlength=len(self.mean_))
            total = np.bincount(code[known], weights=(weight * y)[known], minlength=len(self.mean_))
            self.mean_[n > 0, t] = total[n > 0] / n[n > 0]
        self.overall_ = weighted_means(Y, weight)
        self.chosen_ = [{} for _ in range(Y.shape[1])]
        return self

    def predict(self, X: Features) -> Floats:
        """Return each row the mean of its region: (n_rows, n_targets)."""
        code = X.array()[:, 0].astype(np.int64)
        is_known = code < len(self.mean_)
        return np.where(is_known[:, None], self.mean_[np.where(is_known, code, 0)], self.overall_)


def weighted_means(Y: Floats, weight: Floats) -> Floats:
    """Weighted mean of the labels of each target: (n_targets,).

    Raises
    ------
    ValueError : a target without one label.
    """
    means = np.empty(Y.shape[1])
    for rows, columns in labelled_groups(Y):
        means[columns] = np.average(Y[np.ix_(rows, columns)], axis=0, weights=weight[rows])
    return means
