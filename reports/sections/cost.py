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
    of_stages = stages.assign(what="features: " + stages["backbone"])
    of_fits = runs.assign(what="models: " + runs["model"], part="fit")
    table = pd.concat([of_stages, of_fits])
    by_part = table.groupby(["what", "part"])
    seconds = by_part["seconds"].sum().reset_index()
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
    is_scored = np.isfinite(table["r2"])
    is_timed = table["seconds"] > 0
    table = table[is_scored & is_timed]
    table = table.sort_values(["seconds", "r2"], ascending=[True, False], ignore_index=True)
    best_so_far = table["r2"].cummax()
    best_before = best_so_far.shift(fill_value=-np.inf)
    is_front = table["r2"] > best_before
    return table.assign(is_front=is_front)


def build_pareto(collected: Collected) -> Spec | None:
    """Draw R² against seconds of every cell, and a line through those on the front."""
    table = build_pareto_table(collected)
    if len(table) < 2:
        return None
    words = {True: "unbeaten", False: "another is quicker and better"}
    table["front"] = table["is_front"].map(words)
    table["drawn"] = table["r2"].clip(lower=LOWEST_R2)
    table = table.sort_values("is_front", kind="stable")  # the front is drawn over the others
    is_beyond = table["r2"] < LOWEST_R2
    table["beyond"] = np.where(is_beyond, "▾", "")
    return fill_chart("pareto", datasets={"cells": table})


def title_pareto(collected: Collected) -> str:
    """Return which cell is quickest among those about as good as the best, and what is not drawn
    to scale.
    """
    table = build_pareto_table(collected)
    best = table.sort_values("r2").iloc[-1]
    is_near = table["r2"] >= best["r2"] - NEAR
    quick = table[is_near].iloc[0]
    best_name = name_model(best["model"])
    text = f"{best_name} has the best mean R² ({_describe_cell(best)})"
    if quick.name != best.name:
        quick_name = name_model(quick["model"])
        text += f"; {quick_name} comes close in less time ({_describe_cell(quick)})"
    is_beyond = table["r2"] < LOWEST_R2
    if not is_beyond.any():
        return text
    n_beyond = plural(int(is_beyond.sum()), "cell")
    lowest = format_number(table["r2"].min())
    edge = format_number(LOWEST_R2, 1)
    return f"{text}. ▾ {n_beyond} below {edge}, down to {lowest}"


def _describe_cell(cell: pd.Series) -> str:
    r2 = format_number(cell["r2"])
    seconds = format_figures(cell["seconds"], 2)
    return f"{r2} in {seconds}\u202fs"


def title_cost(collected: Collected) -> str:
    """Return which model's fits took longest, beside all fits and the extraction."""
    by_model = collected.runs.groupby("model")["seconds"].sum()
    longest = str(by_model.idxmax())
    of_longest = format_figures(by_model[longest])
    of_all = format_figures(by_model.sum())
    text = f"{longest} took {of_longest} of {of_all}\u202fs of fitting"
    stages = collected.stages
    is_part = stages["stage"] != "total"
    seconds = stages.loc[is_part, "seconds"].sum()
    if not seconds:
        return text
    return f"{text}, the embeddings {format_figures(seconds)}\u202fs"
