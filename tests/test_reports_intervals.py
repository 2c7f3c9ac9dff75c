"""The sentence about intervals follows the measured coverage."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pandas as pd

from models.uncertainty.coverage import COLUMNS
from reports.sections.intervals import build_interval_table, describe_intervals


def made(*coverage: float) -> Any:
    rows = [
        ("block", "net/last:avg", "ridge", f"t{i}", "area", 0.95, c, 30, 2.0)
        for i, c in enumerate(coverage)
    ]
    return SimpleNamespace(coverage=pd.DataFrame(rows, columns=list(COLUMNS)))


def test_intervals_that_hold_are_said_to_hold() -> None:
    assert "in all 2 cases" in describe_intervals(made(0.93, 0.97))


def test_the_widest_gap_is_named_and_its_row_marked() -> None:
    collected = made(0.93, 0.7, 0.9)
    assert (
        "The widest gap is 70\u202f% instead of 95\u202f% (t1, areas, split block)."
        in describe_intervals(collected)
    )
    assert build_interval_table(collected)["target"].tolist() == ["t1", "t2", "t0"]


def test_without_coverage_there_is_no_section() -> None:
    assert describe_intervals(made()) == ""
