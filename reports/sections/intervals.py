"""Intervals of predictions: nominal against measured coverage."""

from __future__ import annotations

import pandas as pd

from reports.data.collect import Collected
from reports.data.formats import format_percent

TOLERANCE = 0.03  # coverage below nominal by more than that gives a warning


def build_interval_table(collected: Collected) -> pd.DataFrame:
    """Return the rows of coverage.csv, those with `is_short` first.

    `is_short`: the measured coverage is too far below the nominal one.
    """
    table = collected.coverage
    table = table.assign(is_short=table["coverage"] < table["nominal"] - TOLERANCE)
    return table.sort_values("is_short", ascending=False, kind="stable", ignore_index=True)


def describe_intervals(collected: Collected) -> str:
    """Describe whether the intervals reach their nominal coverage; empty without any."""
    table = build_interval_table(collected)
    measured = table.dropna(subset="coverage")
    if measured.empty:
        return ""
    n_cases = len(measured)
    short = measured[measured["is_short"]]
    if short.empty:
        text = f"Intervals hold what they promise in all {n_cases} cases"
    else:
        text = f"Intervals hold what they promise in {n_cases - len(short)} of {n_cases} cases"
    text += ", on areas that had no part in finding them."
    n_unknown = len(table) - n_cases
    if n_unknown:
        text += f" There are too few areas to measure {n_unknown} more."
    if short.empty:
        return text
    gap = short["nominal"] - short["coverage"]
    worst = short.assign(gap=gap).sort_values("gap").iloc[-1]
    return text + (
        f" The widest gap is {format_percent(worst['coverage'])} instead of "
        f"{format_percent(worst['nominal'])} ({worst['target']}, {worst['level']}s, split "
        f"{worst['split']})."
    )
