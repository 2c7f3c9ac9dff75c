"""Assign the tiles of a table to folds: random tiles, areas, blocks, groups, or by distance."""

from __future__ import annotations

import numpy as np

from extract.config.arrays import Array, Floats, Ints
from models.data.fold_balance import balance_groups, weigh_groups
from models.data.knndm import match_distances
from models.data.units import number_units

_SIDES_M = (5000, 2000, 1000, 500, 200, 100, 50)  # of blocks that are offered [m]
_NOUNS = {"random": "tiles", "area": "areas", "knndm": "areas", "group": "groups"}


def assign_folds(
    kind: str,
    *,
    area: Array,
    xy: Floats | None,
    targets: Floats | None,
    n_folds: int,
    seed: int,
    block_m: float,
    group: Array | None = None,
    prediction_xy: Floats | None = None,
) -> Ints:
    """Assign tiles to folds of about as many tiles, with about the same means of the targets.

    Parameters
    ----------
    kind : `random` (each tile by itself), `area` (whole areas), `block` (all areas whose centroid
        lies in one square), `group` (all areas of one value), `knndm` (areas, such that they lie as
        far from training as `prediction_xy`; its folds are not balanced in the targets).
    area : (n_tiles,), label of each tile's area.
    xy : (n_tiles, 2), easting and northing [m]; needed by `block` and `knndm` alone.
    targets : (n_tiles, n_targets), NaN where missing, or None to balance counts alone.
    block_m : side of the blocks [m].
    group : (n_tiles,), value of each tile's group; needed by `group` alone.
    prediction_xy : (n_places, 2), of the places to be predicted [m]; needed by `knndm` alone.

    Returns
    -------
    (n_tiles,), fold of each tile, 0 … n_folds − 1.

    Raises
    ------
    ValueError : fewer units than folds; no coordinates, groups or prediction places where they
        are needed; an unknown kind.

    References
    ----------
    Roberts et al. 2017, Ecography 40:913, doi:10.1111/ecog.02881.
    """
    unit = number_units(kind, area, xy=xy, block_m=block_m, group=group)
    n_units = int(unit.max()) + 1
    if n_units < n_folds:
        noun = _NOUNS.get(kind, f"blocks of {block_m:g} m")
        raise ValueError(
            f"split {kind!r}: expected at least {n_folds} {noun} for {n_folds} folds, got "
            f"{n_units}. {_advise(kind, area, xy, block_m, n_folds)}"
        )
    if kind == "knndm":
        if xy is None or prediction_xy is None:
            raise ValueError(
                "split 'knndm' needs the coordinates of the tiles and of the places to be "
                "predicted: set x and y (or grid) in [tiles], here and in the file that predict_at "
                "names"
            )
        return match_distances(unit, xy, prediction_xy, n_folds=n_folds, seed=seed)
    loads = np.ones((n_units, 1)) if kind == "random" else weigh_groups(unit, targets)
    return balance_groups(loads, n_folds, seed)[unit]


def _advise(kind: str, area: Array, xy: Floats | None, block_m: float, n_folds: int) -> str:
    """Return what gives enough units for the folds."""
    smaller = [side for side in _SIDES_M if side < block_m]
    for side in smaller if kind == "block" else ():
        n_blocks = number_units(kind, area, xy=xy, block_m=side).max() + 1
        if n_blocks >= n_folds:
            return f"Set block_m = {side} in [models]."
    return "Lower folds in [models], or give more tiles."
