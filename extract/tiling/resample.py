"""Resample cells of a raster to the pixels of a tile that may begin inside a cell."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.sparse import csr_matrix

from extract.config.arrays import Array, Float32s

MARGIN = 1  # cells that an enlarged tile needs around it


def resample(
    planes: Float32s, *, first: tuple[float, float], cells: float, pixels: int
) -> Float32s:
    """Resample a square of cells to square pixels: their area mean, or bilinear when enlarging.

    Parameters
    ----------
    planes : (n_channels, rows, columns), NaN in all channels where there is no data.
    first : row and column where the square begins [cells]; `MARGIN` cells around it lie inside.
    cells, pixels : side of the square, and of the result.

    Returns
    -------
    (n_channels, pixels, pixels) float32. Cells without data weigh nothing; NaN where they are the
    greater part of a pixel.
    """
    step = cells / pixels
    row, column = first
    _, n_rows, n_columns = planes.shape
    down = _weigh_cells(n_rows, round(row, 6), step, pixels)
    across = _weigh_cells(n_columns, round(column, 6), step, pixels)
    lost = np.isnan(planes[0])
    if not lost.any():
        return _apply(down, planes, across)
    known = np.nan_to_num(planes)
    totals = _apply(down, known, across)
    weight = _apply(down, ~lost[None], across)
    mean = totals / weight.clip(1e-6)
    mean[:, weight[0] < 0.5] = np.nan
    return mean


def _apply(down: csr_matrix, planes: Array, across: csr_matrix) -> Float32s:
    resampled = []
    for plane in planes:
        columns = down @ plane
        rows = across @ columns.T
        resampled.append(rows.T)
    return np.stack(resampled)


@lru_cache(maxsize=64)
def _weigh_cells(
    n_cells: int,
    first: float,
    step: float,
    pixels: int,
) -> csr_matrix:
    """Return the weights of cells in pixels of `step` cells: (pixels, n_cells), rows sum to 1."""
    cells = np.arange(n_cells)
    steps = np.arange(pixels + 1)
    edges = first + step * steps[:, None]
    begin = edges[:-1]
    end = edges[1:]
    if step >= 1:
        upper = np.minimum(cells + 1, end)
        lower = np.maximum(cells, begin)
        weights = (upper - lower) / step
    else:
        centres = (begin + end) / 2
        distance = np.abs(cells + 0.5 - centres)
        weights = 1 - distance
    weights[weights < 1e-6] = 0.0
    return csr_matrix(weights, dtype=np.float32)
