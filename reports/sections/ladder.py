"""The ladder of splits: what each model seems to be worth when its neighbours are seen, and when they are not."""

from __future__ import annotations

from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from reports.data.collect import SPLITS, Collected

# Okabe and Ito 2008, "Color Universal Design"; each split has a shape of its own as well.
MARKS = {
    "random": ("#D55E00", "triangle-right"),
    "area": ("#CC79A7", "circle"),
    "block": ("#0072B2", "square"),
}


def build_ladder_table(collected: Collected) -> pd.DataFrame:
    """Return one row a target and model, at its best cut on the strictest split.

    Returns
    -------
    target, model, cut, is_baseline, one R² column for each split that was scored (strictest last), and `optimism`: by how
    much the loosest split exceeds the strictest. Empty where one split was scored.
    """
    scores = collected.scores[collected.scores["level"] == collected.level]
    splits = [s for s in reversed(SPLITS) if s in set(scores["split"])]
    keys = ["target", "model", "cut"]
    if len(splits) < 2:
        return pd.DataFrame({name: [] for name in (*keys, "is_baseline", *splits, "optimism")})
    strict = scores[scores["split"] == splits[-1]].sort_values(
        "r2", ascending=False, na_position="last"
    )
    best = strict.drop_duplicates(["target", "model"])[[*keys, "is_baseline"]]
    wide = scores.pivot_table(index=keys, columns="split", values="r2", aggfunc="first")[
        splits
    ].reset_index()
    table = best.merge(wide, on=keys, how="left")
    table["optimism"] = table[splits[0]] - table[splits[-1]]
    order = {t: i for i, t in enumerate(collected.targets)}
    table = table.sort_values(
        ["target", splits[-1]], key=lambda c: c.map(order) if c.name == "target" else -c
    )
    return table.reset_index(drop=True)


def build_ladder(collected: Collected, target: str | None = None) -> alt.LayerChart | None:
    """Draw R² of every model on every split, the strictest on top of the order; with a menu, or for one target alone."""
    table = build_ladder_table(collected)
    table = table if target is None else table[table["target"] == target]
    splits = [c for c in table.columns if c in SPLITS]
    if table.empty or table[splits].isna().all(axis=None):
        return None
    rank = table.groupby("target").cumcount()
    label = table["model"].where(~table["is_baseline"], table["model"] + " (no network)")
    data = table.assign(
        rank=rank, label=label, low=table[splits].min(axis=1), high=table[splits].max(axis=1)
    )
    long = data.melt(
        ["target", "label", "cut", "rank", "low", "high", "optimism"],
        splits,
        var_name="split",
        value_name="r2",
    )
    base = alt.Chart(_worth_drawing(long))
    if target is None:
        menu = alt.param(
            "ladder_target",
            bind=alt.binding_select(options=collected.targets, name="target "),
            value=collected.targets[0],
        )
        base = base.add_params(menu).transform_filter("datum.target === ladder_target")
    rows = alt.Y(
        "label:N",
        sort=alt.EncodingSortField("rank", order="ascending"),
        title=None,
        axis=alt.Axis(labelLimit=240),
    )
    title = f"R² of {collected.level}s that the model has not seen"
    rule = base.mark_rule(strokeWidth=2, color="#8a949e").encode(
        y=rows, x=alt.X("low:Q", title=title), x2="high:Q"
    )
    dots = base.mark_point(filled=True, size=90, opacity=1).encode(
        y=rows,
        x=alt.X("r2:Q", title=title, scale=alt.Scale(zero=True)),
        color=alt.Color(
            "split:N", title="split", scale=_scale(splits, 0), legend=alt.Legend(orient="top")
        ),
        shape=alt.Shape("split:N", title="split", scale=_scale(splits, 1)),
        tooltip=[
            "label:N",
            "cut:N",
            "split:N",
            alt.Tooltip("r2:Q", format=".3f"),
            alt.Tooltip("optimism:Q", format=".3f"),
        ],
    )
    return (rule + dots).properties(width=520, height=alt.Step(24))


def _worth_drawing(long: pd.DataFrame) -> pd.DataFrame:
    """Leave out what is not a number, and draw what is far below the mean at −0.5: one place is enough for that."""
    clipped = long.assign(**{c: long[c].clip(lower=-0.5) for c in ("low", "high", "r2")})
    return clipped[np.isfinite(clipped["r2"])]


def _scale(splits: list[str], which: int) -> alt.Scale:
    return alt.Scale(domain=splits, range=[MARKS[s][which] for s in splits])


def describe_ladder(collected: Collected) -> str | None:
    """Describe by how much looser splits flatter; None where one split was scored.

    The mean is over the targets of the best picture model on the strictest split.
    """
    table = build_ladder_table(collected)
    table = (
        table[~table["is_baseline"].astype(bool)]
        .dropna(subset=["optimism"])
        .drop_duplicates("target")
    )
    if table.empty:
        return None
    splits: list[Any] = [c for c in table.columns if c in SPLITS]
    loose = table[splits[0]].mean()
    strict = table[splits[-1]].mean()
    if loose - strict <= 0.02:
        return (
            f"The best models score about the same on the split “{splits[0]}” (R² {loose:.2f} on average) and on "
            f"“{splits[-1]}” ({strict:.2f}): they do not live on recognising neighbours."
        )
    return (
        f"On the split “{splits[0]}”, where tiles of one area stand on both sides, the best models seem to reach R² "
        f"{loose:.2f} on average; on “{splits[-1]}” it is {strict:.2f}. The difference of {loose - strict:.2f} is "
        "recognising neighbours, not predicting."
    ).replace("-", "−")
