"""How wide an interval has to be for places that no model has seen: conformal prediction with areas
as groups.

The errors are those of out-of-fold predictions, so that each is of a model that had not seen the
area (cross-conformal: Vovk 2015, Annals of Mathematics and Artificial Intelligence 74:9; Barber,
Candès, Ramdas and Tibshirani 2021, Annals of Statistics 49:486). The tiles of an area err together,
and what is exchangeable are the areas: every area weighs the same, its tiles share its weight, and
one more area, the new one, is reckoned to err without bound (Lee, Barber and Willett 2023,
"Distribution-free inference with hierarchical data", arXiv:2306.06342). A model refitted on all
tiles errs a little less than those of the folds: the intervals are wide rather than narrow. They
hold for areas drawn as those of the training set were; for another city, nobody knows.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from extract.config.arrays import Bools, Floats, Ints

NOMINAL = (0.8, 0.95)


class Errors(NamedTuple):
    """How far out-of-fold predictions were off: of a tile or an area each, with the area and the
    fold that it lies in.

    Attributes
    ----------
    size : (n,), |truth − prediction|; for classes 1 − the probability of the true one. area, fold :
        (n,).
    """

    size: Floats
    area: Ints
    fold: Ints

    def take(self, rows: Ints) -> Errors:
        """Return some of them."""
        return Errors(
            size=self.size[rows],
            area=self.area[rows],
            fold=self.fold[rows],
        )


class Coverage(NamedTuple):
    """Share of unseen areas' tiles inside an interval, every area counted once, and the interval's
    mean half width.
    """

    coverage: float
    half_width: float
    n_areas: int


def find_half_width(errors: Errors, nominal: float) -> float:
    """Return the half width that holds a new area's tile with the probability `nominal`; infinite
    where areas are too few.
    """
    n_tiles, n_areas = _count_tiles(errors.area)
    share_of_area = (n_areas + 1) * n_tiles
    weight = 1 / share_of_area
    order = np.argsort(errors.size, kind="stable")
    reached = np.cumsum(weight[order])
    place = np.searchsorted(reached, nominal - 1e-12)
    if place == len(order):
        return float("inf")
    last = order[place]
    return float(errors.size[last])


def choose_out_of_fold(candidates: list[Errors]) -> Errors:
    """Return the errors of the rule "take the best model": for each fold, those of the model that
    is best on the other folds.

    The errors of the model that came out best on all folds are too small, since they chose it.

    Parameters
    ----------
    candidates : errors of each model that could have been chosen, on the same split.
    """
    folds = np.concatenate([one.fold for one in candidates])
    parts = []
    for fold in np.unique(folds):
        squares = [_mean_square(one, one.fold != fold) for one in candidates]
        least = np.argmin(squares)
        best = candidates[least]
        mine = np.flatnonzero(best.fold == fold)
        parts.append(best.take(mine))
    return Errors(
        size=np.concatenate([part.size for part in parts]),
        area=np.concatenate([part.area for part in parts]),
        fold=np.concatenate([part.fold for part in parts]),
    )


def _mean_square(errors: Errors, is_row: Bools) -> float:
    """Return the mean squared error over areas, the mean over each area's rows first."""
    if not is_row.any():
        return float("inf")
    area = errors.area[is_row]
    squares = errors.size[is_row] ** 2
    n_rows = np.bincount(area)
    total = np.bincount(area, weights=squares)
    has_rows = n_rows > 0
    means = total[has_rows] / n_rows[has_rows]
    return float(means.mean())


def measure_coverage(errors: Errors, nominal: float) -> Coverage:
    """Hold every fold's areas against the half width that the other folds' areas give."""
    width = np.zeros(len(errors.size))
    for fold in np.unique(errors.fold):
        is_mine = errors.fold == fold
        own_areas = errors.area[is_mine]
        shares_area = np.isin(errors.area, own_areas)
        elsewhere = np.flatnonzero(~shares_area)
        others = errors.take(elsewhere)
        width[is_mine] = find_half_width(others, nominal)
    n_tiles, n_areas = _count_tiles(errors.area)
    weight = 1 / n_tiles / n_areas
    is_inside = errors.size <= width
    return Coverage(
        coverage=float(weight @ is_inside),
        half_width=float(weight @ width),
        n_areas=n_areas,
    )


def _count_tiles(area: Ints) -> tuple[Ints, int]:
    """Return the number of tiles in the area of each row, (n,), and of areas."""
    _, place, counts = np.unique(area, return_inverse=True, return_counts=True)
    n_tiles: Ints = counts[place]
    return n_tiles, len(counts)
