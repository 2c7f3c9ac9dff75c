"""Occlusion: how far a prediction falls when a part of the map is made to look like the mean tile's."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from extract.config.cuts import Pooling
from models.data.arrays import Floats
from models.explaining.feature_maps import Maps, pool_maps

MAX_WINDOWS = 14  # along a side: 196 predictions a tile
_BYTES = 128 << 20  # of occluded maps at once

Predict = Callable[
    [int, NDArray[np.float32]], Floats
]  # (number of the tile, (m, n_features) pooled) → (m,) predictions


def occlude(
    predict: Predict, maps: Maps, reference: NDArray[np.float32], pooling: Pooling
) -> Floats:
    """Return the prediction less that with each part of the map occluded: above 0 where the part raises the prediction.

    Zeiler and Fergus 2014 (arXiv:1311.2901), on the map instead of the picture, so that the network runs once. Windows are
    single places of maps up to 14 × 14, and squares on larger ones, half a square apart; a place has the mean of the
    windows over it.

    Parameters
    ----------
    maps : (n, height, width, channels).
    reference : (height, width, channels) or (channels,), what an occluded place looks like.

    Returns
    -------
    (n, height, width) [unit of the target].
    """
    heat = np.zeros(maps.shape[:3])
    windows = list_windows(*maps.shape[1:3])
    look = np.broadcast_to(reference, maps.shape[1:])
    covered = np.zeros(maps.shape[1:3])
    for rows, columns in windows:
        covered[rows, columns] += 1
    for i, whole in enumerate(maps):
        (prediction,) = predict(i, pool_maps(whole[None], pooling))
        for part, without in _predict_windows(
            predict, i, whole, look, windows=windows, pooling=pooling
        ):
            heat[i][part] += prediction - without
    return heat / covered


def _predict_windows(
    predict: Predict,
    i: int,
    whole: NDArray[np.float32],
    look: NDArray[np.float32],
    *,
    windows: list[tuple[slice, slice]],
    pooling: Pooling,
) -> Iterator[tuple[tuple[slice, slice], float]]:
    step = max(1, _BYTES // whole.nbytes)
    for start in range(0, len(windows), step):
        parts = windows[start : start + step]
        occluded = np.repeat(whole[None], len(parts), axis=0)
        for one, part in zip(occluded, parts, strict=True):
            one[part] = look[part]
        yield from zip(parts, predict(i, pool_maps(occluded, pooling)).tolist(), strict=True)


def list_windows(height: int, width: int) -> list[tuple[slice, slice]]:
    """Return the parts of a map that are occluded, row by row; together they cover it."""
    rows = _cover(height)
    columns = _cover(width)
    return [(r, c) for r in rows for c in columns]


def _cover(length: int) -> list[slice]:
    if length <= MAX_WINDOWS:
        return [slice(i, i + 1) for i in range(length)]
    side = 2 * -(-length // (MAX_WINDOWS + 1))
    starts = np.unique(np.minimum(np.arange(0, length, side // 2), length - side))
    return [slice(int(s), int(s) + side) for s in starts]
