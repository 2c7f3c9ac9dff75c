"""What a model has to beat: the mean, and the neighbours on the map. Neither sees a picture."""

from __future__ import annotations

from typing import Self

import numpy as np

from models.family import Family, Floats, Ints, Matrix, labelled_groups
from models.neighbours import K_CHOICES, choose_k, nearest_means


class Mean(Family):
    """Predict the mean of the training labels."""

    def fit(self, X: Matrix, Y: Floats, *, inner: Ints, xy: Floats | None = None) -> Self:  # noqa: ARG002
        """Keep the mean of every target."""
        for _ in labelled_groups(Y):
            pass
        self.mean_ = np.nanmean(Y, axis=0)
        self.chosen_ = {t: {} for t in range(Y.shape[1])}
        return self

    def predict(self, X: Matrix, xy: Floats | None = None) -> Floats:  # noqa: ARG002
        """Repeat the mean: (n_tiles, n_targets)."""
        return np.tile(self.mean_, (len(X), 1))


class Location(Family):
    """Predict the mean label of the k nearest training tiles on the map; k is chosen on the inner folds."""

    def __init__(self, k_choices: tuple[int, ...] = K_CHOICES) -> None:
        self.k_choices = k_choices

    def fit(self, X: Matrix, Y: Floats, *, inner: Ints, xy: Floats | None = None) -> Self:  # noqa: ARG002
        """Keep places and labels, and choose k of every target."""
        self.xy_, self.Y_ = check_places(xy), Y
        self.chosen_ = {}
        for rows, columns in labelled_groups(Y):
            k = choose_k(self.xy_[rows], Y[np.ix_(rows, columns)], inner[rows], self.k_choices)
            self.chosen_.update({int(t): {"k": int(k[i])} for i, t in enumerate(columns)})
        return self

    def predict(self, X: Matrix, xy: Floats | None = None) -> Floats:  # noqa: ARG002
        """Average the nearest labels: (n_tiles, n_targets)."""
        return nearest_means(self.xy_, self.Y_, check_places(xy), [self.chosen_[t]["k"] for t in range(self.Y_.shape[1])])


def check_places(xy: Floats | None) -> Floats:
    """Give the places back.

    Raises
    ------
    ValueError : there are none.
    """
    if xy is None:
        raise ValueError("model 'location' needs coordinates, and the settings name none: set x and y (or grid) in "
                         "[tiles], or remove 'location' from names in [models]")
    return xy
