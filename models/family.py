"""The contract of every model: one fit for all targets, missing labels left out for their target alone."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

Floats = NDArray[np.float64]
Matrix = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]


class Family(BaseEstimator):
    """A model of all targets at once; scikit-learn's `get_params`, `set_params` and `clone` work.

    Attributes
    ----------
    chosen_ : column of the target → the parameters chosen for it on the inner folds.
    """

    chosen_: dict[int, dict[str, Any]]

    @abstractmethod
    def fit(self, X: Matrix, Y: Floats, *, inner: Ints, xy: Floats | None = None) -> Self:
        """Fit every target.

        Parameters
        ----------
        X : (n_tiles, n_features), finite.
        Y : (n_tiles, n_targets); NaN where the label is missing.
        inner : (n_tiles,), inner fold of each tile; every choice is made on these.
        xy : (n_tiles, 2), easting and northing [m], or None where no place is known.
        """

    @abstractmethod
    def predict(self, X: Matrix, xy: Floats | None = None) -> Floats:
        """Predict every target: (n_tiles, n_targets), finite."""


def labelled_groups(Y: Floats) -> Iterator[tuple[Ints, Ints]]:
    """Give (rows, columns) of the targets that share the same labelled rows, so that they can share work.

    Raises
    ------
    ValueError : a target without one label.
    """
    patterns, group = np.unique(~np.isnan(Y), axis=1, return_inverse=True)
    for g in range(patterns.shape[1]):
        rows, columns = np.flatnonzero(patterns[:, g]), np.flatnonzero(group.ravel() == g)
        if not len(rows):
            raise ValueError(f"target {columns[0]}: no labelled tile among {len(Y)} training tiles; "
                             "remove the target or fill in its column")
        yield rows, columns


def inner_splits(inner: Ints) -> Iterator[tuple[Ints, Ints]]:
    """Give (training rows, held-out rows) of each inner fold; none where all rows share one fold."""
    folds = np.unique(inner)
    for fold in folds if len(folds) > 1 else ():
        yield np.flatnonzero(inner != fold), np.flatnonzero(inner == fold)


def hold_out(inner: Ints) -> NDArray[np.bool_]:
    """Give (n,) true for the rows of the first inner fold, held out to stop on; every row where there is one fold."""
    is_held: NDArray[np.bool_] = inner == inner.min()
    return is_held
