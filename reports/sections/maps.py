"""Maps of truth, prediction and what is left over, in squares or areas, as small pictures; and whether the rest clusters."""

from __future__ import annotations

import io
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from scipy.spatial import cKDTree

from models.explaining.drawing import DIVERGING
from reports.data.boundaries import Boundaries
from reports.data.collect import Collected

NAMES = ("truth", "prediction", "residual")

MAX_SQUARES = 320  # across the longer side
MIN_PIXELS = 300  # of the longer side; few squares are drawn larger
N_NEIGHBOURS = 8
N_PERMUTATIONS = 999
# Stops of viridis (Smith and van der Walt 2015); what has two sides is drawn as heat maps are.
VIRIDIS = (
    (68, 1, 84),
    (72, 40, 120),
    (62, 74, 137),
    (49, 104, 142),
    (38, 130, 142),
    (31, 158, 137),
    (53, 183, 121),
    (109, 205, 89),
    (180, 222, 44),
    (253, 231, 37),
)
N_COLOURS = 64
LINE = (120, 120, 120)


class Maps(NamedTuple):
    """Three maps of one target as PNG, and their scales.

    Attributes
    ----------
    truth, prediction : on one scale, from `low` to `high` (2nd and 98th percentile of the truth).
    residual : prediction less truth, from −`spread` to `spread`.
    side_m : side of a square [m]; None where areas are drawn as polygons.
    moran, p : Moran's I of the areas' mean residuals, and its permutation p-value.
    table : one row a square (x, y of its lower left corner [m]) or area (its code, x, y of its centroid), with the means
        truth, prediction and residual.
    """

    truth: bytes
    prediction: bytes
    residual: bytes
    low: float
    high: float
    spread: float
    side_m: float | None
    moran: float
    p: float
    table: pd.DataFrame


class _Drawn(NamedTuple):
    """Pictures of numbers: truth, prediction and residual, (3, rows, columns); which pixels are lines; and their table."""

    pictures: NDArray[np.float64]
    is_line: NDArray[np.bool_] | None
    side_m: float | None
    table: pd.DataFrame


def build_maps(collected: Collected, target: str) -> Maps | None:
    """Draw the maps of one target's best model: areas where there are boundaries, else squares; None without either."""
    rows = collected.tile_predictions[collected.tile_predictions["target"] == target]
    tiles = collected.tiles
    boundaries = collected.boundaries
    if tiles is None or (tiles.xy is None and boundaries is None) or len(rows) < 3:
        return None
    index = pd.Index(tiles.id.astype(str)).get_indexer(pd.Index(rows["unit"]))
    pair = rows[["truth", "prediction"]].to_numpy(np.float64)[index >= 0]
    index = index[index >= 0]
    values = np.column_stack([pair, pair[:, 1] - pair[:, 0]])
    area = tiles.area.astype(str).to_numpy()[index]
    xy = None if tiles.xy is None else tiles.xy[index]
    drawn = (
        _draw_squares(xy, values) if boundaries is None else _draw_areas(boundaries, area, values)
    )
    if drawn is None:
        return None
    moran = (
        moran_of_areas(xy, values[:, 2], area) if xy is not None else moran_of_table(drawn.table)
    )
    return _scale(drawn, values, moran)


def _draw_squares(xy: NDArray[np.float64] | None, values: NDArray[np.float64]) -> _Drawn | None:
    if xy is None or len(xy) < 3 or not (np.ptp(xy, axis=0) > 0).any():
        return None
    side = measure_side(xy)
    column, row = np.floor((xy - xy.min(axis=0)) / side + 0.5).astype(int).T
    shape = (int(row.max()) + 1, int(column.max()) + 1)
    means = _means(row * shape[1] + column, values, shape[0] * shape[1]).reshape(3, *shape)
    at_row, at_column = np.nonzero(np.isfinite(means[0]))
    corner = np.column_stack([at_column, at_row]) * side + xy.min(axis=0) - side / 2
    table = pd.DataFrame(
        np.column_stack([corner, *means[:, at_row, at_column]]), columns=["x", "y", *NAMES]
    )
    return _Drawn(means[:, ::-1], None, side, table)


def _draw_areas(
    boundaries: Boundaries, area: NDArray[Any], values: NDArray[np.float64]
) -> _Drawn | None:
    number = pd.Index(boundaries.codes).get_indexer(pd.Index(area))
    known = number >= 0
    if not known.any():
        return None
    means = _means(number[known], values[known], len(boundaries.codes))
    table = pd.DataFrame(np.column_stack([boundaries.centre, means.T]), columns=["x", "y", *NAMES])
    table.insert(0, "area", boundaries.codes)
    padded = np.column_stack([np.full(3, np.nan), means])  # number 0 is outside
    return _Drawn(
        padded[:, boundaries.number], boundaries.is_line, None, table.dropna(subset=["truth"])
    )


def _means(number: NDArray[Any], values: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """Mean of each column over the rows of each number: (3, n), NaN where there is none."""
    count = np.bincount(number, minlength=n)
    with np.errstate(invalid="ignore"):
        return np.stack([np.bincount(number, weights=v, minlength=n) / count for v in values.T])


def _scale(drawn: _Drawn, values: NDArray[np.float64], moran: tuple[float, float]) -> Maps:
    low, high = (float(v) for v in np.quantile(values[:, 0], (0.02, 0.98)))
    spread = float(np.quantile(np.abs(values[:, 2]), 0.98)) or 1.0
    scales = ((low, high, VIRIDIS), (low, high, VIRIDIS), (-spread, spread, DIVERGING))
    pictures = [
        draw_picture(m, *scale, is_line=drawn.is_line)
        for m, scale in zip(drawn.pictures, scales, strict=True)
    ]
    return Maps(
        truth=pictures[0],
        prediction=pictures[1],
        residual=pictures[2],
        low=low,
        high=high,
        spread=spread,
        side_m=drawn.side_m,
        moran=moran[0],
        p=moran[1],
        table=drawn.table,
    )


def measure_side(xy: NDArray[np.float64]) -> float:
    """Return the side of the squares [m]: the usual distance to the next tile, or more where the map were too large."""
    distinct = np.unique(xy, axis=0)
    nearest = cKDTree(distinct).query(distinct, k=2)[0][:, 1]
    return float(max(np.median(nearest), np.ptp(xy, axis=0).max() / MAX_SQUARES))


def draw_picture(
    values: NDArray[np.float64],
    low: float,
    high: float,
    stops: tuple[tuple[int, int, int], ...],
    *,
    is_line: NDArray[np.bool_] | None = None,
) -> bytes:
    """Draw (rows, columns) values as a PNG; NaN is transparent, what is beyond the ends has their colour, lines are grey."""
    share = np.clip((np.nan_to_num(values) - low) / ((high - low) or 1.0), 0, 1)
    level = np.rint(1 + share * (N_COLOURS - 1)).astype(np.uint8)
    level[~np.isfinite(values)] = 0
    if is_line is not None:
        level[is_line & np.isfinite(values)] = N_COLOURS + 1
    repeat = max(1, -(-MIN_PIXELS // max(values.shape)))
    picture = Image.fromarray(np.kron(level, np.ones((repeat, repeat), np.uint8))).convert("P")
    at = np.linspace(0, len(stops) - 1, N_COLOURS)
    colours = np.column_stack(
        [np.interp(at, np.arange(len(stops)), [s[c] for s in stops]) for c in range(3)]
    )
    palette = np.vstack([(0, 0, 0), np.rint(colours), LINE]).astype(np.uint8)
    picture.putpalette(palette.tobytes())
    out = io.BytesIO()
    picture.save(out, format="PNG", transparency=0)
    return out.getvalue()


def moran_of_table(table: pd.DataFrame) -> tuple[float, float]:
    """Return Moran's I of the residuals of areas at their centroids."""
    return moran(table[["x", "y"]].to_numpy(np.float64), table["residual"].to_numpy(np.float64))


def moran_of_areas(
    xy: NDArray[np.float64], residual: NDArray[np.float64], area: NDArray[Any]
) -> tuple[float, float]:
    """Return Moran's I of the areas' mean residuals and its p-value; NaN for fewer than 10 areas."""
    _, number = np.unique(area.astype(str), return_inverse=True)
    n = np.bincount(number)
    mean = np.bincount(number, weights=residual) / n
    centre = np.column_stack([np.bincount(number, weights=c) / n for c in xy.T])
    return moran(centre, mean)


def moran(xy: NDArray[np.float64], values: NDArray[np.float64]) -> tuple[float, float]:
    """Return Moran's I over the 8 nearest neighbours (row-standardised) and a one-sided permutation p-value.

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
