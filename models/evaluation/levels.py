"""The two levels of a score: tiles, and areas, in which every area counts once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from models.data.arrays import Floats, Ints

LevelName = Literal["tile", "area"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """Truth and predictions of some cells on the same rows, all finite.

    Attributes
    ----------
    name : `tile` or `area`: what a row is.
    truth : (n,), an area's is the mean label of its tiles. predicted : (n, n_cells), an area's is the mean of its tiles'.
    training_mean : (n,), mean training label of what predicted the row, or None.
    unit : (n,), number of the area or block that is drawn again: 0 … n_units − 1.
    area : (n,), number of the row's area. n_tiles : (n,), tiles that the row is made of.
    """

    name: LevelName
    truth: Floats
    predicted: NDArray[Any]
    training_mean: Floats | None
    unit: Ints
    area: Ints
    n_tiles: Ints

    def cells(self, which: list[int]) -> Level:
        """Return the same rows with some of the cells."""
        return replace(self, predicted=self.predicted[:, which])


def tile_level(
    truth: Floats, predicted: NDArray[Any], *, area: Ints, unit: Ints, training_mean: Floats | None
) -> Level:
    """Return the rows as they are; units and areas are numbered anew from 0."""
    return Level(
        name="tile",
        truth=truth,
        predicted=predicted,
        training_mean=training_mean,
        unit=np.unique(unit, return_inverse=True)[1],
        area=np.unique(area, return_inverse=True)[1],
        n_tiles=np.ones(len(truth), dtype=np.int64),
    )


def area_level(tiles: Level) -> Level:
    """Average the tiles of each area; the unit of an area is that of its tiles, which they share."""
    n_tiles = np.bincount(tiles.area)
    first = np.unique(tiles.area, return_index=True)[1]

    def mean(values: NDArray[Any]) -> Floats:
        """Average what is beyond the first tile's, so that the mean of equal values is that value, and ties stay ties."""
        start = values[first].astype(np.float64)
        return start + np.bincount(tiles.area, weights=values - start[tiles.area]) / n_tiles

    return Level(
        name="area",
        truth=mean(tiles.truth),
        predicted=np.column_stack([mean(p) for p in tiles.predicted.T]),
        training_mean=None if tiles.training_mean is None else mean(tiles.training_mean),
        unit=tiles.unit[first],
        area=tiles.area[first],
        n_tiles=n_tiles,
    )
