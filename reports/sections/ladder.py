"""The ladder of splits: R² of each model from the loosest split to the farthest."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from reports.data.collect import Collected
from reports.data.formats import format_number
from reports.data.words import name_model
from reports.sections.charts import Spec, clip_r2, fill_chart

COLOURS = {  # the loosest first
    "random": "#D55E00",
    "area": "#CC79A7",
    "knndm": "#E69F00",
    "block": "#0072B2",
    "group": "#009E73",
}
SHAPES = {
    "random": "triangle-right",
    "area": "circle",
    "knndm": "triangle-up",
    "block": "square",
    "group": "diamond",
}
NOTABLE = 0.02  # of R²: splits that differ by less score about the same
SHARED = "On “random”, tiles of one area stand on both sides and share their label."
FAR = {
    "knndm": "On “knndm”, areas lie as far from training tiles as the places to be predicted.",
    "block": (
        "On “block”, training tiles lie farther away; extrapolation and chance play a part too."
    ),
    "group": "On “group”, no area of the same group is trained on; groups may differ in kind.",
}


class Ladder(NamedTuple):
    """R² by split.

    Attributes
    ----------
    splits : those that were scored, the loosest first.
    table : target, model, cut, is_baseline, R² on each split, and `optimism`: by how much the
        loosest exceeds the farthest. One row a target and model, at its best cut on the farthest
        split.
    """

    splits: list[str]
    table: pd.DataFrame


def build_ladder_table(collected: Collected) -> Ladder:
    """Compare the splits for each target and model; empty for a single split.

    `optimism` is NaN for models of areas where tiles are held out at random: there the areas are
    in training too, so that it is another model.
    """
    scores = collected.scores[collected.scores["level"] == collected.level]
    splits = [split for split in COLOURS if split in set(scores["split"])]
    keys = ["target", "model", "cut", "is_baseline"]
    if len(splits) < 2:
        return Ladder(splits, pd.DataFrame(columns=[*keys, *splits, "optimism"]))
    table = scores.pivot_table(
        index=keys,
        columns="split",
        values="r2",
        observed=True,
    )
    table = table.reindex(columns=splits)
    table = table.reset_index()
    loosest, *_, farthest = splits
    table["optimism"] = table[loosest] - table[farthest]
    if loosest == "random":
        of_areas = table["model"].str.contains("@area", regex=False)
        table["optimism"] = table["optimism"].mask(of_areas)
    table["order"] = table["target"].map(collected.targets.index)
    table = table.sort_values(["order", farthest], ascending=[True, False])
    table = table.drop_duplicates(["target", "model"], ignore_index=True)
    table = table.drop(columns="order")
    return Ladder(splits, table)


def build_ladder(collected: Collected, target: str) -> Spec | None:
    """Draw R² of every model on every split, of one target."""
    splits, table = build_ladder_table(collected)
    table = table[table["target"] == target]
    if table.empty:
        return None
    table = table.assign(
        label=table["model"].map(name_model),
        rank=range(len(table)),
        low=table[splits].min(axis=1),
        high=table[splits].max(axis=1),
    )
    keys = ["label", "cut", "rank", "low", "high"]
    long = table.melt(keys, splits, var_name="split", value_name="r2")
    long = long[np.isfinite(long["r2"].astype(float))]
    if long.empty:
        return None
    long = clip_r2(long)
    long["beyond"] = long["beyond"].where(long["r2"] == long["low"], "")
    return fill_chart(
        "ladder",
        splits=splits,
        colours=[COLOURS[split] for split in splits],
        shapes=[SHAPES[split] for split in splits],
        title=f"R² of {collected.level}s that were held out (right is better)",
        datasets={"scores": long},
    )


def title_ladder(collected: Collected, target: str) -> str:
    """Return what the picture of one target's ladder shows."""
    splits, table = build_ladder_table(collected)
    is_baseline = table["is_baseline"].astype(bool)
    rows = table[(table["target"] == target) & ~is_baseline]
    if rows.empty:
        return "R² of the baselines by split"
    best = rows.iloc[0]
    loosest, *_, farthest = (f"{format_number(float(best[s]))} on “{s}”" for s in splits)
    return f"R² of {best['model']}: {loosest}, {farthest}"


def describe_ladder(collected: Collected) -> str | None:
    """Describe by how much looser splits score higher, on average over the targets.

    Each target counts with its best model that sees pictures on the farthest split, and whose
    splits can be compared. No cause is claimed. None for one split, or where the loosest R² is not
    positive: then there is nothing to lose.
    """
    splits, table = build_ladder_table(collected)
    table = table[~table["is_baseline"].astype(bool)].dropna(subset="optimism")
    table = table.drop_duplicates("target")
    if table.empty:
        return None
    loosest, *_, farthest = splits
    loose = float(table[loosest].mean())
    strict = float(table[farthest].mean())
    if loose <= 0:
        return "No split gives the best models a positive R², on average over the indices."
    levels = (
        f"R² of the best models is {format_number(loose)} on “{loosest}” and "
        f"{format_number(strict)} on “{farthest}”, on average over the indices."
    )
    if loose - strict <= NOTABLE:
        return levels + " The way of holding out makes little difference here."
    cause = SHARED if loosest == "random" else ""
    distance = FAR.get(farthest, "")
    return " ".join(part for part in (levels, cause, distance) if part)
