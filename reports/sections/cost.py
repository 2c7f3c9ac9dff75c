"""What it cost: seconds of each stage and fit, and which cells no other beats in both seconds and R²."""

from __future__ import annotations

import altair as alt
import numpy as np
import pandas as pd

from reports.data.collect import Collected


def build_cost(collected: Collected) -> alt.Chart | None:
    """Draw seconds of each stage of each backbone, and of all fits of each model."""
    stages = collected.stages[collected.stages["stage"] != "total"]
    read = pd.DataFrame(
        {
            "what": "features: " + stages["backbone"].astype(str),
            "part": stages["stage"],
            "seconds": stages["seconds"],
        }
    )
    fits = collected.runs.groupby("model", as_index=False)["seconds"].sum()
    fitted = pd.DataFrame(
        {"what": "models: " + fits["model"].astype(str), "part": "fit", "seconds": fits["seconds"]}
    )
    parts = [part for part in (read, fitted) if not part.empty]
    data = pd.concat(parts) if parts else pd.DataFrame({"seconds": []})
    if not data["seconds"].sum() > 0:
        return None
    return (
        alt.Chart(data)
        .mark_bar()
        .encode(
            x=alt.X("seconds:Q", title="seconds"),
            y=alt.Y("what:N", title=None, sort=None, axis=alt.Axis(labelLimit=320)),
            color=alt.Color(
                "part:N",
                title=None,
                scale=alt.Scale(
                    range=["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00"]
                ),
            ),
            tooltip=["what:N", "part:N", alt.Tooltip("seconds:Q", format=".2f")],
        )
        .properties(width=480, height=alt.Step(22))
    )


def build_pareto_table(collected: Collected) -> pd.DataFrame:
    """Return seconds and mean R² over the targets of each cell on the strictest split, and whether it lies on the front.

    Returns
    -------
    cut, model, seconds (of all targets), r2, is_front: no other cell is both at least as quick and better; quickest first.
    """
    scores = collected.scores
    scores = scores[(scores["split"] == collected.split) & (scores["level"] == collected.level)]
    table = scores.groupby(["cut", "model"], as_index=False).agg(
        seconds=("fit_seconds", "sum"), r2=("r2", "mean")
    )
    table = table[np.isfinite(table["r2"]) & (table["seconds"] > 0)].sort_values(
        ["seconds", "r2"], ascending=[True, False]
    )
    best_before = table["r2"].cummax().shift(fill_value=-np.inf)
    return table.assign(is_front=table["r2"] > best_before).reset_index(drop=True)


def build_pareto(collected: Collected) -> alt.LayerChart | None:
    """Draw R² against seconds of every cell, and the line of those that no other beats in both."""
    table = build_pareto_table(collected)
    if len(table) < 2:
        return None
    table = table.assign(
        r2=table["r2"].clip(lower=-0.5),
        front=np.where(table["is_front"], "on the front", "beaten in both"),
    )
    x = alt.X(
        "seconds:Q", scale=alt.Scale(type="log"), title="seconds of the fits, all targets and folds"
    )
    y = alt.Y("r2:Q", title="mean R² over the targets", scale=alt.Scale(zero=False))
    domain = ["on the front", "beaten in both"]
    base = alt.Chart(table).encode(
        x=x,
        y=y,
        tooltip=[
            "model:N",
            "cut:N",
            alt.Tooltip("seconds:Q", format=".3g"),
            alt.Tooltip("r2:Q", format=".3f"),
        ],
    )
    dots = base.mark_point(filled=True, size=70, opacity=0.9).encode(
        color=alt.Color(
            "front:N",
            title=None,
            scale=alt.Scale(domain=domain, range=["#D55E00", "#7f8c97"]),
            legend=alt.Legend(orient="top"),
        ),
        shape=alt.Shape(
            "front:N", title=None, scale=alt.Scale(domain=domain, range=["diamond", "circle"])
        ),
    )
    front = alt.Chart(table[table["is_front"]])
    line = front.mark_line(interpolate="step-after", color="#D55E00").encode(x=x, y=y)
    return (line + dots).properties(width=480, height=240)
