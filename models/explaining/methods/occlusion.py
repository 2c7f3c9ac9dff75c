"""Occlusion: how far a prediction falls when a part of the map looks like the mean tile's."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product

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
    n_tiles, height, width, _ = maps.shape
    windows = list_windows(height, width)
    n_windows = np.zeros((height, width))
    for window in windows:
        n_windows[window] += 1
    substitute = np.broadcast_to(reference, maps.shape[1:])
    map_bytes = maps[0].nbytes
    step = max(1, _BYTES // map_bytes)
    heat = np.zeros((n_tiles, height, width))
    for i, whole in enumerate(maps):
        raised = heat[i]
        pooled = pool_maps(whole[None], pooling)
        (prediction,) = predict(i, pooled)
        for start in range(0, len(windows), step):
            some = windows[start : start + step]
            occluded = _occlude_each(whole, some, substitute)
            pooled = pool_maps(occluded, pooling)
            without = predict(i, pooled)
            fall = prediction - without
            for window, value in zip(some, fall, strict=True):
                raised[window] += value
    return heat / n_windows


def _occlude_each(whole: Float32s, windows: list[Window], substitute: Float32s) -> Float32s:
    """Return a map, (height, width, channels), with each window of it occluded in turn."""
    occluded = np.repeat(whole[None], len(windows), axis=0)
    for one, window in zip(occluded, windows, strict=True):
        one[window] = substitute[window]
    return occluded


def list_windows(height: int, width: int) -> list[Window]:
    """Return the parts of a map that are occluded, row by row; together they cover it."""
    rows = _cover(height)
    columns = _cover(width)
    return list(product(rows, columns))


def _cover(length: int) -> list[slice]:
    if length <= MAX_WINDOWS:
        return [slice(i, i + 1) for i in range(length)]
    n_halves = MAX_WINDOWS + 1
    half = math.ceil(length / n_halves)
    side = 2 * half
    starts = np.arange(0, length, half)
    starts = np.minimum(starts, length - side)
    distinct = np.unique(starts)
    return [slice(start, start + side) for start in distinct.tolist()]
