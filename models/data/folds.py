"""Which tiles are predicted by a model that has not seen them: random tiles, whole areas or whole blocks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.data.arrays import Floats, Ints
from models.data.fold_balance import balance_groups, weigh_groups

Held = frozenset[int]  # parts that a model must not see


@dataclass(frozen=True, slots=True, kw_only=True)
class Folds:
    """Who may be trained on, and who is predicted, on one kind of split.

    The inner folds of a fold, on which every choice is made, are the other folds: they were made by the same
    function, so they are of the same kind, and what is fitted without folds {f, g} serves f as the outer and g as
    the inner fold and the other way round. With two folds each is cut into two parts, which are the inner folds.

    Attributes
    ----------
    kind : `random`, `area` or `block`.
    part : (n,), the smallest piece that a row moves with, −1 for a row that nobody uses; a fold is `per_fold` parts.
    near : (n, n_parts) bool, rows of other parts that lie within the buffer of a part; (n, 0) without a buffer.
    """

    kind: str
    part: Ints
    near: NDArray[np.bool_]
    per_fold: int = 1

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.part)

    @property
    def fold(self) -> Ints:
        """Fold of each row: (n,), −1 for a row that nobody uses."""
        return self.part // self.per_fold

    @property
    def folds(self) -> list[int]:
        """Folds that have rows."""
        return sorted({part // self.per_fold for part in self.parts})

    @property
    def parts(self) -> list[int]:
        """Parts that have rows."""
        return [int(p) for p in np.unique(self.part[self.part >= 0])]

    def parts_of(self, *folds: int) -> Held:
        """Parts of some folds."""
        return frozenset(
            p for f in folds for p in range(f * self.per_fold, (f + 1) * self.per_fold)
        )

    def held(self, held: Held) -> Ints:
        """Rows of the held parts: what a model that was fitted on `training(held)` is asked for."""
        return np.flatnonzero(np.isin(self.part, list(held)))

    def training(self, held: Held) -> Ints:
        """Rows in no held part and not within the buffer of one."""
        is_out = (self.part < 0) | np.isin(self.part, list(held))
        if self.near.shape[1]:
            is_out |= self.near[:, sorted(held)].any(axis=1)
        return np.flatnonzero(~is_out)

    def asked(self, part: int, outer: Held) -> Ints:
        """Rows of a part that a choice is judged on which must not see the outer parts: none within their buffers."""
        rows = self.held(frozenset({part}))
        return rows[~self.near[rows][:, sorted(outer)].any(axis=1)] if self.near.shape[1] else rows

    def inner(self, fold: int) -> list[tuple[int, Held]]:
        """Return (inner part, parts to hold out) of every inner fold of an outer fold; empty where there are not two."""
        outer = self.parts_of(fold)
        inside = [p for p in self.parts if p not in outer]
        return [(p, outer | {p}) for p in inside] if len(inside) > 1 else []

    def splits(self) -> Iterator[tuple[Ints, Ints]]:
        """Return (training rows, held-out rows) of every part; nothing where there are not two."""
        for part in self.parts if len(self.parts) > 1 else ():
            yield self.training(frozenset({part})), self.held(frozenset({part}))

    def before(self, fold: int) -> int:
        """Return the fold before, round the circle: a row's nested prediction knows neither its own fold nor that one."""
        folds = self.folds
        return folds[folds.index(fold) - 1]

    def take(self, rows: Ints) -> Folds:
        """Return the folds of some rows."""
        return replace(self, part=self.part[rows], near=self.near[rows])


def assign_folds(
    kind: str,
    *,
    area: NDArray[Any],
    xy: Floats | None,
    targets: Floats | None,
    n_folds: int,
    seed: int,
    block_m: float,
) -> Ints:
    """Assign tiles to folds that hold about as many tiles each, with about the same means of the targets.

    Parameters
    ----------
    kind : `random` (each tile by itself), `area` (whole areas), `block` (all areas whose centroid lies in one square).
    area : (n_tiles,), label of each tile's area.
    xy : (n_tiles, 2), easting and northing [m]; needed by `block` alone.
    targets : (n_tiles, n_targets), NaN where missing, or None to balance counts alone.
    block_m : side of the blocks [m].

    Returns
    -------
    (n_tiles,), fold of each tile, 0 … n_folds − 1.

    Raises
    ------
    ValueError : fewer tiles, areas or blocks than folds; no coordinates for `block`; an unknown kind.

    References
    ----------
    Roberts et al. 2017, Ecography 40:913, doi:10.1111/ecog.02881.
    """
    group = unit_numbers(kind, area, xy, block_m)
    n_groups = int(group.max()) + 1
    if n_groups < n_folds:
        noun = {"random": "tiles", "area": "areas", "block": f"blocks of {block_m:g} m"}[kind]
        raise ValueError(
            f"split {kind!r}: expected at least {n_folds} {noun} for {n_folds} folds, got {n_groups}. "
            "Lower folds in [models], or give more tiles."
        )
    loads = np.ones((n_groups, 1)) if kind == "random" else weigh_groups(group, targets)
    return balance_groups(loads, n_folds, seed)[group]


def unit_numbers(kind: str, area: NDArray[Any], xy: Floats | None, block_m: float) -> Ints:
    """Number of the tile, area or block that moves between folds as one, for each tile: 0 … n_units − 1."""
    if kind == "random":
        return np.arange(len(area))
    numbers = np.unique(area, return_inverse=True)[1]
    if kind == "area":
        return numbers
    if kind != "block":
        raise ValueError(f"split {kind!r}: expected random, area or block")
    return block_numbers(numbers, xy, block_m)


def block_numbers(area: Ints, xy: Floats | None, block_m: float) -> Ints:
    """Number of the square block in which the centroid of each tile's area lies: (n_tiles,), 0 … n_blocks − 1.

    Raises
    ------
    ValueError : no coordinates.
    """
    if xy is None:
        raise ValueError(
            "split 'block' needs coordinates, and the settings name none: set x and y (or grid) in [tiles], "
            "or remove 'block' from splits in [models]"
        )
    sizes = np.bincount(area)
    centroids = np.column_stack([np.bincount(area, weights=xy[:, i]) / sizes for i in (0, 1)])
    block = np.unique(np.floor(centroids / block_m), axis=0, return_inverse=True)[1]
    return block.ravel()[area]


def build_folds(
    kind: str, fold: Ints, *, area: NDArray[Any], xy: Floats | None, block_m: float, buffer_m: float
) -> Folds:
    """Return the folds with their parts and buffers, from the fold of each tile.

    Parameters
    ----------
    fold : (n_tiles,), −1 for a tile that nobody uses. area, xy, block_m : as `assign_folds`.
    buffer_m : tiles whose centre lies within this distance [m] of a tile of a held-out part are left out of its
        training; used by `block` alone.

    Raises
    ------
    ValueError : a buffer without coordinates, or so wide that nothing is left to train on.
    """
    per_fold = 2 if fold.max() == 1 else 1
    part = fold * per_fold
    if per_fold == 2:
        group = unit_numbers(kind, area, xy, block_m)
        part = np.where(fold < 0, -1, part + _halves(group, fold)[group])
    near = np.zeros((len(fold), 0), dtype=np.bool_)
    if kind == "block" and buffer_m > 0:
        near = _near(part, xy, buffer_m, per_fold * int(fold.max() + 1))
    folds = Folds(kind=kind, part=part, near=near, per_fold=per_fold)
    for f in folds.folds:
        if not len(folds.training(folds.parts_of(f))):
            raise ValueError(
                f"split {kind!r}: no tile is left to train on for fold {f}: all others lie within {buffer_m:g} m of "
                "it. Lower buffer_m or raise block_m in [models]."
            )
    return folds


def _halves(group: Ints, fold: Ints) -> Ints:
    """Cut each of two folds into halves of whole groups: (n_groups,) 0 or 1."""
    sizes = np.bincount(group)
    half = np.zeros(int(group.max()) + 1, dtype=np.int64)
    for f in (0, 1):
        groups = np.unique(group[fold == f])
        if len(groups) > 1:
            half[groups] = balance_groups(sizes[groups, None].astype(float), 2, 0)
    return half


def _near(part: Ints, xy: Floats | None, buffer_m: float, n_parts: int) -> NDArray[np.bool_]:
    if xy is None:
        raise ValueError(
            "buffer_m needs coordinates, and the settings name none: set x and y (or grid) in [tiles]"
        )
    from scipy.spatial import cKDTree  # a run with nothing to do should not load it

    near = np.zeros((len(part), n_parts), dtype=np.bool_)
    for p in np.unique(part[part >= 0]):
        others = part != p
        distance, _ = cKDTree(xy[~others]).query(
            xy[others], distance_upper_bound=buffer_m * (1 + 1e-9)
        )
        near[others, p] = np.isfinite(distance)
    return near
