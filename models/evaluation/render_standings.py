"""How the table of one target is drawn in a terminal, and what is said below it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich import box
from rich.table import Table
from rich.text import Text

from models.evaluation.bootstrap import REPLICATES
from models.evaluation.comparisons import AGAINST_PLACE, FUSED_PICTURES, FUSED_PLACE
from models.evaluation.standings import BALANCED, select_rows
from models.settings import STRICTNESS
from models.store.score_tables import read_table

HELD_OUT = {
    "random": "single tiles were held out, others of their area trained on. Too optimistic.",
    "area": "whole areas were held out. Neighbouring areas were trained on.",
    "knndm": "areas were held out as far from training as the places to be predicted.",
    "block": "whole blocks of the map were held out, with the areas in them.",
    "group": "whole groups of areas were held out, as cities or districts.",
}
UNITS = {
    "random": "areas",
    "area": "areas",
    "knndm": "areas",
    "block": "blocks",
    "group": "groups",
}
VERDICT_READING = (
    "95 %: {units} drawn again {replicates:,} times; three times that variance, since other data",
    "    train other models.",
    "verdict: '=' is not distinguishable from the best, 'worse' is (p < 0.05, corrected for other",
    "    training sets, for all pairs of cells, and for having picked the winner).",
)
NUMBERS_READING = (
    "R²: share of the variance between {level}s that is explained; 0 is as good as their mean.",
    "{split}: {held}",
    *VERDICT_READING,
)
CLASSES_READING = (
    "balanced: balanced accuracy, the mean over the classes of the share that is found. Guessing",
    "    finds one over their number. The row 'mean' predicts the majority's class.",
    "{split}: {held}",
    *VERDICT_READING,
)
RANDOM_READING = "random: tiles of one area stand in training and test sets: it flatters."
QUESTION_TITLES = {
    AGAINST_PLACE: "Pictures against place",
    FUSED_PLACE: "Pictures and groups against place",
    FUSED_PICTURES: "Pictures and groups against pictures",
}
CLASS_COLUMNS = (("balanced", 8), ("95 %", 13), ("accuracy", 8), ("log loss", 8))
SCORE_WORDS = {"r2": "R²", BALANCED: "balanced accuracy"}
R2_OF_SPLITS = [f"r2 {split}" for split in STRICTNESS]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How the table of a target is drawn: its title, its columns with their widths, and what is
    said below it.
    """

    title: str
    columns: tuple[tuple[str, int], ...]
    reading: tuple[str, ...]


def render_standings(table: pd.DataFrame) -> Table:
    """Draw the table, numbers whole within 80 columns."""
    target, split, level = (table.attrs[name] for name in ("target", "split", "level"))
    layout = _choose_layout(table)
    n_rows = int(table["n"].max())
    drawn = Table(
        title=f"{target}: {layout.title} of {n_rows:,} {level}s, ranked on the split {split}",
        box=box.SIMPLE_HEAD,
        padding=0,
        show_edge=False,
        title_justify="left",
    )
    drawn.add_column("cut", overflow="fold")
    drawn.add_column("model", overflow="fold")
    for name, width in layout.columns:
        drawn.add_column(name, justify="right", width=width)
    drawn.add_column("verdict", width=7)
    cells_of = _class_cells if table.attrs["is_class"] else _number_cells
    for row in table.to_dict("records"):
        _add_row(drawn, row, cells_of(row))
    return drawn


def explain_standings(table: pd.DataFrame, folder: Path) -> list[str]:
    """Return lines that say what was found, and how the table is read."""
    shown = {name: str(table.attrs[name]) for name in ("target", "split", "level")}
    split = shown["split"]
    facts = {
        "level": shown["level"],
        "split": split,
        "held": HELD_OUT[split],
        "units": UNITS[split],
        "replicates": REPLICATES,
    }
    layout = _choose_layout(table)
    reading = [line.format(**facts) for line in layout.reading]
    return [*list_findings(folder, shown), "", *reading]


def _choose_layout(table: pd.DataFrame) -> Layout:
    if table.attrs["is_class"]:
        return Layout(
            title="classes",
            columns=CLASS_COLUMNS,
            reading=CLASSES_READING,
        )
    splits = [name.removeprefix("r2 ") for name in table.columns if name in R2_OF_SPLITS]
    widths = dict.fromkeys(splits, 6)
    widths |= {"95 %": 15, "rank corr.": 6}
    reading: tuple[str, ...] = NUMBERS_READING
    if "random" in splits and table.attrs["split"] != "random":
        reading = (*reading, RANDOM_READING)
    return Layout(
        title="R²",
        columns=tuple(widths.items()),
        reading=reading,
    )


def _class_cells(row: dict[Any, Any]) -> list[str]:
    return [
        _number(row[BALANCED]),
        _interval(row, f"{BALANCED}_"),
        _number(row["accuracy"]),
        _number(row["log_loss"]),
    ]


def _number_cells(row: dict[Any, Any]) -> list[str]:
    by_split = [_number(row[name]) for name in row if name in R2_OF_SPLITS]
    return [*by_split, _interval(row, "r2_"), _number(row["spearman"])]


def _add_row(drawn: Table, row: dict[Any, Any], values: list[str]) -> None:
    verdict = str(row["verdict"])
    verdict = verdict.replace("not distinguishable", "=")
    style = "bold" if verdict == "best" else ""
    cut = str(row["cut"])
    if row["is_baseline"]:
        style = "dim"
        cut = "(no network)"
    model = Text(str(row["model"]))
    drawn.add_row(Text(cut), model, *values, verdict, style=style)


def list_findings(folder: Path, shown: dict[str, str]) -> list[str]:
    """Describe how much of the best is luck, and whether pictures beat, or add to, the
    baselines.

    Parameters
    ----------
    shown : `target`, `split` and `level`.
    """
    winners = read_table(folder / "winners.csv")
    winners = select_rows(winners, **shown)
    found = [_describe_winner(row) for row in winners.to_dict("records")]
    comparisons = read_table(folder / "comparisons.csv")
    comparisons = select_rows(comparisons, **shown)
    asked = comparisons[comparisons["kind"].isin(QUESTION_TITLES)]
    found += [_describe_comparison(row) for row in asked.to_dict("records")]
    return found


def _describe_winner(row: dict[Any, Any]) -> str:
    score = SCORE_WORDS[row["score"]]
    value = _number(row["value"])
    corrected = _number(row["value_corrected"])
    low = _number(row["low_corrected"])
    high = _number(row["high_corrected"])
    return (
        f"Best of {row['n_cells']} cells: {score} {value}; where it was not chosen, about "
        f"{corrected} ({low} … {high}). Not distinguishable from it: "
        f"{row['n_not_distinguishable']}."
    )


def _describe_comparison(row: dict[Any, Any]) -> str:
    title = QUESTION_TITLES[row["kind"]]
    ours = _name(row["best_cut"], row["best_model"])
    theirs = _name(row["cut"], row["model"])
    difference = _number(row["difference"])
    interval = _interval(row)
    return f"{title}: {ours} less {theirs}: {difference} ({interval}), {row['verdict']}."


def _interval(row: dict[Any, Any], score: str = "") -> str:
    low = _number(row[f"{score}low"])
    high = _number(row[f"{score}high"])
    return f"{low} … {high}"


def _name(cut: str, model: str) -> str:
    return model if cut in ("none", "all") else f"{model} ({cut})"


def _number(value: float) -> str:
    """Format a number with three decimals, a true minus and no negative zero."""
    if math.isnan(value):
        return "–"
    rounded = round(value, 3) + 0.0
    return f"{rounded:.3f}".replace("-", "−")
