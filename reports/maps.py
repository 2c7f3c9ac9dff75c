"""Maps of truth, prediction and what is left over, in squares, as small pictures; and whether what is left over clusters."""

from __future__ import annotations

import io
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.spatial import cKDTree

from reports.collect import Collected

MAX_SQUARES = 320  # across the longer side
MIN_PIXELS = 300  # of the longer side; few squares are drawn larger
N_NEIGHBOURS, N_PERMUTATIONS = 8, 999
# Ends and stops of viridis (Smith and van der Walt 2015), and of a blue–white–orange scale from Okabe and Ito's colours.
VIRIDIS = ((68, 1, 84), (72, 40, 120), (62, 74, 137), (49, 104, 142), (38, 130, 142), (31, 158, 137), (53, 183, 121),
           (109, 205, 89), (180, 222, 44), (253, 231, 37))
DIVERGING = ((0, 90, 150), (110, 170, 215), (235, 235, 235), (235, 150, 90), (190, 70, 0))


class Maps(NamedTuple):
    """Three maps of one target as PNG, and their scales.

    Attributes
    ----------
    truth, prediction : on one scale, from `low` to `high` (2nd and 98th percentile of the truth).
    residual : prediction less truth, from −`spread` to `spread`.
    side_m : side of a square [m]. moran, p : Moran's I of the residuals over places, and its permutation p-value.
    values : one row a square: x, y (its lower left corner [m]), truth, prediction, residual (means of what lies in it).
    """

    truth: bytes
    prediction: bytes
    residual: bytes
    low: float
    high: float
    spread: float
    side_m: float
    moran: float
    p: float
    values: NDArray[np.float64]


def build_maps(collected: Collected, target: str) -> Maps | None:
    """Draw the maps of one target's best model; None without places or predictions."""
    rows = collected.tile_predictions[collected.tile_predictions["target"] == target]
    tiles = collected.tiles
    if tiles is None or tiles.xy is None or len(rows) < 3:
        return None
    position = {str(i): n for n, i in enumerate(tiles.id.tolist())}
    index = rows["unit"].map(position).to_numpy(np.float64)
    known = np.isfinite(index)
    xy = tiles.xy[index[known].astype(int)]
    pair = rows[["truth", "prediction"]].to_numpy(np.float64)[known]
    return _draw_maps(xy, np.column_stack([pair, pair[:, 1] - pair[:, 0]]), tiles.area.to_numpy()[index[known].astype(int)])


def _draw_maps(xy: NDArray[np.float64], values: NDArray[np.float64], area: NDArray[Any]) -> Maps | None:
    if len(xy) < 3 or not (np.ptp(xy, axis=0) > 0).any():
        return None
    side = measure_side(xy)
    column, row = np.floor((xy - xy.min(axis=0)) / side + 0.5).astype(int).T
    shape = (int(row.max()) + 1, int(column.max()) + 1)
    flat = row * shape[1] + column
    n = np.bincount(flat, minlength=shape[0] * shape[1])
    with np.errstate(invalid="ignore"):
        means = [(np.bincount(flat, weights=v, minlength=len(n)) / n).reshape(shape)[::-1] for v in values.T]
    low, high = (float(v) for v in np.quantile(values[:, 0], (0.02, 0.98)))
    spread = float(np.quantile(np.abs(values[:, 2]), 0.98)) or 1.0
    scales = ((low, high, VIRIDIS), (low, high, VIRIDIS), (-spread, spread, DIVERGING))
    pictures = [draw_squares(m, *scale) for m, scale in zip(means, scales, strict=True)]
    index, p = moran_of_areas(xy, values[:, 2], area)
    return Maps(truth=pictures[0], prediction=pictures[1], residual=pictures[2], low=low, high=high, spread=spread, side_m=side,
                moran=index, p=p, values=_list_squares(xy, side, means))


def _list_squares(xy: NDArray[np.float64], side: float, means: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    row, column = np.nonzero(np.isfinite(means[0][::-1]))
    corner = np.column_stack([column, row]) * side + xy.min(axis=0) - side / 2
    return np.column_stack([corner, *(m[::-1][row, column] for m in means)])


def measure_side(xy: NDArray[np.float64]) -> float:
    """Give the side of the squares [m]: the usual distance to the next tile, or more where the map were too large."""
    distinct = np.unique(xy, axis=0)
    nearest = cKDTree(distinct).query(distinct, k=2)[0][:, 1]
    return float(max(np.median(nearest), np.ptp(xy, axis=0).max() / MAX_SQUARES))


def draw_squares(values: NDArray[np.float64], low: float, high: float, stops: tuple[tuple[int, int, int], ...]) -> bytes:
    """Draw (rows, columns) values as a PNG; NaN is transparent, what is beyond the ends has their colour."""
    share = np.clip((np.nan_to_num(values) - low) / ((high - low) or 1.0), 0, 1)
    level = np.rint(1 + share * 63).astype(np.uint8)
    level[~np.isfinite(values)] = 0
    repeat = max(1, -(-MIN_PIXELS // max(values.shape)))
    picture = Image.fromarray(np.kron(level, np.ones((repeat, repeat), np.uint8)))
    at = np.linspace(0, len(stops) - 1, 64)
    colours = np.column_stack([np.interp(at, np.arange(len(stops)), [s[c] for s in stops]) for c in range(3)])
    picture = picture.convert("P")
    picture.putpalette(np.concatenate([[0, 0, 0], np.rint(colours).astype(np.uint8).ravel()]).astype(np.uint8).tobytes())
    out = io.BytesIO()
    picture.save(out, format="PNG", transparency=0, optimize=True)
    return out.getvalue()


def moran_of_areas(xy: NDArray[np.float64], residual: NDArray[np.float64], area: NDArray[Any]) -> tuple[float, float]:
    """Give Moran's I of the areas' mean residuals and its p-value; NaN for fewer than 10 areas."""
    _, number = np.unique(area.astype(str), return_inverse=True)
    n = np.bincount(number)
    mean = np.bincount(number, weights=residual) / n
    centre = np.column_stack([np.bincount(number, weights=c) / n for c in xy.T])
    return moran(centre, mean)


def moran(xy: NDArray[np.float64], values: NDArray[np.float64]) -> tuple[float, float]:
    """Give Moran's I over the 8 nearest neighbours (row-standardised) and a one-sided permutation p-value.

    Parameters
    ----------
    xy : (n, 2) [m]. values : (n,), finite.

    Returns
    -------
    I (about −1/(n − 1) where values lie anywhere, towards 1 where neighbours are alike) and p; NaN for n < 10 or one value.

    References
    ----------
    Moran 1950, Biometrika 37:17, doi:10.2307/2332142; Anselin 1995, Geographical Analysis 27:93 (permutation).
    """
    z = values - values.mean()
    if len(z) < 10 or not z.std() > 1e-12 * max(1.0, float(np.abs(values).max())):
        return float("nan"), float("nan")
    near = cKDTree(xy).query(xy, k=min(N_NEIGHBOURS, len(z) - 1) + 1)[1][:, 1:]
    rng = np.random.default_rng(0)

    def statistic(v: NDArray[np.float64]) -> float:
        return float(v @ v[near].mean(axis=1) / (v @ v))

    observed = statistic(z)
    drawn = np.array([statistic(rng.permutation(z)) for _ in range(N_PERMUTATIONS)])
    return observed, float((1 + (drawn >= observed).sum()) / (1 + N_PERMUTATIONS))
