"""What the results cost: the seconds of each stage and fit, and which cells are worth them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from reports.data.collect import Collected
from reports.data.formats import format_figures, format_number, plural
from reports.data.words import name_model
from reports.sections.charts import LOWEST_R2, Spec, fill_chart

NEAR = 0.02  # of R²: a cell that close to the best is as good


def build_cost(collected: Collected) -> Spec | None:
    """Draw seconds of each stage of each backbone, and of all fits of each model."""
    stages = collected.stages.rename(columns={"stage": "part"})
    stages = stages[stages["part"] != "total"]
    runs = collected.runs[["model", "seconds"]]
    table = pd.concat(
        [
            stages.assign(what="features: " + stages["backbone"]),
            runs.assign(what="models: " + runs["model"], part="fit"),
        ]
    )
    seconds = table.groupby(["what", "part"])["seconds"].sum().reset_index()
    if not seconds["seconds"].any():
        return None
    return fill_chart("cost", datasets={"seconds": seconds})


def build_pareto_table(collected: Collected) -> pd.DataFrame:
    """Compare seconds and mean R² over the targets of each cell on the split held out farthest.

    Returns
    -------
    cut, model, seconds (of all targets), r2, and is_front: no other cell is both at least as
    quick and better. Quickest first.
    """
    scores = collected.select_reported(collected.scores)
    cells = scores.groupby(["cut", "model"], as_index=False)
    table = cells.agg(
        seconds=("fit_seconds", "sum"),
        r2=("r2", "mean"),
    )
    table = table[np.isfinite(table["r2"]) & (table["seconds"] > 0)]
    table = table.sort_values(["seconds", "r2"], ascending=[True, False], ignore_index=True)
    best_before = table["r2"].cummax().shift(fill_value=-np.inf)
    return table.assign(is_front=table["r2"] > best_before)


def build_pareto(collected: Collected) -> Spec | None:
    """Draw R² against seconds of every cell, and a line through those on the front."""
    table = build_pareto_table(collected)
    if len(table) < 2:
        return None
    words = {True: "unbeaten", False: "another is quicker and better"}
    table["front"] = table["is_front"].map(words)
    table["drawn"] = table["r2"].clip(lower=LOWEST_R2)
    table = table.sort_values("is_front", kind="stable")  # the front is drawn over the others
    table["beyond"] = np.where(table["r2"] < LOWEST_R2, "▾", "")
    return fill_chart("pareto", datasets={"cells": table})


def title_pareto(collected: Collected) -> str:
    """Return which cell is quickest among those about as good as the best, and what is not drawn
    to scale.
    """
    table = build_pareto_table(collected)
    best = table.sort_values("r2").iloc[-1]
    quick = table[table["r2"] >= best["r2"] - NEAR].iloc[0]
    text = f"{name_model(best['model'])} has the best mean R² ({_describe_cell(best)})"
    if quick.name != best.name:
        text += f"; {name_model(quick['model'])} comes close in less time ({_describe_cell(quick)})"
    beyond = table[table["r2"] < LOWEST_R2]
    if beyond.empty:
        return text
    lowest = format_number(beyond["r2"].min())
    edge = format_number(LOWEST_R2, 1)
    return f"{text}. ▾ {plural(len(beyond), 'cell')} below {edge}, down to {lowest}"


def _describe_cell(cell: pd.Series) -> str:
    return f"{format_number(cell['r2'])} in {format_figures(cell['seconds'], 2)}\u202fs"


def title_cost(collected: Collected) -> str:
    """Return which model's fits took longest, beside all fits and the extraction."""
    by_model = collected.runs.groupby("model")["seconds"].sum()
    longest = str(by_model.idxmax())
    text = (
        f"{longest} took {format_figures(by_model[longest])} of "
        f"{format_figures(by_model.sum())}\u202fs of fitting"
    )
    stages = collected.stages
    seconds = stages.loc[stages["stage"] != "total", "seconds"].sum()
    return f"{text}, the embeddings {format_figures(seconds)}\u202fs" if seconds else text
