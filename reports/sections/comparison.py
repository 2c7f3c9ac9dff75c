"""The comparison as a heat map: R² of cuts and models."""

from __future__ import annotations

import pandas as pd

from reports.data.collect import Collected
from reports.data.formats import format_count, format_number, plural
from reports.data.words import name_model
from reports.sections.charts import Spec, fill_chart, select_finite

ROWS = {"none": "no network", "all": "all cuts"}  # of baselines and stacks
LIGHT_FROM = 0.45  # of the scale: there black on viridis reads better than white


def build_heat(collected: Collected, target: str) -> Spec | None:
    """Draw R² of cuts and models of one target, at the reported split and level."""
    data = _select_cells(collected, target)
    if data.empty:
        return None
    # Baselines first, then cuts as they were fitted, a stack of all cuts last.
    cuts = sorted(data["cut"].unique(), key=["none"].__contains__, reverse=True)
    cuts.sort(key=["all"].__contains__)
    is_baseline = data["cut"] == "none"
    best = data.sort_values("r2", ascending=False, kind="stable")
    models = [*best.loc[is_baseline, "model"].unique(), *best.loc[~is_baseline, "model"].unique()]
    largest = max(0.1, float(data["r2"].max()))
    data = data.assign(
        cut=data["cut"].replace(ROWS),
        label=data["r2"].map(format_number),
        is_light=data["r2"] > LIGHT_FROM * largest,
    )
    return fill_chart(
        "heat",
        cuts=[ROWS.get(cut, cut) for cut in cuts],
        models=models,
        largest=largest,
        datasets={"scores": data},
    )


def _select_cells(collected: Collected, target: str) -> pd.DataFrame:
    rows = collected.select_reported(collected.scores)
    rows = rows.loc[rows["target"] == target, ["model", "cut", "r2"]]
    return select_finite(rows, ["r2"])


def title_heat(collected: Collected, target: str) -> str:
    """Return which cell of a target leads."""
    cells = _select_cells(collected, target)
    best = cells.sort_values("r2").iloc[-1]
    cut = "" if best["cut"] in ("none", "all") else f" on {best['cut']}"
    return f"{name_model(best['model'])}{cut} leads with R² {format_number(best['r2'])}"


def describe_winners(collected: Collected) -> str:
    """Describe on how many targets one cell stands out; empty where nothing was compared."""
    winners = collected.select_reported(collected.winners)
    if winners.empty:
        return ""
    n_tied = winners["n_not_distinguishable"].astype(int)
    tied = sorted(set(n_tied[n_tied > 0]))
    n_alone = int((n_tied == 0).sum())
    indices = plural(len(winners), "index")
    text = f"One cell is better than all others on {n_alone} of {indices}."
    if not n_alone:
        text = f"No cell is better than all others, on any of {indices}."
    if not tied:
        return text
    others = plural(tied[-1], "other")
    if len(tied) > 1:
        others = f"{format_count(tied[0])} to {others}"
    where = "Elsewhere" if n_alone else "Of each index,"
    return f"{text} {where} {others} cannot be told from the best."
