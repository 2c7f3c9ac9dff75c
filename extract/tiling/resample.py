"""Resample cells of a raster to the pixels of a tile that may begin inside a cell."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from extract.config.arrays import Float32s

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
    down = _weigh_cells(planes.shape[1], round(first[0], 6), step, pixels)
    across = _weigh_cells(planes.shape[2], round(first[1], 6), step, pixels)
    lost = np.isnan(planes[0])
    if not lost.any():
        return _apply(down, planes, across)
    known = np.where(lost, np.float32(0), planes)
    weight = _apply(down, ~lost[None], across)
    mean = _apply(down, known, across) / np.maximum(weight, np.float32(1e-6))
    return np.where(weight < 0.5, np.float32(np.nan), mean)


def _apply(down: csr_matrix, planes: NDArray[np.generic], across: csr_matrix) -> Float32s:
    return np.stack([(across @ (down @ plane).T).T for plane in planes])


@lru_cache(maxsize=64)
def _weigh_cells(n_cells: int, first: float, step: float, pixels: int) -> csr_matrix:
    """Return the weights of cells in pixels of `step` cells: (pixels, n_cells), rows sum to 1."""
    cells = np.arange(n_cells)
    edges = first + step * np.arange(pixels + 1)[:, None]
    if step >= 1:
        upper = np.minimum(cells + 1, edges[1:])
        lower = np.maximum(cells, edges[:-1])
        weights = (upper - lower) / step
    else:
        centres = (edges[1:] + edges[:-1]) / 2
        weights = 1 - np.abs(cells + 0.5 - centres)
    weights[weights < 1e-6] = 0.0
    return csr_matrix(weights, dtype=np.float32)
