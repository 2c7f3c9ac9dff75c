"""The table of one target of classes that `python -m models scores` prints, and how to read it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from extract.errors import RunFileError
from models.evaluation.bootstrap import REPLICATES
from models.evaluation.evaluate import CellName
from models.evaluation.standings import HELD_OUT, UNITS, list_findings, read_verdicts
from models.settings import STRICTNESS
from models.store.runs import join_cut, read_scores

RANKED = "balanced_accuracy"
READING = (
    "balanced: balanced accuracy, the mean over the classes of the share that is found. Guessing finds one over",
    "    their number. The row 'mean' predicts the majority's class: its accuracy is that class's share.",
    "{split}: {held}",
    "95 %: {units} drawn again {replicates:,} times. Not in it: other training data, other folds, another seed.",
    "verdict: '=' is not distinguishable from the best, 'worse' is: in balanced accuracy, p < 0.05 after Holm's",
    "    correction, and after one for having picked the winner on the same data.",
)


def is_class(scores: pd.DataFrame, target: str) -> bool:
    """Return whether the scores of a target are those of classes."""
    return bool(scores.loc[scores["target"].astype(str) == target, RANKED].notna().any())


def build_class_standings(
    folder: Path, target: str, *, split: str | None, level: str
) -> pd.DataFrame:
    """Return one row a cell of a target, the best first.

    Returns
    -------
    cut, model, is_baseline, n, accuracy, balanced_accuracy and its interval, f1_macro, log_loss on the ranking split (the
    strictest that was scored, unless `split` names one). `attrs` holds split, level and target.

    Raises
    ------
    RunFileError : no scores; a split or level of which there are none.
    """
    scores = read_scores(folder)
    scores = scores[(scores["target"].astype(str) == target) & (scores["level"] == level)]
    known = [s for s in STRICTNESS if s in set(scores["split"])]
    if (split is not None and split not in known) or not known:
        raise RunFileError(
            f"split {split or 'any'!r}: {target!r} is not scored on it at level {level!r}; "
            f"there are {', '.join(known) or 'none'}"
        )
    ranked = split or known[-1]
    table = (
        scores[scores["split"] == ranked]
        .sort_values(RANKED, ascending=False, kind="stable")
        .reset_index(drop=True)
    )
    table.insert(
        0,
        "cut",
        [join_cut(*parts) for parts in table[["backbone", "layer", "pooling"]].to_numpy().tolist()],
    )
    table.insert(
        1,
        "is_baseline",
        [CellName(*pair).is_baseline for pair in table[["cut", "model"]].to_numpy().tolist()],
    )
    table["verdict"] = read_verdicts(folder, table, target, ranked, level)
    columns = [
        "cut",
        "model",
        "is_baseline",
        "accuracy",
        RANKED,
        f"{RANKED}_low",
        f"{RANKED}_high",
        "f1_macro",
        "log_loss",
        "n",
        "verdict",
    ]
    table = table[columns]
    table.attrs |= {"split": ranked, "level": level, "target": target}
    return table


def render_class_standings(table: pd.DataFrame, folder: Path) -> Group:
    """Draw the table, numbers whole within 80 columns, and say how to read it."""
    split, level, target = (str(table.attrs[name]) for name in ("split", "level", "target"))
    title = f"{target}: classes of {int(table['n'].max()):,} {level}s, ranked on the split {split}"
    drawn = Table(
        title=title, box=box.SIMPLE_HEAD, padding=0, show_edge=False, title_justify="left"
    )
    drawn.add_column("cut", overflow="fold")
    drawn.add_column("model", overflow="fold")
    for name, width in (("balanced", 8), ("95 %", 13), ("accuracy", 8), ("log loss", 8)):
        drawn.add_column(name, justify="right", width=width)
    drawn.add_column("verdict", width=7)
    for row in table.to_dict("records"):
        cut = "(no network)" if row["is_baseline"] else str(row["cut"])
        values = [
            f"{row[RANKED]:.3f}",
            f"{row[f'{RANKED}_low']:.3f} … {row[f'{RANKED}_high']:.3f}",
            *(f"{row[name]:.3f}" for name in ("accuracy", "log_loss")),
        ]
        verdict = str(row["verdict"]).replace("not distinguishable", "=")
        drawn.add_row(
            Text(cut),
            Text(str(row["model"])),
            *values,
            verdict,
            style="dim" if row["is_baseline"] else "bold" if verdict == "best" else "",
        )
    facts = {
        "split": split,
        "held": HELD_OUT[split],
        "units": UNITS[split],
        "replicates": REPLICATES,
    }
    reading = [line.format(**facts) for line in READING]
    return Group(
        drawn,
        *(Text(line) for line in [*list_findings(folder, target, split, level), "", *reading]),
    )
