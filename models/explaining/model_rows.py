"""From a tile's pooled map to the row that a model is fed, and back from what is known of the row to the map."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models.data.arrays import Floats, Ints
from models.data.features import Features
from models.families.family import Family
from models.families.pca import Reduced, reduce_features
from models.families.registry import ModelSpec

Row = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed:
    """How the explained tiles are fed to a model.

    Attributes
    ----------
    spec : what the model's name says. grid : height, width and channels where a row is a map.
    own : (n, d), the tiles' own pooled maps, as the features hold them.
    rows : (n, n_features), the rows of the design that they are in: their own, or their area's.
    n_tiles : (n,), tiles of each such row.
    n_core : columns of a row that are no group's.
    """

    spec: ModelSpec
    grid: tuple[int, int, int] | None
    own: Row
    rows: Row
    n_tiles: Ints
    n_core: int

    def features(self, i: int, pooled: Row) -> Features:
        """Return the rows that a model would be fed, were tile i's pooled map another: (m, d) → (m, n_features).

        An area's mean and standard deviation change by the tile's part in them.
        """
        core = pooled
        beside = np.repeat(self.rows[i : i + 1, self.n_core :], len(pooled), axis=0)
        if self.spec.area:
            n = int(self.n_tiles[i])
            d = self.own.shape[1]
            mean, sd, own = (
                v.astype(np.float64)
                for v in (self.rows[i, :d], self.rows[i, d : 2 * d], self.own[i])
            )
            changed = mean + (pooled - own) / n
            squares = sd**2 + mean**2 + (np.square(pooled, dtype=np.float64) - own**2) / n
            core = np.hstack([changed, np.sqrt(np.maximum(squares - changed**2, 0))]).astype(
                np.float32
            )
        return Features(core, beside=beside if beside.shape[1] else None, grid=self.grid)

    def take(self, which: Ints) -> Feed:
        """Return the feed of some of the tiles."""
        return replace(
            self, own=self.own[which], rows=self.rows[which], n_tiles=self.n_tiles[which]
        )

    def whole(self) -> Features:
        """Return the rows as they are: (n, n_features)."""
        beside = self.rows[:, self.n_core :]
        return Features(
            self.rows[:, : self.n_core], beside=beside if beside.shape[1] else None, grid=self.grid
        )

    def pull_linear(self, coef: Floats) -> Floats:
        """Return the weight of each pooled value in a linear model: (n, n_features) → (n, d); in an area, by its mean."""
        d = self.own.shape[1]
        return coef[:, :d] / self.n_tiles[:, None] if self.spec.area else coef[:, :d]

    def pull_gradients(self, gradients: Floats) -> Floats:
        """Return the gradient by each value of the pooled map: (n, n_features) → (n, d); of an area, by mean and deviation."""
        d = self.own.shape[1]
        if not self.spec.area:
            return gradients[:, :d]
        sd = self.rows[:, d : 2 * d].astype(np.float64)
        lean = np.divide(self.own - self.rows[:, :d], sd, out=np.zeros_like(sd), where=sd > 0)
        return (gradients[:, :d] + gradients[:, d : 2 * d] * lean) / self.n_tiles[:, None]


def inner_rows(model: Family, X: Features) -> tuple[Family, Row, Floats | None]:
    """Return the family that predicts, the rows that it is fed, and the axes (d, k) where components stand in between."""
    if isinstance(model, Reduced):
        return (
            model.fitted_,
            reduce_features(X, model.axes_).array(),
            model.axes_.axes.astype(np.float64),
        )
    return model, X.array(), None


def expand(values: Floats, axes: Floats | None) -> Floats:
    """Return gradients by features from those by components: (n, k + n_beside) → (n, d + n_beside)."""
    if axes is None:
        return values
    k = axes.shape[1]
    return np.hstack([values[:, :k] @ axes.T, values[:, k:]])
