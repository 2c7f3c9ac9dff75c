"""The two levels of a score: tiles, and areas, in which every area counts once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from extract.config.arrays import Array, Floats, Ints
from models.data.classes import commonest

LevelName = Literal["tile", "area"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """Truth and predictions of some cells on the same rows, all known.

    Attributes
    ----------
    name : what a row is.
    truth : (n,), labels; of classes their numbers. An area's label is the mean of its tiles', or
        their most frequent class.
    predicted : (n, n_cells), finite; of classes (n, n_cells, n_classes), probabilities. An area's
        are the means of its tiles'.
    training_mean : (n,), mean training label of the model that predicted the row, or None.
    unit : (n,), number of the area or block that a resample draws: 0 … n_units − 1.
    area : (n,), number of the row's area. n_tiles : (n,), tiles that the row is made of.
    """

    name: LevelName
    truth: Array
    predicted: Array
    training_mean: Floats | None
    unit: Ints
    area: Ints
    n_tiles: Ints

    def cells(self, which: list[int]) -> Level:
        """Return the same rows with some of the cells."""
        return replace(self, predicted=self.predicted[:, which])


def tile_level(
    truth: Array,
    predicted: Array,
    *,
    area: Ints,
    unit: Ints,
    training_mean: Floats | None = None,
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
    """Average the tiles of each area; the unit of an area is that of its tiles, which they
    share.
    """
    area = tiles.area
    first = np.unique(area, return_index=True)[1]
    columns = tiles.predicted.reshape(len(area), -1)
    means = np.column_stack([_mean_by_area(column, area) for column in columns.T])
    average = commonest if tiles.predicted.ndim == 3 else _mean_by_area
    training_mean = tiles.training_mean
    if training_mean is not None:
        training_mean = _mean_by_area(training_mean, area)
    return Level(
        name="area",
        truth=average(tiles.truth, area),
        predicted=means.reshape(len(first), *tiles.predicted.shape[1:]),
        training_mean=training_mean,
        unit=tiles.unit[first],
        area=area[first],
        n_tiles=np.bincount(area),
    )


def _mean_by_area(values: Array, area: Ints) -> Floats:
    """Average values (n,) by area.

    What is averaged is the distance to the first tile's value: the mean of equal values is then
    that value exactly, and ties stay ties.
    """
    first = np.unique(area, return_index=True)[1]
    start = values[first].astype(np.float64)
    distance = np.bincount(area, weights=values - start[area])
    return start + distance / np.bincount(area)
