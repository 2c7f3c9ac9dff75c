"""Split tiles into folds: random tiles, whole areas, or whole blocks of areas."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from extract.config.arrays import Array, Bools, Floats, Ints
from models.data.fold_balance import balance_groups, weigh_groups

_SIDES_M = (5000, 2000, 1000, 500, 200, 100, 50)  # of blocks that are offered [m]

Held = frozenset[int]  # parts that a model must not see


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldOptions:
    """How folds are made.

    Attributes
    ----------
    splits : kinds of split: `random`, `area`, `block`.
    n_folds, seed : of every split.
    block_m : side of the blocks [m].
    buffer_m : distance to a held-out block within which no tile is trained on [m].
    """

    splits: tuple[str, ...]
    n_folds: int
    seed: int
    block_m: float
    buffer_m: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Folds:
    """Which rows are trained on and which are predicted, on one kind of split.

    The inner folds of a fold, on which every choice is made, are the other folds: they are of the
    same kind, and what is fitted without folds {f, g} serves f as the outer and g as the inner
    fold and the other way round. With two folds each is cut into two parts, the inner folds.

    Attributes
    ----------
    kind : `random`, `area` or `block`.
    part : (n,), the smallest piece that a row moves with, −1 for a row that is not used; a fold is
        `per_fold` parts.
    near : (n, n_parts), rows of other parts within the buffer of a part; (n, 0) without a buffer.
    """

    kind: str
    part: Ints
    near: Bools
    per_fold: int = 1

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.part)

    @property
    def fold(self) -> Ints:
        """Fold of each row: (n,), −1 for a row that is not used."""
        return self.part // self.per_fold

    @property
    def folds(self) -> list[int]:
        """Folds that have rows."""
        used = self.fold[self.part >= 0]
        return np.unique(used).tolist()

    @property
    def parts(self) -> list[int]:
        """Parts that have rows."""
        used = self.part[self.part >= 0]
        return np.unique(used).tolist()

    def parts_of(self, *folds: int) -> Held:
        """Return the parts of some folds."""
        parts: set[int] = set()
        for fold in folds:
            first = fold * self.per_fold
            parts.update(range(first, first + self.per_fold))
        return frozenset(parts)

    def held(self, held: Held) -> Ints:
        """Return the rows of the held-out parts."""
        is_held = np.isin(self.part, list(held))
        return np.flatnonzero(is_held)

    def training(self, held: Held) -> Ints:
        """Return the rows in no held-out part and not within the buffer of one."""
        is_out = np.isin(self.part, [-1, *held])
        if self.near.shape[1]:
            near = self.near[:, list(held)]
            is_out |= near.any(axis=1)
        return np.flatnonzero(~is_out)

    def asked(self, part: int, outer: Held) -> Ints:
        """Return the rows of a part, for a choice: those outside the outer parts' buffers."""
        rows = self.held(frozenset({part}))
        if not self.near.shape[1]:
            return rows
        near = self.near[rows][:, sorted(outer)]
        return rows[~near.any(axis=1)]

    def inner(self, fold: int) -> list[tuple[int, Held]]:
        """Return (inner part, parts to hold out) of an outer fold's inner folds.

        Empty where there are not two.
        """
        outer = self.parts_of(fold)
        inside = [p for p in self.parts if p not in outer]
        if len(inside) < 2:
            return []
        return [(p, outer | {p}) for p in inside]

    def splits(self) -> Iterator[tuple[Ints, Ints]]:
        """Yield (training rows, held-out rows) of every part; nothing where there are not two."""
        parts = self.parts
        if len(parts) < 2:
            return
        for part in parts:
            held = frozenset({part})
            yield self.training(held), self.held(held)

    def before(self, fold: int) -> int:
        """Return the fold before, of the first the last.

        A row's nested prediction comes from a model without its own fold and without that one.
        """
        folds = self.folds
        return folds[folds.index(fold) - 1]

    def take(self, rows: Ints) -> Folds:
        """Return the folds of some rows."""
        return replace(self, part=self.part[rows], near=self.near[rows])


def assign_folds(
    kind: str,
    *,
    area: Array,
    xy: Floats | None,
    targets: Floats | None,
    n_folds: int,
    seed: int,
    block_m: float,
) -> Ints:
    """Assign tiles to folds of about as many tiles, with about the same means of the targets.

    Parameters
    ----------
    kind : `random` (each tile by itself), `area` (whole areas), `block` (all areas whose centroid
        lies in one square).
    area : (n_tiles,), label of each tile's area.
    xy : (n_tiles, 2), easting and northing [m]; needed by `block` alone.
    targets : (n_tiles, n_targets), NaN where missing, or None to balance counts alone.
    block_m : side of the blocks [m].

    Returns
    -------
    (n_tiles,), fold of each tile, 0 … n_folds − 1.

    Raises
    ------
    ValueError : fewer tiles, areas or blocks than folds; no coordinates for `block`; an unknown
        kind.

    References
    ----------
    Roberts et al. 2017, Ecography 40:913, doi:10.1111/ecog.02881.
    """
    group = unit_numbers(kind, area, xy, block_m)
    n_groups = int(group.max()) + 1
    if n_groups < n_folds:
        noun = {"random": "tiles", "area": "areas", "block": f"blocks of {block_m:g} m"}[kind]
        raise ValueError(
            f"split {kind!r}: expected at least {n_folds} {noun} for {n_folds} folds, got "
            f"{n_groups}. {_advise(kind, area, xy, block_m, n_folds)}"
        )
    loads = np.ones((n_groups, 1)) if kind == "random" else weigh_groups(group, targets)
    return balance_groups(loads, n_folds, seed)[group]


def unit_numbers(kind: str, area: Array, xy: Floats | None, block_m: float) -> Ints:
    """Return for each tile the index of the tile, area or block that stays in one fold.

    Returns
    -------
    (n_tiles,), 0 … n_units − 1.

    Raises
    ------
    ValueError : as `assign_folds`.
    """
    if kind == "random":
        return np.arange(len(area))
    numbers = np.unique(area, return_inverse=True)[1]
    if kind == "area":
        return numbers
    if kind != "block":
        raise ValueError(f"split {kind!r}: expected random, area or block")
    return block_numbers(numbers, xy, block_m)


def block_numbers(area: Ints, xy: Floats | None, block_m: float) -> Ints:
    """Return the index of the square block with the centroid of each tile's area.

    Returns
    -------
    (n_tiles,), 0 … n_blocks − 1.

    Raises
    ------
    ValueError : no coordinates.
    """
    if xy is None:
        raise ValueError(
            "split 'block' needs coordinates, and the settings name none: set x and y (or grid) "
            "in [tiles], or remove 'block' from splits in [models]"
        )
    places = pd.DataFrame(xy)
    centroids = places.groupby(area).mean().to_numpy()
    squares = np.floor(centroids / block_m)
    _, block = np.unique(squares, axis=0, return_inverse=True)
    return block[area]


def _advise(kind: str, area: Array, xy: Floats | None, block_m: float, n_folds: int) -> str:
    """Return what gives enough units for the folds."""
    smaller = [side for side in _SIDES_M if side < block_m]
    for side in smaller if kind == "block" else ():
        if unit_numbers(kind, area, xy, side).max() + 1 >= n_folds:
            return f"Set block_m = {side} in [models]."
    return "Lower folds in [models], or give more tiles."


def build_folds(
    kind: str, fold: Ints, *, area: Array, xy: Floats | None, block_m: float, buffer_m: float
) -> Folds:
    """Build folds with their parts and buffers from the fold of each tile.

    Parameters
    ----------
    fold : (n_tiles,), −1 for a tile that is not used.
    area, xy, block_m : as `assign_folds`.
    buffer_m : tiles whose centre lies within this distance [m] of a tile of a held-out part are
        left out of its training; used by `block` alone.

    Raises
    ------
    ValueError : a buffer without coordinates, or so wide that nothing is left to train on.
    """
    n_folds = fold.max() + 1
    per_fold = 1
    part = fold
    if n_folds == 2:
        per_fold = 2
        group = unit_numbers(kind, area, xy, block_m)
        half = _halve_folds(group, fold)
        part = np.where(fold < 0, -1, 2 * fold + half[group])
    near = np.zeros((len(fold), 0), dtype=np.bool_)
    if kind == "block" and buffer_m > 0:
        n_parts = per_fold * n_folds
        near = _find_near(part, xy, buffer_m, n_parts)
    folds = Folds(kind=kind, part=part, near=near, per_fold=per_fold)
    for f in folds.folds:
        training = folds.training(folds.parts_of(f))
        if not len(training):
            raise ValueError(
                f"split {kind!r}: no tile is left to train on for fold {f}: all others lie within "
                f"{buffer_m:g} m of it. Lower buffer_m or raise block_m in [models]."
            )
    return folds


def _halve_folds(group: Ints, fold: Ints) -> Ints:
    """Cut each of two folds into halves of whole groups: (n_groups,), 0 or 1."""
    sizes = np.bincount(group).astype(np.float64)
    half = np.zeros(len(sizes), dtype=np.int64)
    for f in (0, 1):
        groups = np.unique(group[fold == f])
        loads = sizes[groups, None]
        if len(groups) > 1:
            half[groups] = balance_groups(loads, 2, 0)
    return half


def _find_near(part: Ints, xy: Floats | None, buffer_m: float, n_parts: int) -> Bools:
    """Return which tiles of other parts lie within the buffer of each part."""
    if xy is None:
        raise ValueError(
            "buffer_m needs coordinates, and the settings name none: set x and y (or grid) in "
            "[tiles]"
        )
    from scipy.spatial import cKDTree  # slow to load, and seldom needed

    near = np.zeros((len(part), n_parts), dtype=np.bool_)
    limit = buffer_m * (1 + 1e-9)
    used = part[part >= 0]
    for p in np.unique(used):
        others = part != p
        tree = cKDTree(xy[~others])
        distance, _ = tree.query(xy[others], distance_upper_bound=limit)
        near[others, p] = np.isfinite(distance)
    return near
