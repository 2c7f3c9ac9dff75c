"""The table of one target that `python -m models scores` prints, and how to read it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich import box
from rich.table import Table
from rich.text import Text

from extract.errors import RunFileError
from models.evaluation.bootstrap import REPLICATES
from models.evaluation.comparisons import (
    AGAINST_OTHERS,
    AGAINST_PLACE,
    FUSED_PICTURES,
    FUSED_PLACE,
)
from models.evaluation.evaluate import CellName
from models.settings import STRICTNESS
from models.store.runs import join_cut, read_scores, read_table

BALANCED = "balanced_accuracy"
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


def is_class(scores: pd.DataFrame, target: str) -> bool:
    """Return whether the scores of a target are those of classes."""
    of_target = scores[scores["target"].astype(str) == target]
    return bool(of_target[BALANCED].notna().any())


def build_standings(folder: Path, target: str, *, split: str | None, level: str) -> pd.DataFrame:
    """Return one row a cell of a target, the best first.

    Parameters
    ----------
    split : that ranks; None for the one held out farthest. level : `area` or `tile`.

    Returns
    -------
    cut, model, is_baseline; of a number `r2 <split>` of each split (loosest first), and of the
    ranking split r2_low, r2_high, rmse, spearman; of a class accuracy, balanced_accuracy with its
    interval, f1_macro, log_loss; n and verdict (`best`, `worse`, `not distinguishable` from the
    best, or empty where it was not compared). `attrs` holds split, level, target and is_class.

    Raises
    ------
    RunFileError : files that are missing; a split or level of which there are no scores.
    """
    every = read_scores(folder)
    of_class = is_class(every, target)
    scores = _select(every, target=target, level=level)
    scored = set(scores["split"])
    known = [s for s in STRICTNESS if s in scored]
    if not known:
        raise RunFileError(
            f"{folder / 'scores.csv'}: no scores of {target!r} at level {level!r}. "
            "Run `make models` with it."
        )
    if split is not None and split not in known:
        raise RunFileError(
            f"split {split!r}: not scored for {target!r}; there are {', '.join(known)}"
        )
    ranked = split or known[-1]
    parts = scores[["backbone", "layer", "pooling"]].to_numpy()
    scores = scores.assign(cut=[join_cut(*names) for names in parts.tolist()])
    at_split = scores[scores["split"] == ranked]
    if of_class:
        score = BALANCED
        table = _class_columns(at_split)
    else:
        score = f"r2 {ranked}"
        table = _number_columns(scores, at_split, known)
    table = table.sort_values(score, ascending=False, kind="stable", ignore_index=True)
    pairs = table[["cut", "model"]].to_numpy()
    cells = [CellName(*pair) for pair in pairs.tolist()]
    table.insert(2, "is_baseline", [cell.is_baseline for cell in cells])
    shown = {"target": target, "split": ranked, "level": level}
    verdicts = _read_verdicts(folder, shown)
    table["verdict"] = [verdicts.get(cell, "") for cell in cells]
    table.attrs |= {**shown, "is_class": of_class}
    return table


def _number_columns(
    scores: pd.DataFrame, at_split: pd.DataFrame, known: Sequence[str]
) -> pd.DataFrame:
    wide = scores.pivot_table(
        index=["cut", "model"], columns="split", values="r2", dropna=False, sort=False
    )
    wide = wide.reindex(columns=list(known))
    wide = wide.add_prefix("r2 ").reset_index()
    columns = ["cut", "model", "r2_low", "r2_high", "rmse", "spearman", "n"]
    return wide.merge(at_split[columns], on=["cut", "model"])


def _class_columns(at_split: pd.DataFrame) -> pd.DataFrame:
    interval = [f"{BALANCED}_low", f"{BALANCED}_high"]
    columns = ["cut", "model", "accuracy", BALANCED, *interval, "f1_macro", "log_loss", "n"]
    return at_split[columns]


def _read_verdicts(folder: Path, shown: dict[str, str]) -> dict[CellName, str]:
    """Return how cells compare with the best: `best`, `worse` or `not distinguishable`."""
    table = read_table(folder / "comparisons.csv")
    rows = _select(table, kind=AGAINST_OTHERS, **shown)
    verdicts: dict[CellName, str] = {}
    for row in rows.astype(str).to_dict("records"):
        best = CellName(row["best_cut"], row["best_model"])
        other = CellName(row["cut"], row["model"])
        verdicts[best] = "best"
        # the file says whether the best is better, the table what that makes the row
        verdicts[other] = row["verdict"].replace("better", "worse")
    return verdicts


def _select(rows: pd.DataFrame, **wanted: str) -> pd.DataFrame:
    """Return the rows with these values."""
    for name, value in wanted.items():
        rows = rows[rows[name].astype(str) == value]
    return rows


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
    level = shown["level"]
    facts = {
        "level": level,
        "split": split,
        "held": HELD_OUT[split],
        "units": UNITS[split],
        "replicates": REPLICATES,
    }
    reading = [line.format(**facts) for line in _choose_layout(table).reading]
    return [*list_findings(folder, shown), "", *reading]


def _choose_layout(table: pd.DataFrame) -> Layout:
    if table.attrs["is_class"]:
        of_classes = (("balanced", 8), ("95 %", 13), ("accuracy", 8), ("log loss", 8))
        return Layout(title="classes", columns=of_classes, reading=CLASSES_READING)
    splits = [name.removeprefix("r2 ") for name in table.columns if name in R2_OF_SPLITS]
    widths = dict.fromkeys(splits, 6)
    widths |= {"95 %": 15, "rank corr.": 6}
    reading: tuple[str, ...] = NUMBERS_READING
    if "random" in splits and table.attrs["split"] != "random":
        reading = (*reading, RANDOM_READING)
    return Layout(title="R²", columns=tuple(widths.items()), reading=reading)


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
    verdict = str(row["verdict"]).replace("not distinguishable", "=")
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
    found = []
    winners = _select(read_table(folder / "winners.csv"), **shown)
    for row in winners.to_dict("records"):
        found.append(
            f"Best of {row['n_cells']} cells: {SCORE_WORDS[row['score']]} {_number(row['value'])}; "
            f"where it was not chosen, about {_number(row['value_corrected'])} "
            f"({_number(row['low_corrected'])} … {_number(row['high_corrected'])}). "
            f"Not distinguishable from it: {row['n_not_distinguishable']}."
        )
    rows = _select(read_table(folder / "comparisons.csv"), **shown)
    rows = rows[rows["kind"].isin(QUESTION_TITLES)]
    for row in rows.to_dict("records"):
        ours = _name(row["best_cut"], row["best_model"])
        theirs = _name(row["cut"], row["model"])
        found.append(
            f"{QUESTION_TITLES[row['kind']]}: {ours} less {theirs}: {_number(row['difference'])} "
            f"({_interval(row)}), {row['verdict']}."
        )
    return found


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
