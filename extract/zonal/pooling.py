"""Weighted statistics of the cells of a zone."""

from __future__ import annotations

import re

import numpy as np

from extract.config.arrays import Floats
from extract.errors import RasterError

DEFAULT = "mean,sd"
_NAMES = ("mean", "sd", "min", "max")
_PERCENTILE = re.compile(r"p(\d{1,2}|100)")


def parse_pools(text: str) -> tuple[str, ...]:
    """Return the names in `mean,sd,max,p10`.

    Raises
    ------
    RasterError : no name, one twice, or one that is no statistic.
    """
    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        if name not in _NAMES and not _PERCENTILE.fullmatch(name):
            known = ", ".join(_NAMES)
            raise RasterError(f"--pool {text}: {name!r} is none of {known}, p0 … p100.")
    if len(set(names)) < len(names):
        raise RasterError(f"--pool {text}: names a statistic twice.")
    return names


def pool_cells(cells: Floats, weight: Floats, pools: tuple[str, ...]) -> Floats:
    """Compute statistics of each band, over the cells that have a value.

    Parameters
    ----------
    cells : (n_bands, n_cells), NaN where there is no data.
    weight : (n_cells,), share of the zone that lies in each cell.
    pools : names of statistics.

    Returns
    -------
    (n_pools, n_bands), NaN where no cell has a value.
    """
    is_empty = np.isnan(cells)
    if cells.size and not is_empty.any():
        return np.stack([_pool(name, cells, weight) for name in pools])
    pooled = np.full((len(pools), len(cells)), np.nan)
    has_weight = weight > 0
    for band, values in enumerate(cells):
        is_in = ~is_empty[band] & has_weight
        if not is_in.any():
            continue
        mine = values[np.newaxis, is_in]
        for i, name in enumerate(pools):
            pooled[i, band] = _pool(name, mine, weight[is_in]).item()
    return pooled


def _pool(name: str, cells: Floats, weight: Floats) -> Floats:
    """Compute a statistic of bands that have all their cells: (n_bands,)."""
    pooled: Floats
    if name == "min":
        pooled = cells.min(axis=1)
    elif name == "max":
        pooled = cells.max(axis=1)
    elif name == "mean":
        pooled = _average(cells, weight)
    elif name == "sd":
        mean = _average(cells, weight)
        square = (cells - mean[:, np.newaxis]) ** 2
        pooled = np.sqrt(_average(square, weight))
    else:
        percent = float(name[1:])
        percentiles = [_find_percentile(band, weight, percent) for band in cells]
        pooled = np.array(percentiles)
    return pooled


def _average(cells: Floats, weight: Floats) -> Floats:
    mean: Floats = cells @ weight / weight.sum()
    return mean


def _find_percentile(values: Floats, weight: Floats, percent: float) -> float:
    """Interpolate between the sorted values, which stand where their weights put them.

    With equal weights they stand at even distances, as for `numpy.percentile`.
    """
    order = np.argsort(values, kind="stable")
    weight = weight[order]
    before = np.cumsum(weight) - weight
    rank = np.arange(len(values))
    place = rank * weight + (len(values) - 1) * before
    return float(np.interp(percent / 100 * place[-1], place, values[order]))
