"""What the results cost: the seconds of each stage and fit, and which cells are worth them."""

from __future__ import annotations

import altair as alt
import numpy as np
import pandas as pd

from reports.data.collect import Collected
from reports.sections.charts import BLUE, LOWEST_R2, ORANGE, categories, name_axis, tooltips

STAGE_COLOURS = [BLUE, "#E69F00", "#009E73", "#CC79A7", "#56B4E9", ORANGE]
FRONT = {"on the front": ORANGE, "another is quicker and better": "#7f8c97"}


def build_cost(collected: Collected) -> alt.Chart | None:
    """Draw seconds of each stage of each backbone, and of all fits of each model."""
    stages = collected.stages[collected.stages["stage"] != "total"]
    fits = collected.runs.groupby("model")["seconds"].sum()
    rows = [
        (f"features: {backbone}", stage, seconds)
        for backbone, stage, seconds in stages.to_numpy().tolist()
    ]
    rows += [(f"models: {model}", "fit", seconds) for model, seconds in fits.items()]
    data = pd.DataFrame(rows, columns=["what", "part", "seconds"])
    if not data["seconds"].sum() > 0:
        return None
    colour = alt.Color("part:N", title=None, scale=alt.Scale(range=STAGE_COLOURS))
    bars = (
        alt.Chart(data)
        .mark_bar()
        .encode(
            x=alt.X("seconds:Q", title="seconds"),
            y=name_axis("what:N", None),
            color=colour,
            tooltip=tooltips("what", "part", seconds=".2f"),
        )
    )
    return bars.properties(width=480, height=alt.Step(22))


def build_pareto_table(collected: Collected) -> pd.DataFrame:
    """Compare seconds and mean R² over the targets of each cell on the strictest split.

    Returns
    -------
    cut, model, seconds (of all targets), r2, and is_front: no other cell is both at least as
    quick and better. Quickest first.
    """
    scores = collected.scores
    scores = scores[(scores["split"] == collected.split) & (scores["level"] == collected.level)]
    cells = scores.groupby(["cut", "model"], as_index=False)
    table = cells.agg(seconds=("fit_seconds", "sum"), r2=("r2", "mean"))
    table = table[np.isfinite(table["r2"]) & (table["seconds"] > 0)]
    table = table.sort_values(["seconds", "r2"], ascending=[True, False], ignore_index=True)
    best_before = table["r2"].cummax().shift(fill_value=-np.inf)
    return table.assign(is_front=table["r2"] > best_before)


def build_pareto(collected: Collected) -> alt.LayerChart | None:
    """Draw R² against seconds of every cell, and a line through those on the front."""
    table = build_pareto_table(collected)
    if len(table) < 2:
        return None
    on_front, off_front = FRONT
    table = table.assign(
        r2=table["r2"].clip(lower=LOWEST_R2),
        front=np.where(table["is_front"], on_front, off_front),
    )
    base = alt.Chart(table).encode(
        x=alt.X(
            "seconds:Q",
            scale=alt.Scale(type="log"),
            title="seconds of the fits, all targets and folds",
        ),
        y=alt.Y("r2:Q", title="mean R² over the targets", scale=alt.Scale(zero=False)),
        tooltip=tooltips("model", "cut", seconds=".3g", r2=".3f"),
    )
    points = base.mark_point(filled=True, size=70, opacity=0.9)
    points = points.encode(**categories("front:N", FRONT, shape=["diamond", "circle"]))
    line = base.transform_filter("datum.is_front")
    line = line.mark_line(interpolate="step-after", color=ORANGE)
    return (line + points).properties(width=480, height=240)
