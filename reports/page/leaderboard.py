"""The leaderboard: every cell, by target and split, the best first; as a table and as files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from models.evaluation.comparisons import AGAINST_OTHERS
from reports.data.collect import SPLITS, Collected
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
    """Return one row a cell: by target, strictest split first, then by R² at the reported level, NaN last.

    `verdict` says how a cell stands to the best of its target and split: `best`, `worse`, `not distinguishable`, or nothing
    where they were not compared.
    """
    keys = ["split", "cut", "model", "target"]
    scores = collected.scores
    tile = scores.loc[scores["level"] == "tile", [*keys, "r2"]].rename(columns={"r2": "r2_tile"})
    rows = scores[scores["level"] == collected.level].merge(
        tile.drop_duplicates(keys), on=keys, how="left"
    )
    rows["target_order"] = rows["target"].map(collected.targets.index)
    return _rank(rows, ["target_order"], "r2", collected)[COLUMNS]


def build_class_leaderboard(collected: Collected) -> pd.DataFrame:
    """Return one row a cell of the targets that are classes, by balanced accuracy."""
    scores = collected.class_scores
    rows = scores[scores["level"] == collected.level]
    return _rank(rows, ["target"], "balanced_accuracy", collected)[CLASS_COLUMNS]


def _rank(rows: pd.DataFrame, targets: list[str], score: str, collected: Collected) -> pd.DataFrame:
    """Sort by target, strictest split and score, and add `rank` and `verdict`."""
    strictness = {name: i for i, name in enumerate(SPLITS)}
    rows = rows.assign(strictness=rows["split"].map(strictness).fillna(len(SPLITS)))
    keys = [*targets, "strictness", "split", score]
    rows = rows.sort_values(keys, ascending=[True, True, True, False], kind="stable")
    rows["rank"] = rows.groupby(["target", "split"]).cumcount() + 1
    verdicts = name_verdicts(rows, collected)
    return rows.assign(verdict=verdicts).reset_index(drop=True)


def name_verdicts(rows: pd.DataFrame, collected: Collected) -> list[str]:
    """Describe how each cell stands to the best of its target and split."""
    compared = collected.comparisons
    compared = compared[
        (compared["kind"] == AGAINST_OTHERS) & (compared["level"] == collected.level)
    ]
    against: list[dict[Any, Any]] = compared.to_dict("records")
    words = {"better": "worse"}  # the file says what the best is, the table what the row is
    known = {
        (r["split"], r["target"], r["cut"], r["model"]): words.get(
            str(r["verdict"]), str(r["verdict"])
        )
        for r in against
    }
    known |= {(r["split"], r["target"], r["best_cut"], r["best_model"]): "best" for r in against}
    return [
        known.get(tuple(key), "")
        for key in rows[["split", "target", "cut", "model"]].to_numpy().tolist()
    ]


def write_leaderboard(board: pd.DataFrame, folder: Path) -> None:
    """Write `leaderboard.csv` (all digits), `.md` and `.tex` (three decimals)."""
    board.to_csv(folder / "leaderboard.csv", index=False)
    text = board.map(format_value)
    (folder / "leaderboard.md").write_text(render_markdown(text), encoding="utf-8")
    (folder / "leaderboard.tex").write_text(render_latex(text), encoding="utf-8")


def render_markdown(text: pd.DataFrame) -> str:
    """Return a GitHub table; `|` and `<` in names cannot break out of their cells."""
    rows = [list(text.columns), ["---"] * text.shape[1], *text.to_numpy().tolist()]
    escaped = (
        [c.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ") for c in row] for row in rows
    )
    return "".join(f"| {' | '.join(row)} |\n" for row in escaped)


def render_latex(text: pd.DataFrame) -> str:
    """Return a booktabs `tabular`, with the characters that TeX reads as commands escaped."""
    rows = [
        " & ".join(map(_tex, row)) + r" \\"
        for row in [list(text.columns), *text.to_numpy().tolist()]
    ]
    lines = [
        r"\begin{tabular}{" + "l" * text.shape[1] + "}",
        r"\toprule",
        rows[0],
        r"\midrule",
        *rows[1:],
        r"\bottomrule",
        r"\end{tabular}",
        "",
    ]
    return "\n".join(lines)


def _tex(text: str) -> str:
    special = {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "−": "$-$",
        "–": "--",
        **{c: "\\" + c for c in "&%$#_{}"},
    }
    return "".join(special.get(c, c) for c in text)
