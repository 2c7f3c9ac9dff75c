"""The table of one target that `python -m models scores` prints, and how to read it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd
from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from extract.errors import RunFileError
from models.evaluation.bootstrap import REPLICATES
from models.evaluation.evaluate import CellName
from models.evaluation.verdicts import AGAINST_OTHERS, AGAINST_PLACE, FUSED_PICTURES, FUSED_PLACE
from models.settings import STRICTNESS
from models.store.runs import join_cut, read_scores, read_table

HELD_OUT = {
    "random": "single tiles were held out, and others of their area, with its label, trained on. It flatters.",
    "area": "whole areas were held out: no model has seen the label it is asked for, but perhaps next door.",
    "block": "whole blocks of the map were held out: no model has seen the label, or what is around.",
}
UNITS = {"random": "areas", "area": "areas", "block": "blocks"}
READING = (
    "R²: how much of the differences between {level}s is explained; 1 is all, 0 as good as their mean.",
    "{split}: {held}",
    "95 %: {units} drawn again {replicates:,} times. Not in it: other training data, folds or seeds.",
    "verdict: '=' is not distinguishable from the best, 'worse' is (p < 0.05 after Holm's correction,",
    "    and after one for having picked the winner on the same data).",
)
ASKED = {
    AGAINST_PLACE: "Pictures against place",
    FUSED_PLACE: "Pictures and groups against place",
    FUSED_PICTURES: "Pictures and groups against pictures",
}
SCORES = {"r2": "R²", "balanced_accuracy": "balanced accuracy"}
FLATTERED = (
    "random: tiles of one area stand on both sides; it is there to show by how much it flatters."
)


def build_standings(folder: Path, target: str, *, split: str | None, level: str) -> pd.DataFrame:
    """Return one row a cell of a target, the best first.

    Parameters
    ----------
    split : that ranks; None for the strictest that was scored. level : `area` or `tile`.

    Returns
    -------
    cut, model, is_baseline, `r2 <split>` of each split (loosest first), and of the ranking split r2_low, r2_high, rmse,
    spearman, n and verdict (`best`, `worse`, `not distinguishable` from the best, or nothing where it was not compared).
    `attrs` holds split, level and target.

    Raises
    ------
    RunFileError : files that are missing; a split or level of which there are no scores.
    """
    scores = read_scores(folder)
    scores = scores[(scores["target"].astype(str) == target) & (scores["level"] == level)]
    known = [s for s in STRICTNESS if s in set(scores["split"])]
    if not known:
        raise RunFileError(
            f"{folder / 'scores.csv'}: no scores of {target!r} at level {level!r}. Run `make models` with it."
        )
    if split is not None and split not in known:
        raise RunFileError(
            f"split {split!r}: not scored for {target!r}; there are {', '.join(known)}"
        )
    ranked = split or known[-1]
    scores = scores.assign(
        cut=[
            join_cut(*parts)
            for parts in scores[["backbone", "layer", "pooling"]].to_numpy().tolist()
        ]
    )
    wide = scores.pivot_table(
        index=["cut", "model"], columns="split", values="r2", dropna=False, sort=False
    )
    wide = wide.reindex(columns=known).rename(columns={s: f"r2 {s}" for s in known}).reset_index()
    numbers = scores.loc[
        scores["split"] == ranked, ["cut", "model", "r2_low", "r2_high", "rmse", "spearman", "n"]
    ]
    table = wide.merge(numbers, on=["cut", "model"], how="inner").sort_values(
        f"r2 {ranked}", ascending=False, kind="stable"
    )
    table["verdict"] = read_verdicts(folder, table, target, ranked, level)
    table.insert(
        2,
        "is_baseline",
        [CellName(*pair).is_baseline for pair in table[["cut", "model"]].to_numpy().tolist()],
    )
    table.attrs |= {"split": ranked, "level": level, "target": target}
    return table.reset_index(drop=True)


def read_verdicts(
    folder: Path, table: pd.DataFrame, target: str, split: str, level: str
) -> list[str]:
    """Describe how each cell of a table stands to the best: `best`, `worse`, `not distinguishable`, or nothing."""
    rows = _of(read_table(folder / "comparisons.csv"), target, split, level)
    rows = rows[rows["kind"] == AGAINST_OTHERS]
    words = {"better": "worse"}  # the file says what the best is, the table what the row is
    verdict = {
        (str(r["cut"]), str(r["model"])): words.get(r["verdict"], r["verdict"])
        for r in rows.to_dict("records")
    }
    best = {(str(r["best_cut"]), str(r["best_model"])): "best" for r in rows.to_dict("records")}
    return [
        (verdict | best).get((cut, model), "")
        for cut, model in table[["cut", "model"]].to_numpy().tolist()
    ]


def _of(rows: pd.DataFrame, target: str, split: str, level: str) -> pd.DataFrame:
    return rows[
        (rows["target"].astype(str) == target) & (rows["split"] == split) & (rows["level"] == level)
    ]


def render_standings(table: pd.DataFrame, folder: Path) -> Group:
    """Draw the table, numbers whole within 80 columns, and say how to read it."""
    split, level, target = (str(table.attrs[name]) for name in ("split", "level", "target"))
    splits = [str(c).removeprefix("r2 ") for c in table.columns if str(c).startswith("r2 ")]
    title = f"{target}: R² of {int(table['n'].max()):,} {level}s, ranked on the split {split}"
    drawn = Table(
        title=title, box=box.SIMPLE_HEAD, padding=0, show_edge=False, title_justify="left"
    )
    drawn.add_column("cut", overflow="fold")
    drawn.add_column("model", overflow="fold")
    for name, width in (*((s, 6) for s in splits), ("95 %", 15), ("rank corr.", 6)):
        drawn.add_column(name, justify="right", width=width)
    drawn.add_column("verdict", width=7)
    for row in table.to_dict("records"):
        cut = "(no network)" if row["is_baseline"] else str(row["cut"])
        values = [
            *(_number(row[f"r2 {s}"]) for s in splits),
            f"{_number(row['r2_low'])} … {_number(row['r2_high'])}",
        ]
        verdict = str(row["verdict"]).replace("not distinguishable", "=")
        drawn.add_row(
            Text(cut),
            Text(str(row["model"])),
            *values,
            _number(row["spearman"]),
            verdict,
            style="dim" if row["is_baseline"] else "bold" if verdict == "best" else "",
        )
    facts = {
        "level": level,
        "split": split,
        "held": HELD_OUT[split],
        "units": UNITS[split],
        "replicates": REPLICATES,
    }
    reading = [line.format(**facts) for line in READING]
    reading += [FLATTERED] if "random" in splits and split != "random" else []
    return Group(
        drawn,
        *(Text(line) for line in [*list_findings(folder, target, split, level), "", *reading]),
    )


def list_findings(folder: Path, target: str, split: str, level: str) -> list[str]:
    """Describe how much of the best is luck, and whether pictures beat, or add to, what is known without them."""
    found = []
    for row in _of(read_table(folder / "winners.csv"), target, split, level).to_dict("records"):
        name = SCORES[row["score"]]
        found.append(
            f"Best of {row['n_cells']} cells: {name} {_number(row['value'])}; where it was not chosen, about "
            f"{_number(row['value_corrected'])}. Not distinguishable from it: {row['n_not_distinguishable']}."
        )
    rows = _of(read_table(folder / "comparisons.csv"), target, split, level)
    for row in rows[rows["kind"].isin(list(ASKED))].to_dict("records"):
        ours = _name(row["best_cut"], row["best_model"])
        theirs = _name(row["cut"], row["model"])
        found.append(
            f"{ASKED[row['kind']]}: {ours} less {theirs}: {_number(row['difference'])} "
            f"({_number(row['low'])} … {_number(row['high'])}), {row['verdict']}."
        )
    return found


def _name(cut: str, model: str) -> str:
    return model if cut in ("none", "all") else f"{model} ({cut})"


def _number(value: Any) -> str:
    return (
        "–" if math.isnan(float(value)) else f"{round(float(value), 3) + 0.0:.3f}".replace("-", "−")
    )
