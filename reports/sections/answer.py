"""The answer as a picture: for each target what pictures explain, beside the best that sees none."""

from __future__ import annotations

import altair as alt
import numpy as np
import pandas as pd

from reports.data.collect import Collected
from reports.sections.sentences import build_answers

# Okabe and Ito 2008, "Color Universal Design"; pictures and baseline have shapes of their own as well.
SEEN = ("pictures", "best baseline, no network")


def build_answer_chart(collected: Collected) -> alt.LayerChart | None:
    """Draw R² of pictures with its 95 % interval, and of the best baseline, one line a target."""
    answers = [a for a in build_answers(collected) if not a.is_baseline and np.isfinite(a.r2)]
    if not answers:
        return None
    rows = [
        {
            "target": a.target,
            "what": SEEN[0],
            "model": a.model,
            "r2": a.r2,
            "low": a.low,
            "high": a.high,
        }
        for a in answers
    ]
    rows += [
        {
            "target": a.target,
            "what": SEEN[1],
            "model": a.baseline,
            "r2": a.baseline_r2,
            "low": a.baseline_r2,
            "high": a.baseline_r2,
        }
        for a in answers
        if np.isfinite(a.baseline_r2)
    ]
    data = pd.DataFrame(rows)
    data[["r2", "low", "high"]] = data[["r2", "low", "high"]].clip(lower=-0.5)
    names = [a.target for a in answers]
    base = alt.Chart(data).encode(
        y=alt.Y("target:N", sort=names, title=None, axis=alt.Axis(labelLimit=220)),
        color=alt.Color(
            "what:N",
            title=None,
            scale=alt.Scale(domain=list(SEEN), range=["#0072B2", "#D55E00"]),
            legend=alt.Legend(orient="bottom"),
        ),
        tooltip=[
            "target:N",
            "what:N",
            "model:N",
            *(alt.Tooltip(f"{c}:Q", format=".3f") for c in ("r2", "low", "high")),
        ],
    )
    title = f"R² of {collected.level}s that the model has not seen (0: the mean, 1: perfect)"
    rules = base.mark_rule(strokeWidth=3).encode(
        x=alt.X("low:Q", title=title, scale=alt.Scale(zero=True)), x2="high:Q"
    )
    marks = base.mark_point(filled=True, size=110, opacity=1).encode(
        x="r2:Q",
        shape=alt.Shape(
            "what:N", title=None, scale=alt.Scale(domain=list(SEEN), range=["circle", "diamond"])
        ),
    )
    return (rules + marks).properties(width=430, height=alt.Step(30))
