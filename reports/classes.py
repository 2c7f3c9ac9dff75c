"""Targets that are classes: the best model beside the majority and the other baselines, and every cell."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from reports.collect import SPLITS, Collected
from reports.sentences import SPLIT_WORDS
from reports.tables import DASH

SCORE = "balanced_accuracy"
COLUMNS = ["target", "split", "rank", "model", "cut", SCORE, f"{SCORE}_low", f"{SCORE}_high", "accuracy", "f1_macro", "log_loss",
           "n", "fit_seconds"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassAnswer:
    """The best model of a target of classes on the strictest split, by balanced accuracy, and its best baseline."""

    target: str
    model: str
    cut: str
    score: float
    low: float
    high: float
    accuracy: float
    baseline: str
    baseline_score: float

    @property
    def verdict(self) -> str:
        """What this row means; nothing is compared in pairs here, so that only the interval decides."""
        if self.baseline == DASH or self.score != self.score:
            return "no baseline to compare with"
        if self.score <= self.baseline_score:
            return f"no better than {self.baseline}, which sees no picture"
        how = "clearly better" if self.low > self.baseline_score else "better, but within the uncertainty,"
        return f"{how} than {self.baseline}"


def build_class_answers(collected: Collected) -> list[ClassAnswer]:
    """Give the best model of each target of classes; a baseline where nothing else was fitted."""
    rows = collected.classes
    rows = rows[(rows["split"] == collected.split) & (rows["level"] == collected.level)].sort_values(SCORE, ascending=False)
    answers = []
    for target in dict.fromkeys(collected.classes["target"]):
        mine = rows[rows["target"] == target]
        seeing, blind = mine[~mine["is_baseline"]], mine[mine["is_baseline"]]
        if mine.empty:
            continue
        best = (seeing if len(seeing) else mine).iloc[0]
        answers.append(ClassAnswer(
            target=target, model=str(best["model"]), cut=str(best["cut"]), score=float(best[SCORE]),
            low=float(best[f"{SCORE}_low"]), high=float(best[f"{SCORE}_high"]), accuracy=float(best["accuracy"]),
            baseline=str(blind.iloc[0]["model"]) if len(blind) else DASH,
            baseline_score=float(blind.iloc[0][SCORE]) if len(blind) else float("nan")))
    return answers


def build_class_board(collected: Collected) -> pd.DataFrame:
    """Give one row a cell: by target, strictest split first, then by balanced accuracy at the reported level."""
    rows = collected.classes[collected.classes["level"] == collected.level]
    strictness = {name: i for i, name in enumerate(SPLITS)}
    rows = rows.assign(_s=rows["split"].map(strictness)).sort_values(["target", "_s", SCORE], ascending=[True, True, False])
    rows["rank"] = rows.groupby(["target", "split"]).cumcount() + 1
    return rows[COLUMNS].reset_index(drop=True)


def build_class_headline(answers: list[ClassAnswer], collected: Collected) -> str:
    """Give the answer in one sentence, where every target is a class."""
    top = max(answers, key=lambda a: a.score)
    held_out = SPLIT_WORDS.get(collected.split, f"split {collected.split}")
    return (f"With {held_out}, the best predicted is {top.target}: {top.model} finds {top.score:.0%} of each class on average "
            f"({top.verdict}).")
