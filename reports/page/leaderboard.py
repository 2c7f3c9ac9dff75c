"""Rank every cell by target and split, and write the leaderboard's files."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from extract.files.atomic import write_atomically
from extract.tables.spreadsheets import quote_formulas
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
    """Return one row a cell: by target, split held out farthest first, then by R², NaN last.

    `verdict` is how a cell compares to the best of its target and split: `best`, `worse`,
    `not distinguishable`, or empty where they were not compared.
    """
    keys = ["split", "cut", "model", "target"]
    scores = collected.scores
    tile = scores.loc[scores["level"] == "tile", [*keys, "r2"]].drop_duplicates(keys)
    tile = tile.rename(columns={"r2": "r2_tile"})
    ranked = _rank(scores, "r2", collected)
    return ranked.merge(tile, on=keys, how="left")[COLUMNS]


def build_class_leaderboard(collected: Collected) -> pd.DataFrame:
    """Return one row a cell of the targets that are classes, by balanced accuracy."""
    return _rank(collected.class_scores, "balanced_accuracy", collected)[CLASS_COLUMNS]


def _rank(scores: pd.DataFrame, score: str, collected: Collected) -> pd.DataFrame:
    """Sort by target, farthest split and score, and add `rank` and `verdict`."""
    rows = scores[scores["level"] == collected.level]
    rows = rows.assign(
        order=rows["target"].map(collected.all_targets.index),
        strictness=rows["split"].map(STRICTNESS.index),
    )
    keys = ["order", "strictness", score]
    ascending = [True, False, False]
    rows = rows.sort_values(keys, ascending=ascending, kind="stable", ignore_index=True)
    rows["rank"] = rows.groupby(["target", "split"]).cumcount() + 1
    cells = rows[["split", "target", "cut", "model"]].itertuples(index=False, name=None)
    known = _read_verdicts(collected)
    return rows.assign(verdict=[known.get(cell, "") for cell in cells])


def _read_verdicts(collected: Collected) -> dict[tuple[str, ...], str]:
    """Return how each (split, target, cut, model) compares to the best of its target and split."""
    pairs = collected.comparisons
    is_asked = (pairs["kind"] == AGAINST_OTHERS) & (pairs["level"] == collected.level)
    known: dict[tuple[str, ...], str] = {}
    for pair in pairs[is_asked].to_dict("records"):
        place = (pair["split"], pair["target"])
        known[*place, pair["best_cut"], pair["best_model"]] = "best"
        # The file has the best cell's verdict, the leaderboard that of the other.
        verdict = pair["verdict"]
        known[*place, pair["cut"], pair["model"]] = "worse" if verdict == "better" else verdict
    return known


def write_leaderboard(board: pd.DataFrame, folder: Path) -> None:
    """Write `leaderboard.csv` (all digits), `.md` and `.tex` (three decimals)."""
    text = board.map(format_value)
    contents = {
        "csv": quote_formulas(board).to_csv(index=False),
        "md": render_markdown(text),
        "tex": text.to_latex(index=False, escape=True),
    }
    for suffix, content in contents.items():
        with write_atomically(folder / f"leaderboard.{suffix}") as partial:
            partial.write_text(content, encoding="utf-8")


def render_markdown(text: pd.DataFrame) -> str:
    """Return a GitHub table; `|` and `<` in names are escaped."""
    escapes = str.maketrans({"|": "\\|", "<": "&lt;", "\n": " "})
    rows = [list(text.columns), ["---"] * text.shape[1], *text.to_numpy().tolist()]
    lines = [" | ".join(cell.translate(escapes) for cell in row) for row in rows]
    return "".join(f"| {line} |\n" for line in lines)
