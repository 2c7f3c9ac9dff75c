"""How networks learnt: the loss on their training rows and on those held out, epoch by epoch."""

from __future__ import annotations

import altair as alt
import numpy as np
import pandas as pd

MAX_EPOCHS = 60  # drawn of each curve; more look the same
SEEN = ("training", "held out")


def build_curves(curves: pd.DataFrame, target: str) -> alt.FacetChart | None:
    """Draw the losses of one target against the epoch, one small picture a fold, the epoch that was kept marked."""
    rows = curves[curves["target"] == target]
    rows = rows[
        np.isfinite(rows["loss"].astype(float)) & np.isfinite(rows["held_loss"].astype(float))
    ]
    if rows.empty:
        return None
    step = max(1, -(-int(rows["epoch"].max()) // MAX_EPOCHS))
    rows = rows[rows["best"] | ((rows["epoch"] - 1) % step == 0)]
    rows = rows.rename(columns={"loss": SEEN[0], "held_loss": SEEN[1]})
    long = rows.melt(
        ["fold", "epoch", "best"], list(SEEN), var_name="of", value_name="loss"
    ).astype({"loss": float})
    long = long.assign(
        fold="fold " + long["fold"].astype(str), best=long["best"] & (long["of"] == SEEN[1])
    )
    base = alt.Chart(long).encode(
        x=alt.X("epoch:Q", title="epoch", axis=alt.Axis(tickMinStep=1, format="d")),
        y=alt.Y("loss:Q", title="loss", scale=alt.Scale(zero=False)),
        color=alt.Color(
            "of:N",
            title=None,
            scale=alt.Scale(domain=list(SEEN), range=["#0072B2", "#D55E00"]),
            legend=alt.Legend(orient="top"),
        ),
        tooltip=["fold:N", "epoch:Q", "of:N", alt.Tooltip("loss:Q", format=".4g")],
    )
    line = base.mark_line(strokeWidth=2).encode(
        strokeDash=alt.StrokeDash(
            "of:N", title=None, scale=alt.Scale(domain=list(SEEN), range=[[1, 0], [5, 3]])
        )
    )
    kept = base.transform_filter("datum.best").mark_point(
        filled=True, size=90, shape="diamond", opacity=1
    )
    layers = alt.layer(line, kept, data=long).properties(width=170, height=120)
    return layers.facet(alt.Facet("fold:N", title=None), columns=5)


def describe_curves(curves: pd.DataFrame) -> str:
    """Describe when learning stopped, and how far the training rows are known by heart."""
    kept = curves[curves["best"]]
    if kept.empty:
        return "How the loss fell, epoch by epoch."
    last = curves.groupby(["target", "fold"])["epoch"].max()
    epochs = kept["epoch"]
    n_late = int(
        (
            kept.set_index(["target", "fold"])["epoch"]
            == last.reindex(pd.MultiIndex.from_frame(kept[["target", "fold"]])).to_numpy()
        ).sum()
    )
    ratio = float(np.median(kept["held_loss"].astype(float) / kept["loss"].astype(float)))
    text = f"The networks kept are those of epoch {int(epochs.min())} to {int(epochs.max())}"
    if np.isfinite(ratio):
        text += f"; there the loss on held-out rows is {ratio:.1f} times that on training rows (median over targets and folds)"
    if n_late:
        return (
            text
            + f". {n_late} of {len(kept)} were still learning when they were stopped: more epochs may help."
        )
    return text + ". All had stopped gaining before they were stopped."
