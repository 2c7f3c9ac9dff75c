"""Who beats whom among the cells of one split, target and level, in rows for `comparisons.csv` and `winners.csv`."""

from __future__ import annotations

from typing import Any

import numpy as np

from models.compare import Differences, compare_with, correct_holm, correct_winner, judge, largest_differences
from models.evaluate import Evaluated
from models.family import Floats

Row = dict[str, Any]
COMPARISON_COLUMNS = ("split", "level", "target", "best_cut", "best_model", "cut", "model", "is_baseline", "r2_difference", "low",
                      "high", "p", "p_holm", "verdict", "p_max", "kind", "n", "n_units")
WINNER_COLUMNS = ("split", "level", "target", "best_cut", "best_model", "r2", "r2_corrected", "n_cells", "n_not_distinguishable")
AGAINST_OTHERS, AGAINST_PLACE = "best against other", "pictures against place"


def compare_cells(one: Evaluated) -> tuple[list[Row], list[Row]]:
    """Compare the best cell with every other, and the best that sees pictures alone with the best that sees none.

    Returns
    -------
    comparisons : `COMPARISON_COLUMNS` but for split and target; p_holm of the best is over the other cells, and that of
        `pictures against place` is p, which `judge_rows` corrects over the targets.
    winners : one row of `WINNER_COLUMNS` but for split and target. Both empty for fewer than two cells or units, and where
        R² is not defined.
    """
    r2, n_units = one.scores["r2"], len(one.sums.n)
    if len(r2) < 2 or n_units < 2 or not np.isfinite(r2).all():
        return [], []
    replicates = one.drawn.r2_replicates
    largest, best = largest_differences(replicates), int(np.argmax(r2))
    others = compare_with(best, r2, replicates, largest, n_units=n_units)
    holm = correct_holm(others.p)
    rows = [_row(one, best, i, others, float(holm[i])) for i in range(len(r2)) if i != best]
    rows = [{**row, "verdict": judge(row["r2_difference"], row["p_holm"], row["p_max"])} for row in rows]
    winner = {"level": one.level.name, "best_cut": one.cells[best].cut, "best_model": one.cells[best].model,
              "r2": float(r2[best]), "r2_corrected": correct_winner(one.sums, one.counts, replicates), "n_cells": len(r2),
              "n_not_distinguishable": sum(row["verdict"] != "better" for row in rows)}
    return rows + _against_place(one, r2, largest), [winner]


def _against_place(one: Evaluated, r2: Floats, largest: Floats) -> list[Row]:
    """Compare the best cell that sees pictures and nothing else with the best that sees none; no row without both."""
    pictures = [i for i, cell in enumerate(one.cells) if cell.is_picture]
    blind = [i for i, cell in enumerate(one.cells) if cell.is_baseline]
    if not pictures or not blind:
        return []
    top, base = (max(some, key=lambda i: r2[i]) for some in (pictures, blind))
    differences = compare_with(top, r2, one.drawn.r2_replicates, largest, n_units=len(one.sums.n))
    return [{**_row(one, top, base, differences, float(differences.p[base])), "kind": AGAINST_PLACE}]


def _row(one: Evaluated, best: int, other: int, differences: Differences, p_holm: float) -> Row:
    values = {name: float(value[other]) for name, value in differences._asdict().items()}
    return {"level": one.level.name, "best_cut": one.cells[best].cut, "best_model": one.cells[best].model,
            **one.cells[other]._asdict(), "is_baseline": one.cells[other].is_baseline, "r2_difference": values.pop("difference"),
            **values, "p_holm": p_holm, "kind": AGAINST_OTHERS, "n": len(one.level.truth), "n_units": len(one.sums.n)}


def judge_rows(rows: list[Row]) -> list[Row]:
    """Correct `pictures against place` over the targets of a split and level, and give the verdicts."""
    groups: dict[tuple[str, str], list[int]] = {}
    for i, row in enumerate(rows):
        if row["kind"] == AGAINST_PLACE:
            groups.setdefault((row["split"], row["level"]), []).append(i)
    judged = list(rows)
    for which in groups.values():
        for i, p_holm in zip(which, correct_holm(np.array([rows[i]["p"] for i in which])), strict=True):
            judged[i] = {**rows[i], "p_holm": float(p_holm), "verdict": judge(rows[i]["r2_difference"], p_holm, rows[i]["p_max"])}
    return judged
