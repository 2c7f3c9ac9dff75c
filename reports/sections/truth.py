"""Predictions and residuals of each target's best model against the truth, as charts."""

from __future__ import annotations

import altair as alt
import numpy as np
import pandas as pd

from reports.data.collect import Collected
from reports.data.formats import plural
from reports.sections.charts import BLUE, ORANGE, tooltips

MAX_POINTS = 1500  # more are drawn as counts in squares, which show as much in less
N_SQUARES = 36
N_BINS = 10
CALIBRATED = (0.9, 1.1)  # slopes of truth on prediction


def select_predictions(collected: Collected, target: str) -> pd.DataFrame:
    """Return unit, truth, prediction and residual of a target's best model."""
    rows = collected.predictions
    rows = rows.loc[rows["target"] == target, ["unit", "truth", "prediction"]]
    rows = rows.assign(residual=(rows["prediction"] - rows["truth"]).astype(float))
    return rows[np.isfinite(rows["residual"])].reset_index(drop=True)


def build_truth(collected: Collected, target: str) -> alt.LayerChart | None:
    """Draw predictions against truths, their means in tenths, and the line of equality."""
    rows = select_predictions(collected, target)
    return _draw(rows, "prediction", by="prediction", slope=1)


def build_residual(collected: Collected, target: str) -> alt.LayerChart | None:
    """Draw residuals against truths, their means in tenths of the truth, and the line of 0."""
    return _draw(select_predictions(collected, target), "residual", by="truth", slope=0)


def _draw(rows: pd.DataFrame, up: str, *, by: str, slope: int) -> alt.LayerChart | None:
    if rows.empty:
        return None
    values = rows[["truth", up] if slope else ["truth"]].to_numpy()
    ends = np.array([values.min(), values.max()])
    scale = alt.Scale(domain=ends.tolist(), nice=True)
    axes = {
        "x": alt.X("truth:Q", scale=scale, title="truth [index]"),
        "y": alt.Y(f"{up}:Q", scale=scale if slope else alt.Scale(), title=f"{up} [index]"),
    }
    reference = alt.Chart(pd.DataFrame({"truth": ends, up: slope * ends}))
    reference = reference.mark_line(strokeDash=[4, 4], color="#888")
    means = average_tenths(rows, by)
    point = alt.OverlayMarkDef(color=ORANGE, size=30)
    line = alt.Chart(means).mark_line(color=ORANGE, strokeWidth=2, point=point)
    line = line.encode(
        **axes, order="order:Q", tooltip=tooltips(**{"truth": ".3g", up: ".3g", "n": "d"})
    )
    if len(rows) <= MAX_POINTS:
        cloud = alt.Chart(rows).mark_circle(size=24, opacity=0.5, color=BLUE)
        cloud = cloud.encode(**axes, tooltip=tooltips("unit", truth=".3g", prediction=".3g"))
    else:
        count_scale = alt.Scale(scheme="viridis", type="log")
        cloud = alt.Chart(count_squares(rows, up)).mark_rect()
        cloud = cloud.encode(
            **axes,
            x2="truth_end:Q",
            y2=f"{up}_end:Q",
            color=alt.Color("n:Q", scale=count_scale, legend=None),
            tooltip=tooltips(n="d"),
        )
    layers = cloud + reference.encode(**axes) + line
    return layers.properties(width=250, height=250)


def average_tenths(rows: pd.DataFrame, by: str) -> pd.DataFrame:
    """Return mean truth, prediction and residual in tenths of a column, and their count `n`.

    In tenths of the prediction, a calibrated model lies on the line of equality.
    """
    n_bins = min(N_BINS, max(1, len(rows) // 5))
    tenths = rows.groupby(bin_by_rank(rows[by], n_bins))
    means = tenths[["truth", "prediction", "residual"]].mean()
    return means.assign(n=tenths.size(), order=means[by]).reset_index(drop=True)


def bin_by_rank(values: pd.Series, n_bins: int) -> pd.Series:
    """Return the bin of each value, from 0 on; bins hold as many values as each other."""
    rank = values.rank(method="first") - 1
    return (rank * n_bins // len(values)).astype(int)


def count_squares(rows: pd.DataFrame, up: str) -> pd.DataFrame:
    """Count units in N_SQUARES × N_SQUARES squares of truth and `up`; leave out empty squares."""
    counts, across_edges, up_edges = np.histogram2d(rows["truth"], rows[up], bins=N_SQUARES)
    i, j = np.nonzero(counts)
    return pd.DataFrame(
        {
            "truth": across_edges[i],
            "truth_end": across_edges[i + 1],
            up: up_edges[j],
            f"{up}_end": up_edges[j + 1],
            "n": counts[i, j].astype(int),
        }
    )


def describe_calibration(collected: Collected) -> str:
    """Describe for how many targets the predictions of the best model are calibrated."""
    rows = collected.best[["target", "calibration_slope"]].dropna()
    if rows.empty:
        return "How truth follows the predictions of each target's best model."
    slopes = rows.set_index("target")["calibration_slope"].astype(float).round(2)
    low, high = CALIBRATED
    n_calibrated = int(slopes.between(low, high).sum())
    text = (
        f"Predictions are calibrated for {n_calibrated} of {plural(len(slopes), 'target')}: "
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
