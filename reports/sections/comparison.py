"""The comparison as a heat map: R² of cuts and models."""

from __future__ import annotations

from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from reports.data.collect import SPLITS, Collected
from reports.data.formats import plural
from reports.sections.answer import select_reported
from reports.sections.charts import add_menu, tooltips


def build_heat(collected: Collected, target: str | None = None) -> alt.LayerChart | None:
    """Draw R² of cuts and models.

    Parameters
    ----------
    target : drawn alone, at the reported split and level; None: menus choose all three.
    """
    data = collected.scores[["target", "split", "level", "cut", "model", "r2"]]
    data = data[np.isfinite(data["r2"])]
    chosen = {"target": target, "split": collected.split, "level": collected.level}
    if target is not None:
        data = data[(data[list(chosen)] == pd.Series(chosen)).all(axis=1)]
    if data.empty:
        return None
    base = alt.Chart(data).transform_calculate(label="replace(format(datum.r2, '.2f'), '-', '−')")
    if target is None:
        targets = data["target"].unique().tolist()
        levels = data["level"].unique().tolist()
        splits: list[str] = [split for split in SPLITS if split in set(data["split"])]
        base = add_menu(base, "target", targets, targets[0])
        base = add_menu(base, "split", splits, collected.split)
        base = add_menu(base, "level", levels, collected.level)
    # Baselines first, then cuts as they were fitted, a stack of all cuts last.
    cuts = sorted(data["cut"].unique(), key=lambda cut: (cut != "none") + (cut == "all"))
    top = alt.Axis(labelAngle=-30, orient="top", labelLimit=160)
    base = base.encode(
        x=alt.X("model:N", title=None, axis=top),
        y=alt.Y("cut:N", title=None, sort=cuts, axis=alt.Axis(labelLimit=260)),
        tooltip=tooltips("model", "cut", "label"),
    )
    # Below 0 a model is worse than the mean, and one colour is enough for that.
    largest = max(0.1, float(data["r2"].max()))
    scale = alt.Scale(scheme="viridis", domain=[0, largest], clamp=True)
    cells = base.mark_rect().encode(color=alt.Color("r2:Q", title="R²", scale=scale))
    text = base.encode(text="label:N")
    bold = text.mark_text(fontSize=12, fontWeight="bold", color="#fff")
    outline = text.mark_text(
        fontSize=12,
        fontWeight="bold",
        stroke="#000",
        strokeWidth=3,
        strokeJoin="round",
        opacity=0.6,
    )
    layers = cells + outline + bold
    return layers.properties(width=alt.Step(72), height=alt.Step(32))


def describe_winners(collected: Collected) -> list[str]:
    """Describe for each target its best cell, what is luck of choosing it, and how many tie."""
    winners = select_reported(collected.winners, collected).set_index("target")
    texts = []
    for target in collected.targets:
        if target not in winners.index:
            continue
        row: Any = winners.loc[target]
        cut = "" if row["best_cut"] in ("none", "all") else f" on {row['best_cut']}"
        n_tied = int(row["n_not_distinguishable"])
        tied = plural(n_tied, "other cell") if n_tied else "no other cell"
        verb = "are" if n_tied > 1 else "is"
        text = (
            f"{target}: the best of {int(row['n_cells'])} cells is {row['best_model']}{cut} with "
            f"R² {row['value']:.2f}; where it was not chosen, about {row['value_corrected']:.2f}; "
            f"{tied} {verb} not distinguishable from it."
        )
        texts.append(text.replace(" -", " −"))
    return texts
