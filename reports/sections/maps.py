"""Maps of truth, prediction and residual, and whether the residuals cluster."""

from __future__ import annotations

import io
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image
from scipy.spatial import cKDTree

from extract.config.arrays import Bools, Floats
from extract.tables.tile_table import Tiles
from models.explaining.drawing import DIVERGING
from reports.data.boundaries import Boundaries
from reports.data.collect import Collected
from reports.data.formats import plural

NAMES = ["truth", "prediction", "residual"]
ALPHA = 0.05
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
LINE = (120, 120, 120)  # grey between areas


class Maps(NamedTuple):
    """Three maps of one target as PNG, and their scales.

    Attributes
    ----------
    truth, prediction : on one scale, from `low` to `high` (2nd and 98th percentile of the truth).
    residual : prediction less truth, from −`spread` to `spread`.
    side_m : side of a square [m]; None where areas are drawn as polygons.
    moran, p : Moran's I of the areas' mean residuals, and its permutation p-value.
    table : one row a square (x, y of its lower left corner [m]) or area (its code, x, y of its
        centroid), with the means truth, prediction and residual.
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


class MapGrids(NamedTuple):
    """Values to draw.

    Attributes
    ----------
    values : (3, rows, columns), truth, prediction and residual, NaN where nothing is drawn.
    is_line : (rows, columns), pixels between areas; None for squares.
    side_m, table : as in `Maps`.
    """

    values: Floats
    is_line: Bools | None
    side_m: float | None
    table: pd.DataFrame


def build_maps(collected: Collected, target: str) -> Maps | None:
    """Draw the maps of one target's best model.

    Areas are drawn where there are boundaries, else squares; without either there are no maps.
    """
    if collected.tiles is None:
        return None
    has_places = collected.tiles.xy is not None
    rows = _locate(collected.tile_predictions, collected.tiles, target)
    grids = None
    if collected.boundaries is not None:
        grids = _fill_areas(collected.boundaries, rows)
    elif has_places:
        grids = _fill_squares(rows)
    if grids is None or len(rows) < 3:
        return None
    low, high = (float(end) for end in rows["truth"].quantile([0.02, 0.98]))
    spread = float(rows["residual"].abs().quantile(0.98)) or 1.0
    truth, prediction, residual = grids.values
    areas = rows.groupby("area")[["x", "y", "residual"]].mean() if has_places else grids.table
    index, p = moran(areas[["x", "y"]].to_numpy(), areas["residual"].to_numpy())
    return Maps(
        truth=draw_picture(truth, low, high, VIRIDIS, is_line=grids.is_line),
        prediction=draw_picture(prediction, low, high, VIRIDIS, is_line=grids.is_line),
        residual=draw_picture(residual, -spread, spread, DIVERGING, is_line=grids.is_line),
        low=low,
        high=high,
        spread=spread,
        side_m=grids.side_m,
        moran=index,
        p=p,
        table=grids.table,
    )


def _locate(predictions: pd.DataFrame, tiles: Tiles, target: str) -> pd.DataFrame:
    """Return area, x, y, truth, prediction and residual of each predicted tile of a target."""
    places = pd.DataFrame({"unit": tiles.id.astype(str), "area": tiles.area.astype(str)})
    places[["x", "y"]] = np.nan if tiles.xy is None else tiles.xy
    rows = predictions.loc[predictions["target"] == target, ["unit", "truth", "prediction"]]
    rows = rows.astype({"truth": float, "prediction": float})
    rows = rows.assign(residual=rows["prediction"] - rows["truth"])
    return rows.merge(places, on="unit")


def _fill_squares(rows: pd.DataFrame) -> MapGrids | None:
    xy = rows[["x", "y"]].to_numpy()
    if len(xy) < 3 or not np.ptp(xy, axis=0).any():
        return None
    side = measure_side(xy)
    corner = xy.min(axis=0)
    column, row = np.floor((xy - corner) / side + 0.5).astype(int).T
    table = rows[NAMES].groupby([row, column]).mean().rename_axis(["row", "column"]).reset_index()
    row = table.pop("row")
    column = table.pop("column")
    values = np.full((3, row.max() + 1, column.max() + 1), np.nan)
    values[:, row, column] = table.to_numpy().T
    table.insert(0, "x", corner[0] + (column - 0.5) * side)
    table.insert(1, "y", corner[1] + (row - 0.5) * side)
    return MapGrids(values[:, ::-1], None, side, table)


def _fill_areas(boundaries: Boundaries, rows: pd.DataFrame) -> MapGrids | None:
    means = rows.groupby("area")[NAMES].mean().reindex(boundaries.codes)
    table = means.rename_axis("area").reset_index()
    table.insert(1, "x", boundaries.centre[:, 0])
    table.insert(2, "y", boundaries.centre[:, 1])
    table = table.dropna(subset="truth")
    if table.empty:
        return None
    outside = np.full((1, 3), np.nan)  # has number 0
    values = np.vstack([outside, means.to_numpy()]).T[:, boundaries.number]
    return MapGrids(values, boundaries.is_line, None, table)


def measure_side(xy: Floats) -> float:
    """Return the side of the squares [m].

    It is the median distance to the next tile, or more where the map would be too large.
    """
    distinct = np.unique(xy, axis=0)
    nearest = cKDTree(distinct).query(distinct, k=2)[0][:, 1]
    return float(max(np.median(nearest), np.ptp(xy, axis=0).max() / MAX_SQUARES))


def draw_picture(
    values: Floats,
    low: float,
    high: float,
    stops: tuple[tuple[int, int, int], ...],
    *,
    is_line: Bools | None = None,
) -> bytes:
    """Draw (rows, columns) values as a PNG.

    NaN is transparent, values beyond the ends have the colour of the ends, and lines are grey.
    """
    is_drawn = np.isfinite(values)
    share = np.clip((values[is_drawn] - low) / ((high - low) or 1.0), 0, 1)
    level = np.zeros(values.shape, np.uint8)
    level[is_drawn] = np.rint(1 + share * (N_COLOURS - 1))
    if is_line is not None:
        level[is_line & is_drawn] = N_COLOURS + 1
    repeat = max(1, -(-MIN_PIXELS // max(values.shape)))
    level = level.repeat(repeat, axis=0).repeat(repeat, axis=1)
    at = np.linspace(0, len(stops) - 1, N_COLOURS)
    channels = np.transpose(stops)
    colours = np.transpose([np.interp(at, range(len(stops)), channel) for channel in channels])
    palette = np.vstack([(0, 0, 0), np.rint(colours), LINE]).astype(np.uint8)
    picture = Image.fromarray(level).convert("P")
    picture.putpalette(palette.tobytes())
    out = io.BytesIO()
    picture.save(out, format="PNG", transparency=0)
    return out.getvalue()


def moran(xy: Floats, values: Floats) -> tuple[float, float]:
    """Return Moran's I over the 8 nearest neighbours, and a one-sided permutation p-value.

    Parameters
    ----------
    xy : (n, 2) [m].
    values : (n,), finite.

    Returns
    -------
    I (weights are row-standardised) and p. I is about −1/(n − 1) where values lie anywhere, and
    goes towards 1 where neighbours are alike. Both are NaN for n < 10 or equal values.

    References
    ----------
    Moran 1950, Biometrika 37:17, doi:10.2307/2332142; Anselin 1995, Geographical Analysis 27:93
    (permutation).
    """
    z = values - values.mean()
    if len(z) < 10 or not z.std() > 1e-12 * max(1.0, float(np.abs(values).max())):
        return np.nan, np.nan
    neighbours = cKDTree(xy).query(xy, k=N_NEIGHBOURS + 1)[1]
    near = neighbours[:, 1:]  # the first is the place itself
    rng = np.random.default_rng(0)
    samples = [z] + [rng.permutation(z) for _ in range(N_PERMUTATIONS)]
    indices = np.array([sample @ sample[near].mean(axis=1) for sample in samples]) / (z @ z)
    p = (indices >= indices[0]).mean()  # the observed value counts as one of the permutations
    return float(indices[0]), float(p)


def describe_moran(maps: dict[str, Maps]) -> str:
    """Describe whether the residuals of the best models cluster on the map."""
    tested = {target: one for target, one in maps.items() if np.isfinite(one.moran)}
    if not tested:
        return "Where truths, predictions and residuals lie."
    clustered = {target: one.moran for target, one in tested.items() if one.p < ALPHA}
    if not clustered:
        n = len(tested)
        of = f"all {n} targets" if n > 1 else "the only target"
        return (
            f"The residuals of the best models do not cluster on the map, on {of} "
            f"(Moran's I, p ≥ {ALPHA})."
        )
    top = max(clustered, key=clustered.__getitem__)
    return (
        f"The residuals of the best models cluster on the map for {len(clustered)} of "
        f"{plural(len(tested), 'target')}, most of all {top} (Moran's I {clustered[top]:.2f}, "
        f"p = {tested[top].p:.3f}). Neighbouring areas have something in common that the model "
        "does not see."
    )


def describe_unit(maps: dict[str, Maps], collected: Collected) -> str:
    """Describe what one patch of colour on the maps is."""
    if collected.boundaries is None:
        sides = [one.side_m for one in maps.values() if one.side_m is not None]
        if not sides:
            return ""
        return f"Squares of {round(sides[0], 1):g} m, north up; the mean of the tiles in each"
    n = collected.boundaries.n_missing
    verb = "has" if n == 1 else "have"
    lost = f" ({plural(n, 'area')} {verb} no polygon there)" if n else ""
    name = collected.boundaries.name
    return f"Areas as {name} draws them{lost}, north up; the mean of an area's tiles"
