"""How sure a score is: areas, not tiles, are drawn again, for tiles of one area share a label."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.family import Floats

REPLICATES = 2000


def bootstrap_intervals(truth: Floats, predicted: Floats, area: NDArray[Any], *, seed: int = 0) -> dict[str, float]:
    """Give the 95 % percentile intervals of R² and RMSE over resampled areas.

    A replicate needs only sums over each area, so that all 2000 are one matrix product.

    Parameters
    ----------
    truth, predicted : (n,), finite. area : (n,), the unit that is drawn with replacement.

    Returns
    -------
    r2_low, r2_high, rmse_low, rmse_high; the R² bounds are NaN where the truth is constant.

    References
    ----------
    Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 13.
    """
    group = np.unique(area, return_inverse=True)[1]
    centred = truth - truth.mean()
    columns = (np.ones(len(truth)), centred, centred**2, (truth - predicted) ** 2)
    sums = np.column_stack([np.bincount(group, weights=column) for column in columns])
    n, total, squares, errors = (_draws(len(sums), seed) @ sums).T
    spread = squares - total**2 / n
    is_spread = spread > 1e-12 * max(float(squares.max()), np.finfo(float).tiny)
    r2 = 1 - errors[is_spread] / spread[is_spread] if np.ptp(truth) > 0 else np.empty(0)
    r2_low, r2_high = np.percentile(r2, [2.5, 97.5]) if len(r2) else (np.nan, np.nan)
    rmse_low, rmse_high = np.percentile(np.sqrt(errors / n), [2.5, 97.5])
    return {"r2_low": float(r2_low), "r2_high": float(r2_high), "rmse_low": float(rmse_low), "rmse_high": float(rmse_high)}


@lru_cache(maxsize=4)
def _draws(n_areas: int, seed: int) -> Floats:
    """How often each area is drawn: (REPLICATES, n_areas)."""
    drawn = np.random.default_rng(seed).multinomial(n_areas, np.full(n_areas, 1 / n_areas), size=REPLICATES)
    return drawn.astype(np.float64)
