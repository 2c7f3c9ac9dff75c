"""How wide the intervals of predictions are, and whether they hold: nominal against measured coverage."""

from __future__ import annotations

import pandas as pd

from reports.data.collect import Collected

SHORT = 0.03  # coverage below nominal by more than that is said


def describe_intervals(collected: Collected) -> str:
    """Describe whether the intervals of predictions for new places hold; decided by the measured coverage alone."""
    rows = collected.coverage.dropna(subset=["coverage"])
    if rows.empty:
        return ""
    short = rows[rows["coverage"] < rows["nominal"] - SHORT]
    said = (
        "Held against areas that had no part in finding them, intervals hold at least their nominal share less "
        f"{100 * SHORT:.0f} points"
    )
    if short.empty:
        n_none = len(collected.coverage) - len(rows)
        none = f" that have a number; {n_none} have none, for want of areas" if n_none else ""
        return (
            f"{said} in all {len(rows)} cases{none}."
            if len(rows) > 1
            else f"{said} in the only case{none}."
        )
    worst = short.iloc[int((short["coverage"] - short["nominal"]).to_numpy().argmin())]
    return (
        f"{said} in {len(rows) - len(short)} of {len(rows)} cases; the widest gap is {100 * worst['coverage']:.1f} % instead "
        f"of {100 * worst['nominal']:.0f} % ({worst['target']}, {worst['level']}s, split {worst['split']})."
    )


def build_interval_table(collected: Collected) -> pd.DataFrame:
    """Return the rows of `coverage.csv`, with `is_short` where coverage is below nominal by more than three points."""
    table = collected.coverage
    return table.assign(is_short=table["coverage"] < table["nominal"] - SHORT)
