"""What the numbers say, in plain words; each sentence is decided by numbers alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd

from reports.collect import Collected
from reports.tables import DASH

SPLIT_WORDS = {
    "block": "whole blocks of the map held out",
    "area": "whole areas held out",
    "random": "single tiles held out",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One row of the answer table; NaN where there is no number."""

    target: str
    model: str
    cut: str
    is_baseline: bool
    r2: float
    low: float
    high: float
    baseline: str
    baseline_r2: float
    ceiling: float

    @property
    def gain(self) -> float:
        """R² above the best baseline; NaN where one of the two is unknown or the row is a baseline itself."""
        return math.nan if self.is_baseline else self.r2 - self.baseline_r2

    @property
    def verdict(self) -> str:
        """What this row means."""
        if math.isnan(self.r2):
            return "not scored: R² is undefined here"
        if self.is_baseline:
            return "only baselines were fitted"
        parts = [self._against_baseline()]
        if not math.isnan(self.ceiling) and self.r2 > self.ceiling:
            parts.append("above the known ceiling: by chance, or by leakage")
        elif self.ceiling > 0 and self.r2 > 0:
            parts.append(f"{self.r2 / self.ceiling:.0%} of what can be reached")
        return "; ".join(parts)

    def _against_baseline(self) -> str:
        if math.isnan(self.gain):
            return "no better than guessing the mean" if self.r2 <= 0 else "no baseline to compare with"
        if self.gain <= 0:
            return f"no better than {self.baseline}, which sees no picture"
        if not self.low > self.baseline_r2:
            return f"better than {self.baseline}, but within the uncertainty"
        return f"clearly better than {self.baseline}"


def build_answers(collected: Collected) -> list[Answer]:
    """Give the best model of each target, beside its best baseline and its ceiling."""
    best, base = collected.best.set_index("target"), collected.baseline.set_index("target")
    ceiling = collected.ceiling.drop_duplicates("target").set_index("target")["r2"]
    return [_answer(t, best, base, ceiling) for t in collected.targets if t in best.index]


def _answer(target: str, best: pd.DataFrame, base: pd.DataFrame, ceiling: pd.Series[Any]) -> Answer:
    row: dict[str, Any] = best.loc[[target]].to_dict("records")[0]  # type: ignore[assignment]
    has_base = target in base.index
    return Answer(
        target=target,
        model=str(row["model"]),
        cut=str(row["cut"]),
        is_baseline=bool(row["is_baseline"]),
        r2=float(row["r2"]),
        low=float(row["r2_low"]),
        high=float(row["r2_high"]),
        baseline=str(base["model"][target]) if has_base else DASH,
        baseline_r2=float(base["r2"][target]) if has_base else math.nan,
        ceiling=float(ceiling[target]) if target in ceiling.index else math.nan,
    )


def build_headline(answers: list[Answer], collected: Collected) -> str:
    """Give the answer in one or two sentences."""
    known = [a for a in answers if not math.isnan(a.r2) and not a.is_baseline]
    held_out = SPLIT_WORDS.get(collected.split, f"split {collected.split}")
    if not known:
        return "No model could be scored on any target: there is nothing to conclude."
    clear = [a for a in known if a.low > a.baseline_r2]
    top = max(known, key=lambda a: a.r2)
    first = (
        f"With {held_out}, a model that sees the pictures clearly beats the best baseline on "
        f"{len(clear)} of {len(answers)} target{'s' if len(answers) != 1 else ''}."
    )
    if top.r2 <= 0:
        return first + " No model predicts better than the mean."
    return (
        f"{first} The best predicted is {top.target}: {top.model} explains {top.r2:.0%} of its differences "
        f"between {collected.level}s."
    )


def describe_places(answers: list[Answer], collected: Collected) -> list[str]:
    """Say for each target whether pictures add anything to where a place is and what it is classified as."""
    fused = collected.fused.set_index("target")["r2"]
    known = [a for a in answers if not a.is_baseline and not math.isnan(a.r2)]
    return [_describe_place(a, float(fused.get(a.target, math.nan))) for a in known]


def _describe_place(answer: Answer, fused: float) -> str:
    interval = f"{_percent(answer.low)} to {_percent(answer.high)}"
    worth = f"{answer.r2:.0%} ({interval})" if answer.r2 > 0 else "nothing"
    text = f"For {answer.target}, the pictures explain {worth} of what differs between places that the model has not seen"
    if not math.isnan(answer.baseline_r2):
        worth = f"{answer.baseline_r2:.0%}" if answer.baseline_r2 > 0 else "nothing"
        text += f"; {answer.baseline}, which sees no picture, explains {worth}"
    if not math.isnan(fused):
        text += f"; pictures and area descriptors together explain {_percent(fused)}"
    return text + "."


def _percent(value: float) -> str:
    return DASH if math.isnan(value) else f"{value:.0%}".replace("-", "−")
