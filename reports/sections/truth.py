"""Predictions and residuals of each target's best model against the truth, as charts."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from reports.data.collect import Collected
from reports.data.formats import format_figures, format_number, plural
from reports.sections.charts import Spec, fill_chart
from reports.sections.headline import name_higher

MAX_POINTS = 1500  # more are drawn as counts in squares, which show as much in less
N_SQUARES = 36
N_BINS = 10
CALIBRATED = (0.9, 1.1)  # slopes of truth on prediction
ROBUST = [0.02, 0.98]  # quantiles
MARGIN = 0.75  # of the spread between those quantiles, drawn beyond them


class Axes(NamedTuple):
    """What is drawn along x and y, and the slope of the dashed line."""

    x: str
    y: str
    slope: int


TRUTH = Axes("prediction", "truth", 1)
RESIDUAL = Axes("truth", "residual", 0)


def select_predictions(collected: Collected, target: str) -> pd.DataFrame:
    """Return unit, truth, prediction and residual of a target's best model."""
    rows = collected.predictions
    rows = rows.loc[rows["target"] == target, ["unit", "truth", "prediction"]]
    residual = rows["prediction"] - rows["truth"]
    rows = rows.assign(residual=residual.astype(float))
    return rows[np.isfinite(rows["residual"])].reset_index(drop=True)


def build_truth(collected: Collected, target: str) -> Spec | None:
    """Draw truths against predictions, and the line on which they are equal."""
    rows = select_predictions(collected, target)
    return _draw(rows, TRUTH, name_higher(collected, target))


def build_residual(collected: Collected, target: str) -> Spec | None:
    """Draw residuals against truths, and the line of 0."""
    rows = select_predictions(collected, target)
    return _draw(rows, RESIDUAL, name_higher(collected, target))


def _draw(rows: pd.DataFrame, axes: Axes, higher: str) -> Spec | None:
    """Draw units, the means of tenths of x, and the dashed line; None without rows."""
    if rows.empty:
        return None
    x, y, slope = axes
    inside = select_inside(rows, axes)
    squares = inside.iloc[:0]
    points = inside
    if len(inside) > MAX_POINTS:
        squares = count_squares(inside, axes)
        points = inside.iloc[:0]
    drawn = inside[[x, y] if slope else [x]].to_numpy()
    low = float(drawn.min())
    high = float(drawn.max())
    domain = {"domain": [low, high], "nice": True}
    ways = {"prediction": f"right: {higher}", "residual": "up: too high"}
    ways["truth"] = f"up: {higher}" if y == "truth" else f"right: {higher}"
    titles = {name: f"{name} [units of the index] ({way})" for name, way in ways.items()}
    return fill_chart(
        "truth",
        x=x,
        y=y,
        x_title=titles[x],
        y_title=titles[y],
        ends=[low, high],
        y_scale=domain if slope else {},
        datasets={
            "points": points,
            "squares": squares,
            "dashed": pd.DataFrame({x: [low, high], y: [slope * low, slope * high]}),
            "tenths": average_tenths(rows, x),
        },
    )


def select_inside(rows: pd.DataFrame, axes: Axes) -> pd.DataFrame:
    """Return the rows inside robust limits, so that an outlier does not shrink the picture."""
    values = rows[[axes.x, axes.y]]
    low, high = values.quantile(ROBUST).to_numpy()
    margin = MARGIN * (high - low)
    is_inside = (values >= low - margin) & (values <= high + margin)
    return rows[is_inside.all(axis=1)]


def average_tenths(rows: pd.DataFrame, by: str) -> pd.DataFrame:
    """Return mean truth, prediction and residual in tenths of a column, and their count `n`.

    In tenths of the prediction, a calibrated model lies on the line of equality.
    """
    n_bins = min(N_BINS, max(1, len(rows) // 5))
    tenths = rows.groupby(bin_by_rank(rows[by], n_bins))
    means = tenths[["truth", "prediction", "residual"]].mean()
    return means.assign(n=tenths.size())


def bin_by_rank(values: pd.Series, n_bins: int) -> pd.Series:
    """Return the bin of each value, from 0 on; bins hold as many values as each other."""
    rank = values.rank(method="first") - 1
    return (rank * n_bins // len(values)).astype(int)


def count_squares(rows: pd.DataFrame, axes: Axes) -> pd.DataFrame:
    """Count units in N_SQUARES × N_SQUARES squares, without the empty ones.

    Returns
    -------
    Left and lower edge by the names of the axes, `x_end`, `y_end` and `n`.
    """
    counts, x_edges, y_edges = np.histogram2d(rows[axes.x], rows[axes.y], bins=N_SQUARES)
    i, j = np.nonzero(counts)
    return pd.DataFrame(
        {
            axes.x: x_edges[i],
            axes.y: y_edges[j],
            "x_end": x_edges[i + 1],
            "y_end": y_edges[j + 1],
            "n": counts[i, j].astype(int),
        }
    )


def title_truth(collected: Collected, target: str) -> str:
    """Return what the picture of truth against prediction shows."""
    slopes = collected.best.set_index("target")["calibration_slope"]
    slope = format_number(float(slopes[target]))
    return f"One unit more predicted is {slope} more in truth" + _note_outside(
        collected, target, TRUTH
    )


def title_residual(collected: Collected, target: str) -> str:
    """Return what the picture of the residuals shows."""
    tenths = average_tenths(select_predictions(collected, target), "truth")["residual"]
    if len(tenths) < 2:
        return "Too few places to tell where predictions err"
    lowest = describe_bias(tenths.iloc[0])
    highest = describe_bias(tenths.iloc[-1])
    return f"Low truths are predicted {lowest}, high truths {highest}" + _note_outside(
        collected, target, RESIDUAL
    )


def describe_bias(bias: float) -> str:
    """Return how far a mean prediction lies from the mean truth."""
    if bias == 0:
        return "exactly"
    way = "too high" if bias > 0 else "too low"
    return f"{way} by {format_figures(abs(bias))}"


def _note_outside(collected: Collected, target: str, axes: Axes) -> str:
    rows = select_predictions(collected, target)
    n_outside = len(rows) - len(select_inside(rows, axes))
    return f" ({plural(n_outside, 'outlier')} not drawn)" if n_outside else ""


def describe_calibration(collected: Collected) -> str:
    """Describe for how many targets the predictions of the best model are calibrated."""
    rows = collected.best[["target", "calibration_slope"]].dropna()
    if rows.empty:
        return "How truth follows the predictions of each target's best model."
    slopes: Any = rows.set_index("target")["calibration_slope"]
    slopes = slopes.astype(float).round(2)
    low, high = CALIBRATED
    n_calibrated = slopes.between(low, high).sum()
    text = (
        f"Predictions are calibrated for {n_calibrated} of {plural(len(slopes), 'index')}: "
        f"the slope of truth on prediction is from {low} to {high}."
    )
    if len(slopes) > 1:
        text += (
            f" Slopes reach from {slopes.min():.2f} ({slopes.idxmin()}) to "
            f"{slopes.max():.2f} ({slopes.idxmax()})."
        )
    text += " Below 1 a difference is predicted too large, above 1 too small"
    if slopes.min() < 0:
        text += ", below 0 the wrong way round"
    return f"{text}.".replace("-", "−")
