"""Folds: which tiles are held out together, and which are then trained on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from extract.config.arrays import Array, Bools, Floats, Ints
from models.data.fold_balance import balance_groups
from models.data.units import number_units

Held = frozenset[int]  # parts that a model must not see
Split = tuple[Ints, Ints]  # training rows, held-out rows


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldOptions:
    """How folds are made.

    Attributes
    ----------
    splits : kinds of split: `random`, `area`, `knndm`, `block`, `group`.
    n_folds, seed : of every split.
    block_m : side of the blocks [m].
    buffer_m : distance to a held-out block within which no tile is trained on [m].
    group : the column of [tiles] groups of which `group` holds out whole values.
    predict_at : settings of the place whose distances `knndm` matches.
    """

    splits: tuple[str, ...]
    n_folds: int
    seed: int
    block_m: float
    buffer_m: float
    group: str | None = None
    predict_at: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Folds:
    """Which rows are trained on and which are predicted, on one kind of split.

    The inner folds of a fold, on which every choice is made, are the other folds: they are of the
    same kind, and what is fitted without folds {f, g} serves f as the outer and g as the inner
    fold and the other way round. With two folds each is cut into two parts, the inner folds.

    Attributes
    ----------
    kind : `random`, `area`, `knndm`, `block` or `group`.
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

    def splits(self) -> Iterator[Split]:
        """Yield (training rows, held-out rows) of every part that leaves rows to train on.

        Nothing where there are not two parts.
        """
        parts = self.parts
        if len(parts) < 2:
            return
        for part in parts:
            held = frozenset({part})
            training = self.training(held)
            if len(training):
                yield training, self.held(held)

    def before(self, fold: int) -> int:
        """Return the fold before, of the first the last.

        A row's nested prediction comes from a model without its own fold and without that one.
        """
        folds = self.folds
        return folds[folds.index(fold) - 1]

    def take(self, rows: Ints) -> Folds:
        """Return the folds of some rows."""
        return replace(self, part=self.part[rows], near=self.near[rows])


def build_folds(
    kind: str,
    fold: Ints,
    *,
    area: Array,
    xy: Floats | None,
    block_m: float,
    buffer_m: float,
    group: Array | None = None,
) -> Folds:
    """Build folds with their parts and buffers from the fold of each tile.

    Parameters
    ----------
    fold : (n_tiles,), −1 for a tile that is not used.
    area, xy, block_m, group : as `assign_folds`.
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
        unit = number_units(kind, area, xy=xy, block_m=block_m, group=group)
        half = _halve_folds(unit, fold)
        halved = 2 * fold + half[unit]
        part = np.where(fold < 0, -1, halved)
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


def _halve_folds(unit: Ints, fold: Ints) -> Ints:
    """Cut each of two folds into halves of whole units: (n_units,), 0 or 1."""
    sizes = np.bincount(unit).astype(np.float64)
    half = np.zeros(len(sizes), dtype=np.int64)
    for f in (0, 1):
        is_in_fold = fold == f
        units = np.unique(unit[is_in_fold])
        loads = sizes[units, None]
        if len(units) > 1:
            half[units] = balance_groups(loads, 2, 0)
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
        is_other = part != p
        tree = cKDTree(xy[~is_other])
        distance, _ = tree.query(xy[is_other], distance_upper_bound=limit)
        near[is_other, p] = np.isfinite(distance)
    return near
