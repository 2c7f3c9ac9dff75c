"""How networks learnt: the loss on training and held-out rows, epoch by epoch."""

from __future__ import annotations

import numpy as np
import pandas as pd

from reports.data.collect import Collected
from reports.sections.charts import Spec, fill_chart, select_finite

MAX_EPOCHS = 60  # drawn of each curve; more look the same
_LOSSES = {"loss": "training", "held_loss": "held out"}


def build_curves(collected: Collected, target: str) -> Spec | None:
    """Draw the losses of one target, one small chart a fold, the epoch that was kept marked."""
    curves = collected.curves
    rows = thin_curves(curves[curves["target"] == target])
    if rows.empty:
        return None
    keys = ["fold", "epoch", "best"]
    long = rows.melt(keys, list(_LOSSES.values()), var_name="rows", value_name="loss")
    long["fold"] = "fold " + long["fold"].astype(str)
    long["best"] &= long["rows"] == "held out"
    return fill_chart("curves", datasets={"losses": long})


def thin_curves(curves: pd.DataFrame) -> pd.DataFrame:
    """Return finite losses of the epochs that are drawn, named by the rows that they are of."""
    rows = select_finite(curves, list(_LOSSES))
    rows = rows.rename(columns=_LOSSES)
    step = max(1, -(-rows["epoch"].nunique() // MAX_EPOCHS))
    is_drawn = (rows["epoch"] - 1) % step == 0
    return rows[rows["best"] | is_drawn]


def describe_curves(curves: pd.DataFrame) -> str:
    """Describe when learning stopped, and how much smaller the loss on training rows is."""
    kept = curves[curves["best"]]
    if kept.empty:
        return "How the loss fell, epoch by epoch."
    epochs = kept["epoch"]
    text = f"The networks kept are those of epoch {epochs.min()} to {epochs.max()}."
    ratios = kept["held_loss"].astype(float) / kept["loss"].astype(float)
    ratio = ratios.median()
    if np.isfinite(ratio):
        text += (
            f" There the loss on held-out rows is {ratio:.1f} times that on training rows "
            "(median over indices and folds)."
        )
    last = curves.groupby(["target", "fold"])["epoch"].transform("max")
    is_learning = epochs == last[kept.index]
    if is_learning.any():
        return text + (
            f" {is_learning.sum()} of {len(kept)} were still learning when they were stopped: "
            "more epochs may help."
        )
    return text + " All had stopped gaining before they were stopped."


def title_curves(collected: Collected, target: str) -> str:
    """Return whose losses are drawn, and the epochs whose networks were kept."""
    curves = collected.curves
    rows = curves[curves["target"] == target]
    first = rows.iloc[0]
    kept = rows.loc[rows["best"], "epoch"]
    name = f"{first['model']} ({first['cut']})"
    if kept.empty:
        return f"Loss of {name}, one picture a fold"
    epochs = dict.fromkeys([str(kept.min()), str(kept.max())])
    return f"Loss of {name}, one picture a fold; kept: epoch {' to '.join(epochs)}"
