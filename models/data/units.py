"""Units of a split: what is held out together, a tile, an area, a block or a group of areas."""

from __future__ import annotations

import numpy as np
import pandas as pd

from extract.config.arrays import Array, Floats, Ints


def number_units(
    kind: str,
    area: Array,
    *,
    xy: Floats | None = None,
    block_m: float = 0.0,
    group: Array | None = None,
) -> Ints:
    """Return for each tile the number of the unit that stays in one fold.

    Parameters
    ----------
    kind : `random` (each tile is a unit), `area` and `knndm` (each area), `block` (all areas whose
        centroid lies in one square), `group` (all areas of one value).
    area : (n_tiles,), label of each tile's area.
    xy : (n_tiles, 2), easting and northing [m]; needed by `block` alone.
    block_m : side of the blocks [m].
    group : (n_tiles,), value of each tile's group; needed by `group` alone.

    Returns
    -------
    (n_tiles,), 0 … n_units − 1.

    Raises
    ------
    ValueError : no coordinates, no groups, an area in two groups, or an unknown kind.
    """
    if kind == "random":
        return np.arange(len(area))
    if kind in ("area", "knndm"):
        return _number_values(area)
    if kind == "block":
        return number_blocks(_number_values(area), xy, block_m)
    if kind == "group":
        return _number_groups(area, group)
    raise ValueError(f"split {kind!r}: expected random, area, knndm, block or group")


def _number_values(values: Array) -> Ints:
    return np.unique(values, return_inverse=True)[1]


def number_blocks(area: Ints, xy: Floats | None, block_m: float) -> Ints:
    """Return the number of the square block with the centroid of each tile's area.

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


def _number_groups(area: Array, group: Array | None) -> Ints:
    """Return the number of each tile's group; an area in two groups would leak its label."""
    if group is None:
        raise ValueError(
            "split 'group' needs the column whose values are held out: set group in [models] to "
            "one of [tiles] groups"
        )
    values = pd.Series(group).astype(str)
    n_groups = values.groupby(area).nunique()
    torn = n_groups.index[n_groups > 1]
    if len(torn):
        found = sorted(set(values[np.asarray(area) == torn[0]]))
        raise ValueError(
            f"split 'group': {len(torn)} areas lie in more than one group, as {str(torn[0])!r} in "
            f"{found[0]!r} and {found[1]!r}, and would be on both sides. Give each area one value, "
            "or name another column."
        )
    return _number_values(values.to_numpy())
