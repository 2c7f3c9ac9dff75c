"""Occlusion: how far a prediction falls when a part of the map looks like the mean tile's."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from extract.config.arrays import Float32s, Floats
from extract.config.cuts import Pooling
from models.explaining.tile_maps import Maps, pool_maps

MAX_WINDOWS = 14  # along a side: 196 predictions a tile
_BYTES = 128 << 20  # of occluded maps at once

Window = tuple[slice, slice]
# (number of the tile, pooled maps (m, n_features)) → predictions (m,)
Predict = Callable[[int, Float32s], Floats]


def occlude(predict: Predict, maps: Maps, reference: Float32s, pooling: Pooling) -> Floats:
    """Return the prediction less that with each part occluded: > 0 where the part raises it.

    Zeiler and Fergus 2014 (arXiv:1311.2901), on the map instead of the picture, so that the
    network runs once. Windows are single places of maps up to 14 × 14, and squares on larger ones,
    half a square apart; a place has the mean of the windows over it.

    Parameters
    ----------
    maps : (n, height, width, channels).
    reference : (height, width, channels) or (channels,), what an occluded place looks like.

    Returns
    -------
    (n, height, width) [unit of the target].
    """
    heat = np.zeros(maps.shape[:3])
    n_windows = np.zeros(maps.shape[1:3])
    windows = list_windows(*maps.shape[1:3])
    substitute = np.broadcast_to(reference, maps.shape[1:])
    step = max(1, _BYTES // maps[0].nbytes)
    for i, whole in enumerate(maps):
        (prediction,) = predict(i, pool_maps(whole[None], pooling))
        for start in range(0, len(windows), step):
            some = windows[start : start + step]
            occluded = np.repeat(whole[None], len(some), axis=0)
            for one, window in zip(occluded, some, strict=True):
                one[window] = substitute[window]
            without = predict(i, pool_maps(occluded, pooling))
            for window, value in zip(some, without, strict=True):
                heat[i][window] += prediction - value
    for window in windows:
        n_windows[window] += 1
    return heat / n_windows


def list_windows(height: int, width: int) -> list[Window]:
    """Return the parts of a map that are occluded, row by row; together they cover it."""
    columns = _cover(width)
    return [(row, column) for row in _cover(height) for column in columns]


def _cover(length: int) -> list[slice]:
    if length <= MAX_WINDOWS:
        return [slice(i, i + 1) for i in range(length)]
    half = -(-length // (MAX_WINDOWS + 1))
    starts = np.minimum(np.arange(0, length, half), length - 2 * half)
    return [slice(start, start + 2 * half) for start in np.unique(starts).tolist()]
