"""The comparison as a heat map: R² of cuts × models, for the target, split and level that the menus say."""

from __future__ import annotations

import altair as alt
import numpy as np
import pandas as pd

from reports.data.collect import SPLITS, Collected


def build_heat(collected: Collected, target: str | None = None) -> alt.LayerChart | None:
    """Draw R² of cuts × models with menus, or for one target alone at the reported split and level."""
    data = collected.scores[["target", "split", "level", "cut", "model", "r2"]]
    data = data[np.isfinite(data["r2"])]
    if target is not None:
        data = data[
            (data["target"] == target)
            & (data["split"] == collected.split)
            & (data["level"] == collected.level)
        ]
    if data.empty:
        return None
    base = alt.Chart(data).transform_calculate(label="replace(format(datum.r2, '.2f'), '-', '−')")
    if target is None:
        for field, first in (
            ("target", data["target"].iloc[0]),
            ("split", collected.split),
            ("level", collected.level),
        ):
            menu = alt.param(
                f"menu_{field}",
                bind=alt.binding_select(options=_options(data, field), name=f"{field} "),
                value=first,
            )
            base = base.add_params(menu).transform_filter(f"datum.{field} === menu_{field}")
    base = base.encode(
        x=alt.X("model:N", title=None, axis=alt.Axis(labelAngle=-30, orient="top", labelLimit=160)),
        y=alt.Y("cut:N", title=None, sort=_cuts(data), axis=alt.Axis(labelLimit=260)),
        tooltip=["model:N", "cut:N", "label:N"],
    )
    # Below 0 a model is worse than the mean: one colour is enough for that.
    scale = alt.Scale(scheme="viridis", domain=[0, max(0.1, float(data["r2"].max()))], clamp=True)
    cells = base.mark_rect().encode(color=alt.Color("r2:Q", title="R²", scale=scale))
    halo = base.mark_text(
        fontSize=12,
        fontWeight="bold",
        stroke="#000",
        strokeWidth=3,
        strokeJoin="round",
        opacity=0.6,
    )
    text = base.mark_text(fontSize=12, fontWeight="bold", color="#fff").encode(text="label:N")
    return (cells + halo.encode(text="label:N") + text).properties(
        width=alt.Step(72), height=alt.Step(32)
    )


def _options(data: pd.DataFrame, field: str) -> list[str]:
    known = list(dict.fromkeys(data[field]))
    return (
        [s for s in SPLITS if s in known] + [s for s in known if s not in SPLITS]
        if field == "split"
        else known
    )


def _cuts(data: pd.DataFrame) -> list[str]:
    """Baselines first, then as they were fitted; a stack of all cuts last."""
    known = list(dict.fromkeys(data["cut"]))
    return (
        [c for c in ("none",) if c in known]
        + [c for c in known if c not in ("none", "all")]
        + [c for c in ("all",) if c in known]
    )
