"""From cells to pixels: area mean when shrinking, bilinear when enlarging; the tile may begin inside a cell."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

Floats = NDArray[np.float32]
MARGIN = 1  # cells that an enlarged tile needs around it


def resample(planes: Floats, *, first: tuple[float, float], cells: float, pixels: int) -> Floats:
    """Resample a square of cells to square pixels, without a seam to the square beside it.

    Parameters
    ----------
    planes : (n_channels, rows, columns), NaN in all channels where there is no data; such cells weigh nothing.
    first : where the square begins, in cells from the top and from the left; it and `MARGIN` cells around lie inside.
    cells, pixels : side of the square, and of the result.

    Returns
    -------
    (n_channels, pixels, pixels) float32, NaN where cells without data are the greater part.
    """
    down, across = (
        _weights(planes.shape[1 + i], round(first[i], 6), cells / pixels, pixels) for i in (0, 1)
    )
    lost = np.isnan(planes[0])
    if not lost.any():
        return np.stack([_apply(down, plane, across) for plane in planes])
    weight = _apply(down, (~lost).astype(np.float32), across)
    summed = np.stack(
        [_apply(down, np.where(lost, np.float32(0), plane), across) for plane in planes]
    )
    return np.where(weight < 0.5, np.float32(np.nan), summed / np.maximum(weight, np.float32(1e-6)))


def _apply(down: Any, plane: Floats, across: Any) -> Floats:
    result: Floats = (across @ (down @ plane).T).T
    return result


@lru_cache(maxsize=64)
def _weights(n_cells: int, first: float, step: float, pixels: int) -> Any:
    """Weights of cells in pixels, (pixels, n_cells) sparse; pixel k covers the cells first + k·step … first + (k + 1)·step."""
    edges = first + step * np.arange(pixels + 1)
    if step >= 1:
        starts = np.floor(edges[:-1] + 1e-9).astype(np.int64)
        columns = starts[:, None] + np.arange(int(np.ceil(step)) + 1)
        upper = np.minimum(columns + 1, edges[1:, None])
        lower = np.maximum(columns, edges[:-1, None])
        weights = np.clip(upper - lower, 0.0, None) / step
    else:
        centres = (edges[:-1] + edges[1:]) / 2 - 0.5
        starts = np.floor(centres).astype(np.int64)
        columns = starts[:, None] + np.arange(2)
        weights = np.column_stack([1 - (centres - starts), centres - starts])
    weights[weights < 1e-6] = 0.0
    rows = np.repeat(np.arange(pixels), columns.shape[1])
    used = weights.ravel() > 0
    return csr_matrix(
        (weights.ravel()[used].astype(np.float32), (rows[used], columns.ravel()[used])),
        (pixels, n_cells),
    )
