"""Truth against prediction, and what is left over against truth: dots for some units, counts in squares for many."""

from __future__ import annotations

import altair as alt
import numpy as np
import pandas as pd

from reports.data.collect import Collected

MAX_DOTS = 1500  # more are drawn as counts in squares: a cloud says no more, and weighs more
N_SQUARES = 36
N_CALIBRATION = 10
UNIT = "[index]"


def rows_of(collected: Collected, target: str) -> pd.DataFrame:
    """Return unit, truth, prediction and residual (prediction less truth) of one target's best model."""
    rows = collected.predictions.loc[
        collected.predictions["target"] == target, ["unit", "truth", "prediction"]
    ]
    rows = rows[np.isfinite(rows["truth"]) & np.isfinite(rows["prediction"])]
    return rows.assign(residual=rows["prediction"] - rows["truth"]).reset_index(drop=True)


def build_truth(collected: Collected, target: str) -> alt.LayerChart | None:
    """Draw truth against out-of-fold prediction, the line on which they are equal, and the calibration line."""
    rows = rows_of(collected, target)
    if rows.empty:
        return None
    low = float(rows[["truth", "prediction"]].min().min())
    high = float(rows[["truth", "prediction"]].max().max())
    scale = alt.Scale(domain=[low, high], nice=True, zero=False)
    x = alt.X("truth:Q", scale=scale, title=f"truth {UNIT}")
    y = alt.Y("prediction:Q", scale=scale, title=f"prediction {UNIT}")
    ends = pd.DataFrame({"truth": [low, high], "prediction": [low, high]})
    equal = alt.Chart(ends).mark_line(strokeDash=[4, 4], color="#888").encode(x=x, y=y)
    means = calibrate(rows)
    line = (
        alt.Chart(means)
        .mark_line(
            color="#D55E00", strokeWidth=2, point=alt.OverlayMarkDef(color="#D55E00", size=30)
        )
        .encode(
            x=x,
            y=y,
            order="prediction:Q",
            tooltip=[alt.Tooltip(f"{c}:Q", format=".3g") for c in ("truth", "prediction", "n")],
        )
    )
    return (_cloud(rows, "truth", "prediction", x, y) + equal + line).properties(
        width=250, height=250
    )


def build_residual(collected: Collected, target: str) -> alt.LayerChart | None:
    """Draw prediction less truth against truth, with its mean in tenths of the truth."""
    rows = rows_of(collected, target)
    if rows.empty:
        return None
    x = alt.X("truth:Q", scale=alt.Scale(nice=True, zero=False), title=f"truth {UNIT}")
    y = alt.Y("residual:Q", title=f"prediction less truth {UNIT}")
    zero = (
        alt.Chart(pd.DataFrame({"residual": [0.0]}))
        .mark_rule(strokeDash=[4, 4], color="#888")
        .encode(y=y)
    )
    line = (
        alt.Chart(_tenths(rows, "truth"))
        .mark_line(
            color="#D55E00", strokeWidth=2, point=alt.OverlayMarkDef(color="#D55E00", size=30)
        )
        .encode(
            x=x,
            y=y,
            tooltip=[alt.Tooltip(f"{c}:Q", format=".3g") for c in ("truth", "residual", "n")],
        )
    )
    return (_cloud(rows, "truth", "residual", x, y) + zero + line).properties(width=250, height=250)


def calibrate(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the mean truth and prediction in tenths of the prediction: on the line of equals a model is calibrated."""
    return _tenths(rows, "prediction")


def _tenths(rows: pd.DataFrame, by: str) -> pd.DataFrame:
    n_bins = min(N_CALIBRATION, max(1, len(rows) // 5))
    rank = rows[by].rank(method="first").to_numpy() - 1
    bins = (rank * n_bins // len(rows)).astype(int)
    means = rows[["truth", "prediction", "residual"]].groupby(bins).mean()
    return means.assign(n=np.bincount(bins)).reset_index(drop=True)


def _cloud(rows: pd.DataFrame, across: str, up: str, x: alt.X, y: alt.Y) -> alt.Chart:
    if len(rows) <= MAX_DOTS:
        tips = ["unit:N", *(alt.Tooltip(f"{c}:Q", format=".3g") for c in ("truth", "prediction"))]
        return (
            alt.Chart(rows)
            .mark_circle(size=24, opacity=0.5, color="#0072B2")
            .encode(x=x, y=y, tooltip=tips)
        )
    colour = alt.Color(
        "n:Q", title="count", scale=alt.Scale(scheme="viridis", type="log"), legend=None
    )
    return (
        alt.Chart(count_squares(rows[across].to_numpy(), rows[up].to_numpy(), across, up))
        .mark_rect()
        .encode(x=x, y=y, x2=f"{across}_end", y2=f"{up}_end", color=colour, tooltip=["n:Q"])
    )


def count_squares(a: np.ndarray, b: np.ndarray, across: str, up: str) -> pd.DataFrame:
    """Count units in N_SQUARES × N_SQUARES squares between the smallest and the largest; empty squares are left out."""
    counts, a_edges, b_edges = np.histogram2d(a, b, bins=N_SQUARES)
    i, j = np.nonzero(counts)
    return pd.DataFrame(
        {
            across: a_edges[i],
            f"{across}_end": a_edges[i + 1],
            up: b_edges[j],
            f"{up}_end": b_edges[j + 1],
            "n": counts[i, j].astype(int),
        }
    )
