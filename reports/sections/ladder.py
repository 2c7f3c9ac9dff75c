"""The ladder of splits: R² of each model from the loosest split to the strictest."""

from __future__ import annotations

import altair as alt
import numpy as np
import pandas as pd

from reports.data.collect import Collected
from reports.sections.charts import (
    BLUE,
    LOWEST_R2,
    ORANGE,
    PURPLE,
    add_menu,
    categories,
    name_axis,
    tooltips,
)

COLOURS = {"random": ORANGE, "area": PURPLE, "block": BLUE}  # the loosest first
SHAPES = {"random": "triangle-right", "area": "circle", "block": "square"}
NOTABLE = 0.02  # of R²: splits that differ by less score about the same


def build_ladder_table(collected: Collected) -> pd.DataFrame:
    """Compare the splits for each target and model, at its best cut on the strictest split.

    Returns
    -------
    target, model, cut, is_baseline, R² on each split that was scored (strictest last), and
    `optimism`: by how much the loosest split exceeds the strictest. Empty for a single split.
    """
    scores = collected.scores[collected.scores["level"] == collected.level]
    splits = [split for split in COLOURS if split in set(scores["split"])]
    keys = ["target", "model", "cut", "is_baseline"]
    if len(splits) < 2:
        return pd.DataFrame(columns=[*keys, *splits, "optimism"])
    loosest, *_, strictest = splits
    table = scores.pivot_table(index=keys, columns="split", values="r2")
    table = table.reindex(columns=splits).reset_index()
    order = {target: i for i, target in enumerate(collected.targets)}
    table = table.assign(
        order=table["target"].map(order), optimism=table[loosest] - table[strictest]
    )
    table = table.sort_values(["order", strictest], ascending=[True, False])
    return table.drop_duplicates(["target", "model"]).drop(columns="order").reset_index(drop=True)


def build_ladder(collected: Collected, target: str | None = None) -> alt.LayerChart | None:
    """Draw R² of every model on every split, of one target or of the one that a menu chooses."""
    table = build_ladder_table(collected)
    if target is not None:
        table = table[table["target"] == target]
    if table.empty:
        return None
    colours = {split: colour for split, colour in COLOURS.items() if split in table}
    splits = list(colours)
    label = table["model"].where(~table["is_baseline"].astype(bool), table["model"] + " (baseline)")
    table = table.assign(
        label=label,
        rank=table.groupby("target").cumcount(),
        low=table[splits].min(axis=1).clip(lower=LOWEST_R2),
        high=table[splits].max(axis=1).clip(lower=LOWEST_R2),
    )
    keys = ["target", "label", "cut", "rank", "low", "high", "optimism"]
    long = table.melt(keys, splits, var_name="split", value_name="r2")
    long = long[np.isfinite(long["r2"].astype(float))]
    if long.empty:
        return None
    base = alt.Chart(long.assign(r2=long["r2"].clip(lower=LOWEST_R2)))
    if target is None:
        base = add_menu(base, "target", collected.targets, collected.targets[0])
    title = f"out-of-sample R² of {collected.level}s"
    base = base.encode(y=name_axis("label:N", alt.EncodingSortField("rank", order="ascending")))
    ranges = base.mark_rule(strokeWidth=2, color="#8a949e")
    ranges = ranges.encode(x=alt.X("low:Q", title=title), x2="high:Q")
    points = base.mark_point(filled=True, size=90, opacity=1).encode(
        x=alt.X("r2:Q", title=title, scale=alt.Scale(zero=True)),
        tooltip=tooltips("label", "cut", "split", r2=".3f", optimism=".3f"),
        **categories("split:N", colours, shape=[SHAPES[split] for split in colours]),
    )
    return (ranges + points).properties(width=520, height=alt.Step(24))


def describe_ladder(collected: Collected) -> str | None:
    """Describe by how much looser splits flatter, on average over the targets; None for one split.

    Each target counts with its best model that sees pictures on the strictest split.
    """
    table = build_ladder_table(collected)
    table = table[~table["is_baseline"].astype(bool)].dropna(subset="optimism")
    table = table.drop_duplicates("target")
    if table.empty:
        return None
    splits = [split for split in COLOURS if split in table]
    loosest, *_, strictest = splits
    loose = table[loosest].mean()
    strict = table[strictest].mean()
    if loose - strict <= NOTABLE:
        text = (
            f"The best models score about the same on the split “{loosest}” (R² {loose:.2f} on "
            f"average) and on “{strictest}” ({strict:.2f}): they do not rely on recognising "
            "neighbours."
        )
    else:
        text = (
            f"On the split “{loosest}”, where tiles of one area stand on both sides, the best "
            f"models seem to reach R² {loose:.2f} on average. On “{strictest}” it is "
            f"{strict:.2f}. The difference of {loose - strict:.2f} is recognising neighbours, "
            "not predicting."
        )
    return text.replace("-", "−")
