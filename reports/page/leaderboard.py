"""Rank every cell by target and split, and write the leaderboard's files."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from models.evaluation.comparisons import AGAINST_OTHERS
from models.settings import STRICTNESS
from reports.data.collect import Collected
from reports.data.formats import format_value

CLASS_COLUMNS = [
    "target",
    "split",
    "rank",
    "model",
    "cut",
    "balanced_accuracy",
    "balanced_accuracy_low",
    "balanced_accuracy_high",
    "accuracy",
    "f1_macro",
    "log_loss",
    "n",
    "fit_seconds",
    "verdict",
]
COLUMNS = [
    "target",
    "split",
    "rank",
    "model",
    "cut",
    "verdict",
    "r2",
    "r2_low",
    "r2_high",
    "rmse",
    "nrmse",
    "mae",
    "spearman",
    "calibration_slope",
    "r2_training_mean",
    "r2_tile",
    "n",
    "fit_seconds",
]


def build_leaderboard(collected: Collected) -> pd.DataFrame:
    """Return one row a cell: by target, strictest split first, then by R², NaN last.

    `verdict` is how a cell compares to the best of its target and split: `best`, `worse`,
    `not distinguishable`, or empty where they were not compared.
    """
    keys = ["split", "cut", "model", "target"]
    scores = collected.scores
    tile = scores.loc[scores["level"] == "tile", [*keys, "r2"]].drop_duplicates(keys)
    rows = scores[scores["level"] == collected.level]
    rows = rows.merge(tile.rename(columns={"r2": "r2_tile"}), on=keys, how="left")
    return _rank(rows, "r2", collected.targets, collected)[COLUMNS]


def build_class_leaderboard(collected: Collected) -> pd.DataFrame:
    """Return one row a cell of the targets that are classes, by balanced accuracy."""
    scores = collected.class_scores
    rows = scores[scores["level"] == collected.level]
    targets = sorted(set(rows["target"]))
    return _rank(rows, "balanced_accuracy", targets, collected)[CLASS_COLUMNS]


def _rank(rows: pd.DataFrame, score: str, targets: list[str], collected: Collected) -> pd.DataFrame:
    """Sort by target, strictest split and score, and add `rank` and `verdict`."""
    order = rows.assign(
        target=rows["target"].map(targets.index),
        strictness=rows["split"].map(STRICTNESS.index),
    )
    keys = ["target", "strictness", score]
    order = order.sort_values(keys, ascending=[True, False, False], kind="stable")
    rows = rows.loc[order.index].reset_index(drop=True)
    rows["rank"] = rows.groupby(["target", "split"]).cumcount() + 1
    return rows.assign(verdict=_list_verdicts(rows, collected))


def _list_verdicts(rows: pd.DataFrame, collected: Collected) -> list[str]:
    """Return how each cell compares to the best of its target and split."""
    pairs = collected.comparisons
    is_asked = (pairs["kind"] == AGAINST_OTHERS) & (pairs["level"] == collected.level)
    pairs = pairs[is_asked]
    # The file has the best cell's verdict, the leaderboard that of the other.
    verdicts = pairs["verdict"].replace("better", "worse")
    others = pairs[["split", "target", "cut", "model"]].itertuples(index=False, name=None)
    best = pairs[["split", "target", "best_cut", "best_model"]].itertuples(index=False, name=None)
    known = dict(zip(others, verdicts, strict=True)) | dict.fromkeys(best, "best")
    cells = rows[["split", "target", "cut", "model"]].itertuples(index=False, name=None)
    return [known.get(cell, "") for cell in cells]


def write_leaderboard(board: pd.DataFrame, folder: Path) -> None:
    """Write `leaderboard.csv` (all digits), `.md` and `.tex` (three decimals)."""
    board.to_csv(folder / "leaderboard.csv", index=False)
    text = board.map(format_value)
    (folder / "leaderboard.md").write_text(render_markdown(text), encoding="utf-8")
    (folder / "leaderboard.tex").write_text(render_latex(text), encoding="utf-8")


def render_markdown(text: pd.DataFrame) -> str:
    """Return a GitHub table; `|` and `<` in names are escaped."""
    escapes = str.maketrans({"|": "\\|", "<": "&lt;", "\n": " "})
    rows = [list(text.columns), ["---"] * text.shape[1], *text.to_numpy().tolist()]
    escaped = ([cell.translate(escapes) for cell in row] for row in rows)
    return "".join(f"| {' | '.join(row)} |\n" for row in escaped)


def render_latex(text: pd.DataFrame) -> str:
    """Return a booktabs `tabular`, with TeX's special characters escaped."""
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    special |= {"−": "$-$", "–": "--"} | {c: "\\" + c for c in "&%$#_{}"}
    escapes = str.maketrans(special)
    rows = [list(text.columns), *text.to_numpy().tolist()]
    head, *body = (" & ".join(cell.translate(escapes) for cell in row) + r" \\" for row in rows)
    begin = r"\begin{tabular}{" + "l" * text.shape[1] + "}"
    lines = [begin, r"\toprule", head, r"\midrule", *body, r"\bottomrule", r"\end{tabular}", ""]
    return "\n".join(lines)
