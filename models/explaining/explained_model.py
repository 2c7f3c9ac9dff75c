"""A fitted model, the tiles whose predictions are explained, and how they are fed to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from extract.config.arrays import Float32s, Floats, Ints
from extract.config.cuts import Pooling
from models.data.features import Features
from models.families.family import Family

Rows = Float32s


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainedModel:
    """A fitted model and the tiles whose predictions are explained.

    Attributes
    ----------
    model : fitted. pooling : of the cut.
    is_area : whether a row is an area: mean and standard deviation of the maps of its tiles.
    grid : height, width and channels where a row is a map.
    own : (n, d), the tiles' own pooled maps, as the features hold them.
    rows : (n, n_features), rows of the design that the tiles are in: their own, or their area's.
    n_tiles : (n,), tiles of each such row. n_core : columns of a row that are no group's.
    columns : (n,), which of the model's outputs is explained for each tile.
    reference : (d,), pooled features of the mean tile.
    model_of : returns the model to ask about tile i instead; for models that would find the tile
        itself among those that they were fitted on.
    """

    model: Family
    pooling: Pooling
    own: Rows
    rows: Rows
    n_tiles: Ints
    n_core: int
    columns: Ints
    reference: Rows
    is_area: bool = False
    grid: tuple[int, ...] | None = None
    model_of: Callable[[int], Family] | None = None

    def take(self, which: Ints) -> ExplainedModel:
        """Return the same model with some of the tiles."""
        chosen = which.tolist()
        return replace(
            self,
            own=self.own[which],
            rows=self.rows[which],
            n_tiles=self.n_tiles[which],
            columns=self.columns[which],
            model_of=lambda i: self.asked(chosen[i]),
        )

    def asked(self, i: int) -> Family:
        """Return the model to ask about tile i."""
        return self.model if self.model_of is None else self.model_of(i)

    def features(self) -> Features:
        """Return the rows as they are: (n, n_features)."""
        core = self.rows[:, : self.n_core]
        beside = self.rows[:, self.n_core :]
        return self._features(core, beside)

    def predict(self) -> Floats:
        """Predict each tile, or its area: (n,)."""
        X = self.features()
        predicted = np.empty(len(X))
        for i, column in enumerate(self.columns):
            row = X.rows(np.array([i]))
            model = self.asked(i)
            (values,) = model.predict(row)
            predicted[i] = values[column]
        return predicted

    def predict_pooled(self, i: int, pooled: Rows, order: Ints) -> Floats:
        """Predict tile i with other pooled maps: (m, d) → (m,).

        An area's mean and standard deviation change by the tile's part in them.

        Parameters
        ----------
        order : (n_core,), order in which the columns are fed; another than theirs shuffles them.
        """
        core = self._change_area(i, pooled) if self.is_area else pooled
        groups = self.rows[i, self.n_core :]
        beside = np.tile(groups, (len(pooled), 1))
        ordered = core[:, order]
        X = self._features(ordered, beside)
        model = self.asked(i)
        predicted = model.predict(X)
        column = self.columns[i]
        return predicted[:, column]

    def _change_area(self, i: int, pooled: Rows) -> Rows:
        """Return mean and standard deviation of tile i's area with other pooled maps of tile i."""
        n = int(self.n_tiles[i])
        own = self.own[i].astype(np.float64)
        mean, sd = self._mean_and_sd(i)
        difference = pooled - own
        changed = mean + difference / n
        more = np.square(pooled, dtype=np.float64)
        more -= own**2
        squares = sd**2 + mean**2 + more / n
        variance = squares - changed**2
        spread = np.sqrt(np.maximum(variance, 0))
        both = np.hstack([changed, spread])
        return both.astype(np.float32)

    def _mean_and_sd(self, which: int | slice) -> list[Floats]:
        """Return the two halves of the rows of areas."""
        core = self.rows[which, : self.n_core]
        wide = core.astype(np.float64)
        return np.split(wide, 2, axis=-1)

    def _features(self, core: Rows, beside: Rows) -> Features:
        if beside.shape[1]:
            return Features(core, beside=beside, grid=self.grid)
        return Features(core, grid=self.grid)

    def weights_of_pooled(self, coef: Floats) -> Floats:
        """Return the weight of each pooled value in a linear model: (n, n_features) → (n, d).

        In an area, that by its mean.
        """
        n_own = self.own.shape[1]
        own = coef[:, :n_own]
        if self.is_area:
            return own / self.n_tiles[:, None]
        return own

    def gradients_of_pooled(self, gradients: Floats) -> Floats:
        """Return the gradient by each pooled value: (n, n_features) → (n, d).

        Of an area, by its mean and its standard deviation.
        """
        by_mean = self.weights_of_pooled(gradients)
        if not self.is_area:
            return by_mean
        mean, sd = self._mean_and_sd(slice(None))
        n_own = sd.shape[1]
        by_sd = gradients[:, n_own : self.n_core]
        by_sd = by_sd / self.n_tiles[:, None]
        distance = self.own - mean
        slope = np.zeros_like(sd)
        np.divide(distance, sd, out=slope, where=sd > 0)
        return by_mean + by_sd * slope
