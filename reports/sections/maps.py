"""Maps of truth, prediction and residual."""

from __future__ import annotations

import io
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from extract.config.arrays import Bools, Floats
from extract.tables.tile_table import Tiles
from models.explaining.drawing import DIVERGING
from reports.data.boundaries import Boundaries
from reports.data.collect import Collected
from reports.data.formats import plural
from reports.data.places import measure_spacing
from reports.sections.moran import Moran, compute_moran

NAMES = ["truth", "prediction", "residual"]
MAX_SQUARES = 320  # across the longer side
MIN_PIXELS = 300  # of the longer side; few squares are drawn larger
MIN_TILES = 3
ENDS = (0.02, 0.98)  # quantiles of the truth at the ends of its scale
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
Stops = tuple[tuple[int, int, int], ...]
N_COLOURS = 64
LINE = (120, 120, 120)  # grey between areas


class Maps(NamedTuple):
    """Three maps of one target as PNG, and their scales.

    Attributes
    ----------
    truth, prediction : on one scale, from `low` to `high` (2nd and 98th percentile of the truth).
    residual : prediction less truth, from −`spread` to `spread`.
    side_m : side of a square [m]; None where areas are drawn as polygons.
    moran : of the areas' mean residuals.
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
    moran: Moran
    table: pd.DataFrame


class MapGrids(NamedTuple):
    """Values to draw.

    Attributes
    ----------
    values : (3, rows, columns), truth, prediction and residual, NaN where nothing is drawn.
    is_line : (rows, columns), pixels between areas.
    side_m, table : as in `Maps`.
    """

    values: Floats
    is_line: Bools
    side_m: float | None
    table: pd.DataFrame


def build_maps(collected: Collected, target: str) -> Maps | None:
    """Draw the maps of one target's best model.

    Areas are drawn where there are boundaries, else squares; without either there are no maps.
    """
    if collected.tiles is None:
        return None
    rows = _locate(collected.tile_predictions, collected.tiles, target)
    grids = _fill(collected, rows)
    if grids is None:
        return None
    low, high = (float(end) for end in rows["truth"].quantile(ENDS))
    spread = float(rows["residual"].abs().quantile(ENDS[1])) or 1.0
    truth, prediction, residual = grids.values
    is_line = grids.is_line
    areas = grids.table
    if collected.tiles.xy is not None:
        areas = rows.groupby("area")[["x", "y", "residual"]].mean()
    xy = areas[["x", "y"]].to_numpy()
    residuals = areas["residual"].to_numpy()
    return Maps(
        truth=draw_picture(truth, low, high, VIRIDIS, is_line=is_line),
        prediction=draw_picture(prediction, low, high, VIRIDIS, is_line=is_line),
        residual=draw_picture(residual, -spread, spread, DIVERGING, is_line=is_line),
        low=low,
        high=high,
        spread=spread,
        side_m=grids.side_m,
        moran=compute_moran(xy, residuals),
        table=grids.table,
    )


def _locate(predictions: pd.DataFrame, tiles: Tiles, target: str) -> pd.DataFrame:
    """Return area, x, y, truth, prediction and residual of each predicted tile of a target."""
    columns = {
        "unit": tiles.id.astype(str),
        "area": tiles.area.astype(str),
    }
    places = pd.DataFrame(columns)
    places[["x", "y"]] = np.nan if tiles.xy is None else tiles.xy
    is_target = predictions["target"] == target
    rows = predictions.loc[is_target, ["unit", "truth", "prediction"]]
    rows = rows.astype({"truth": float, "prediction": float})
    rows["residual"] = rows["prediction"] - rows["truth"]
    return rows.merge(places, on="unit")


def _fill(collected: Collected, rows: pd.DataFrame) -> MapGrids | None:
    if len(rows) < MIN_TILES:
        return None
    if collected.boundaries is not None:
        return _fill_areas(collected.boundaries, rows)
    has_extent = rows[["x", "y"]].nunique().max() > 1
    return _fill_squares(rows) if has_extent else None


def _fill_squares(rows: pd.DataFrame) -> MapGrids:
    xy = rows[["x", "y"]].to_numpy()
    side = measure_side(xy)
    corner = xy.min(axis=0)
    squares = np.floor((xy - corner) / side + 0.5)
    column, row = squares.astype(int).T
    means = rows[NAMES].groupby([row, column]).mean()
    row = means.index.get_level_values(0)
    column = means.index.get_level_values(1)
    shape = (len(NAMES), row.max() + 1, column.max() + 1)
    values = np.full(shape, np.nan)
    values[:, row, column] = means.to_numpy().T
    table = means.reset_index(drop=True)
    table.insert(0, "x", corner[0] + (column - 0.5) * side)
    table.insert(1, "y", corner[1] + (row - 0.5) * side)
    no_line = np.zeros(values.shape[1:], np.bool_)
    return MapGrids(values[:, ::-1], no_line, side, table)


def _fill_areas(boundaries: Boundaries, rows: pd.DataFrame) -> MapGrids | None:
    means = rows.groupby("area")[NAMES].mean().reindex(boundaries.codes)
    table = means.rename_axis("area").reset_index()
    table.insert(1, "x", boundaries.centre[:, 0])
    table.insert(2, "y", boundaries.centre[:, 1])
    table = table.dropna(subset="truth")
    if table.empty:
        return None
    outside = np.full((1, len(NAMES)), np.nan)  # has number 0
    by_number = np.vstack([outside, means.to_numpy()])
    values = by_number.T[:, boundaries.number]
    return MapGrids(values, boundaries.is_line, None, table)


def measure_side(xy: Floats) -> float:
    """Return the side of the squares [m].

    It is the median distance to the next tile, or more where the map would be too large.
    """
    extent = np.ptp(xy, axis=0).max()
    return float(max(measure_spacing(xy), extent / MAX_SQUARES))


def draw_picture(
    values: Floats, low: float, high: float, stops: Stops, *, is_line: Bools | None = None
) -> bytes:
    """Draw (rows, columns) values as a PNG.

    NaN is transparent, values beyond the ends have the colour of the ends, and lines are grey.
    """
    is_drawn = np.isfinite(values)
    share = (values[is_drawn] - low) / ((high - low) or 1.0)
    level = np.zeros(values.shape, np.uint8)
    level[is_drawn] = np.rint(1 + share.clip(0, 1) * (N_COLOURS - 1))
    if is_line is not None:
        level[is_line & is_drawn] = N_COLOURS + 1
    repeat = max(1, -(-MIN_PIXELS // max(values.shape)))
    block = np.ones((repeat, repeat), np.uint8)
    picture = Image.fromarray(np.kron(level, block))
    picture = picture.convert("P")
    picture.putpalette(_build_palette(stops))
    out = io.BytesIO()
    picture.save(out, format="PNG", transparency=0)
    return out.getvalue()


def _build_palette(stops: Stops) -> bytes:
    """Return RGB of transparent, the colours of a scale, and of lines."""
    known = np.arange(len(stops))
    at = np.linspace(0, known[-1], N_COLOURS)
    channels = [np.interp(at, known, channel) for channel in np.transpose(stops)]
    colours = np.rint(np.transpose(channels))
    palette = np.vstack([(0, 0, 0), colours, LINE])
    return palette.astype(np.uint8).tobytes()


def describe_unit(maps: dict[str, Maps], collected: Collected) -> str:
    """Describe what one patch of colour on the maps is."""
    if collected.boundaries is None:
        side_m = round(next(iter(maps.values())).side_m or 0.0, 1)
        return f"Squares of {side_m:g} m, north up: the mean of the tiles in each"
    name = collected.boundaries.name
    lost = plural(collected.boundaries.n_missing, "area")
    return f"Areas as {name} draws them ({lost} without a polygon), north up: the mean of its tiles"
