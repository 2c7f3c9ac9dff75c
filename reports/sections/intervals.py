"""Intervals of predictions: nominal against measured coverage."""

from __future__ import annotations

import pandas as pd

from reports.data.collect import Collected

TOLERANCE = 0.03  # coverage below nominal by more than that gives a warning


def describe_intervals(collected: Collected) -> str:
    """Describe whether the intervals reach their nominal coverage; empty without any."""
    table = build_interval_table(collected)
    measured = table.dropna(subset="coverage")
    if measured.empty:
        return ""
    text = (
        "On areas that had no part in finding them, intervals hold at least their nominal share "
        f"less {100 * TOLERANCE:.0f} points"
    )
    n = len(measured)
    short = measured[measured["is_short"]]
    if len(short):
        gap = (short["coverage"] - short["nominal"]).to_numpy()
        worst = short.iloc[int(gap.argmin())]
        return (
            f"{text} in {n - len(short)} of {n} cases; the widest gap is "
            f"{100 * worst['coverage']:.1f} % instead of {100 * worst['nominal']:.0f} % "
            f"({worst['target']}, {worst['level']}s, split {worst['split']})."
        )
    text += f" in all {n} cases" if n > 1 else " in the only case"
    if n < len(table):
        text += f" that have a number; {len(table) - n} have none, for want of areas"
    return text + "."


def build_interval_table(collected: Collected) -> pd.DataFrame:
    """Return the rows of coverage.csv with `is_short`, where coverage is too far below nominal."""
    table = collected.coverage
    return table.assign(is_short=table["coverage"] < table["nominal"] - TOLERANCE)
