"""The answer as a chart: what pictures explain of each target, beside the best baseline."""

from __future__ import annotations

import altair as alt
import numpy as np
import pandas as pd

from reports.data.collect import Collected
from reports.sections.charts import BLUE, LOWEST_R2, ORANGE, categories, name_axis, tooltips
from reports.sections.sentences import build_answers

COLOURS = {"pictures": BLUE, "best baseline": ORANGE}


def build_answer_chart(collected: Collected) -> alt.LayerChart | None:
    """Draw R² of pictures with its 95 % interval, and of the best baseline, one line a target."""
    answers = [a for a in build_answers(collected) if not a.is_baseline and np.isfinite(a.r2)]
    if not answers:
        return None
    pictures, baseline = COLOURS
    rows = [(a.target, pictures, a.model, a.r2, a.low, a.high) for a in answers]
    rows += [(a.target, baseline, a.baseline, *[a.baseline_r2] * 3) for a in answers]
    data = pd.DataFrame(rows, columns=["target", "what", "model", "r2", "low", "high"])
    data = data[np.isfinite(data["r2"])]
    data = data.assign(**data[["r2", "low", "high"]].clip(lower=LOWEST_R2))
    marks = categories("what:N", COLOURS, shape=["circle", "diamond"])
    base = alt.Chart(data).encode(
        y=name_axis("target:N", [a.target for a in answers]),
        color=marks["color"],
        tooltip=tooltips("target", "what", "model", r2=".3f", low=".3f", high=".3f"),
    )
    title = f"out-of-sample R² of {collected.level}s (0: the mean, 1: perfect)"
    low = alt.X("low:Q", title=title, scale=alt.Scale(zero=True))
    intervals = base.mark_rule(strokeWidth=3).encode(x=low, x2="high:Q")
    points = base.mark_point(filled=True, size=110, opacity=1)
    points = points.encode(x="r2:Q", shape=marks["shape"])
    return (intervals + points).properties(width=430, height=alt.Step(30))
