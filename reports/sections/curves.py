"""How networks learnt: the loss on training and held-out rows, epoch by epoch."""

from __future__ import annotations

import altair as alt
import numpy as np
import pandas as pd

from reports.sections.charts import solid_and_dashed, tooltips

MAX_EPOCHS = 60  # drawn of each curve; more look the same
_LOSSES = {"loss": "training", "held_loss": "held out"}


def build_curves(curves: pd.DataFrame, target: str) -> alt.FacetChart | None:
    """Draw the losses of one target, one small chart a fold, the epoch that was kept marked."""
    rows = curves[curves["target"] == target].astype(dict.fromkeys(_LOSSES, float))
    is_finite = np.isfinite(rows[list(_LOSSES)].to_numpy()).all(axis=1)
    rows = rows.loc[is_finite].rename(columns=_LOSSES)
    if rows.empty:
        return None
    step = max(1, -(-int(rows["epoch"].max()) // MAX_EPOCHS))
    rows = rows[rows["best"] | ((rows["epoch"] - 1) % step == 0)]
    names = list(_LOSSES.values())
    long = rows.melt(["fold", "epoch", "best"], names, var_name="rows", value_name="loss")
    long["fold"] = "fold " + long["fold"].astype(str)
    long["best"] &= long["rows"] == names[1]
    marks = solid_and_dashed("rows:N", *names)
    base = alt.Chart(long).encode(
        x=alt.X("epoch:Q", title="epoch", axis=alt.Axis(tickMinStep=1, format="d")),
        y=alt.Y("loss:Q", title="loss", scale=alt.Scale(zero=False)),
        color=marks["color"],
        tooltip=tooltips("fold", "rows", epoch="d", loss=".4g"),
    )
    line = base.mark_line(strokeWidth=2).encode(strokeDash=marks["strokeDash"])
    kept = base.transform_filter("datum.best")
    kept = kept.mark_point(filled=True, size=90, shape="diamond", opacity=1)
    layers = alt.layer(line, kept, data=long).properties(width=170, height=120)
    return layers.facet(alt.Facet("fold:N", title=None), columns=5)


def describe_curves(curves: pd.DataFrame) -> str:
    """Describe when learning stopped, and how much smaller the loss on training rows is."""
    kept = curves[curves["best"]]
    if kept.empty:
        return "How the loss fell, epoch by epoch."
    last = curves.groupby(["target", "fold"])["epoch"].transform("max")
    n_learning = int((kept["epoch"] == last[kept.index]).sum())
    ratio = (kept["held_loss"].astype(float) / kept["loss"].astype(float)).median()
    epochs = kept["epoch"]
    text = f"The networks kept are those of epoch {epochs.min()} to {epochs.max()}."
    if np.isfinite(ratio):
        text += (
            f" There the loss on held-out rows is {ratio:.1f} times that on training rows "
            "(median over targets and folds)."
        )
    if n_learning:
        return text + (
            f" {n_learning} of {len(kept)} were still learning when they were stopped: "
            "more epochs may help."
        )
    return text + " All had stopped gaining before they were stopped."
