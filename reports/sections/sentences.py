"""What the numbers say, in plain words; each sentence is decided by numbers alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd

from models.evaluation.comparisons import AGAINST_PLACE, FUSED_PICTURES, FUSED_PLACE
from reports.data.collect import Collected
from reports.data.formats import DASH, format_percent
from reports.sections.classes import describe_classes

SPLIT_WORDS = {
    "block": "whole blocks of the map held out",
    "area": "whole areas held out",
    "random": "single tiles held out",
}
BASELINE_WORDS = {
    "mean": "the mean",
    "location": "a map of where places are (location)",
    "region": "the mean of the region (region)",
    "geodemographic": "what areas are classified as (geodemographic)",
    "metadata": "the size and the mean colours of the files (metadata)",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One row of the answer table; NaN where there is no number.

    Attributes
    ----------
    r2, low, high : of the best model that sees pictures and nothing else, and its 95 % interval.
    gain, gain_low, gain_high : R² above the best baseline, paired over the same resamples.
    decision : `better`, `worse` or `not distinguishable` (p < 0.05 after correction); nothing where it was not compared.
    """

    target: str
    model: str
    cut: str
    is_baseline: bool
    r2: float
    low: float
    high: float
    baseline: str
    baseline_r2: float
    gain: float
    gain_low: float
    gain_high: float
    decision: str
    ceiling: float

    @property
    def verdict(self) -> str:
        """What this row means."""
        if math.isnan(self.r2):
            return "not scored: R² is undefined here"
        if self.is_baseline:
            return "only baselines were fitted"
        above = (
            "; above the known ceiling: by chance, or by leakage" if self.r2 > self.ceiling else ""
        )
        return self._against_baseline() + above

    @property
    def reached(self) -> float:
        """Share of the ceiling that the model reaches; NaN where no ceiling is known, or nothing is reached."""
        return self.r2 / self.ceiling if self.ceiling > 0 and self.r2 > 0 else math.nan

    def _against_baseline(self) -> str:
        if math.isnan(self.baseline_r2):
            return (
                "no better than guessing the mean"
                if self.r2 <= 0
                else "no baseline to compare with"
            )
        than = "from" if self.decision == "not distinguishable" else "than"
        return (
            f"{self.decision} {than} {self.baseline}"
            if self.decision
            else f"not compared with {self.baseline}"
        )


def build_answers(collected: Collected) -> list[Answer]:
    """Return the best model of each target, beside its best baseline, the paired difference, and the ceiling."""
    best = collected.best.set_index("target")
    base = collected.baseline.set_index("target")
    ceiling = collected.ceiling.drop_duplicates("target").set_index("target")["r2"]
    rows = of_level(collected.comparisons, collected)
    paired = rows[rows["kind"] == AGAINST_PLACE].drop_duplicates("target").set_index("target")
    return [_answer(t, best, base, paired, ceiling) for t in collected.targets if t in best.index]


def of_level(rows: pd.DataFrame, collected: Collected) -> pd.DataFrame:
    """Return the rows of the strictest split at the reported level."""
    return rows[(rows["split"] == collected.split) & (rows["level"] == collected.level)]


def _answer(
    target: str,
    best: pd.DataFrame,
    base: pd.DataFrame,
    paired: pd.DataFrame,
    ceiling: pd.Series[Any],
) -> Answer:
    row: dict[str, Any] = best.loc[[target]].to_dict("records")[0]  # type: ignore[assignment]
    is_baseline = bool(row["is_baseline"])
    has_base = target in base.index
    pair: dict[str, Any] = {}
    if target in paired.index and not is_baseline:
        pair = paired.loc[[target]].to_dict("records")[0]  # type: ignore[assignment]
    baseline_r2 = float(base["r2"][target]) if has_base else math.nan
    return Answer(
        target=target,
        model=str(row["model"]),
        cut=str(row["cut"]),
        is_baseline=is_baseline,
        r2=float(row["r2"]),
        low=float(row["r2_low"]),
        high=float(row["r2_high"]),
        baseline=str(base["model"][target]) if has_base else DASH,
        baseline_r2=baseline_r2,
        gain=math.nan
        if is_baseline
        else float(pair.get("difference", float(row["r2"]) - baseline_r2)),
        gain_low=float(pair.get("low", math.nan)),
        gain_high=float(pair.get("high", math.nan)),
        decision=str(pair.get("verdict", "")),
        ceiling=float(ceiling[target]) if target in ceiling.index else math.nan,
    )


def build_headline(answers: list[Answer], collected: Collected) -> str:
    """Return the answer in one or two sentences."""
    known = [a for a in answers if not math.isnan(a.r2) and not a.is_baseline]
    held_out = SPLIT_WORDS.get(collected.split, f"split {collected.split}")
    if not known and len(collected.class_scores):
        return describe_classes(collected)
    if not known:
        return "No model that sees pictures could be scored on any target: there is nothing to conclude."
    top = max(known, key=lambda a: a.r2)
    first = f"With {held_out}, {_count_decisions(known)}"
    if top.r2 <= 0:
        return first + " No model predicts better than the mean."
    return (
        f"{first} The best predicted is {top.target}: {top.model} explains {format_percent(top.r2)} of its differences "
        f"between {collected.level}s that it has not seen."
    )


def _count_decisions(known: list[Answer]) -> str:
    """Describe on how many targets pictures beat the best that sees none."""
    compared = [a for a in known if a.decision]
    if not compared:
        return "no model that sees the pictures could be compared with a baseline."
    of = f"{len(compared)} target{'s' if len(compared) != 1 else ''}"
    n_better, n_worse = (sum(a.decision == word for a in compared) for word in ("better", "worse"))
    text = f"the pictures predict better than the best baseline, which uses no network, on {n_better} of {of}"
    unclear = len(compared) - n_better - n_worse
    rest = [
        f"{n} {word}" for n, word in ((n_worse, "worse"), (unclear, "not distinguishable")) if n
    ]
    return f"{text} ({', '.join(rest)})." if rest else f"{text}."


def describe_places(answers: list[Answer], collected: Collected) -> list[str]:
    """Describe for each target whether pictures add anything to where a place is and what it is classified as."""
    fused = collected.fused.set_index("target")
    rows = of_level(collected.comparisons, collected)
    asked = {
        (r["kind"], r["target"]): r
        for r in rows[rows["kind"].isin([FUSED_PLACE, FUSED_PICTURES])].to_dict("records")
    }
    known = [a for a in answers if not a.is_baseline and not math.isnan(a.r2)]
    return [_describe_place(a) + _describe_fused(a, fused, asked) + "." for a in known]


def _describe_fused(
    answer: Answer, fused: pd.DataFrame, asked: dict[tuple[str, str], dict[Any, Any]]
) -> str:
    """Describe what pictures and area descriptors explain together, and whether that is more than either."""
    if answer.target not in fused.index or math.isnan(fused["r2"][answer.target]):
        return ""
    text = (
        f". Pictures and area descriptors together ({fused['model'][answer.target]}) explain "
        f"{format_percent(fused['r2'][answer.target])}"
    )
    place, pictures = (asked.get((kind, answer.target)) for kind in (FUSED_PLACE, FUSED_PICTURES))
    if place and pictures and {place["verdict"], pictures["verdict"]} == {"not distinguishable"}:
        return text + (
            "; whether pictures add anything to where a place is and what it is classified as, or that to the "
            "pictures, these data cannot tell"
        )
    if place is not None:
        known = "where a place is and what it is classified as"
        words = str(place["verdict"])
        text += {
            "better": f": pictures add {_points(place)} to {known}",
            "worse": f", {_points(place, -1)} less than {known} explains without them",
        }.get(words, f": whether pictures add anything to {known}, these data cannot tell")
    if pictures is not None:
        text += {
            "better": f"; the descriptors add {_points(pictures)} to the pictures",
            "worse": f"; the pictures alone explain {_points(pictures, -1)} more",
        }.get(
            str(pictures["verdict"]),
            "; whether the descriptors add anything to the pictures, these data cannot tell",
        )
    return text


def _points(row: dict[Any, Any], sign: int = 1) -> str:
    """Return a difference of R² and its interval in hundredths, or that the other way round."""
    value, *ends = (sign * 100 * float(row[name]) for name in ("difference", "low", "high"))
    digits = 0 if abs(value) >= 1 else 1
    numbers = (f"{round(v, digits) + 0.0:.{digits}f}" for v in (value, min(ends), max(ends)))
    return "{} points ({} to {})".format(*numbers).replace("-", "−")


def _describe_place(answer: Answer) -> str:
    interval = (
        ""
        if math.isnan(answer.low)
        else f" ({format_percent(answer.low)} to {format_percent(answer.high)})"
    )
    worth = format_percent(answer.r2) + interval if answer.r2 > 0 else "nothing"
    text = f"For {answer.target}, the pictures explain {worth} of what differs between places that the model has not seen"
    if not math.isnan(answer.baseline_r2):
        worth = format_percent(answer.baseline_r2) if answer.baseline_r2 > 0 else "nothing"
        verb = "" if answer.baseline == "metadata" else "s"
        text += f"; {BASELINE_WORDS.get(answer.baseline, answer.baseline)} explain{verb} {worth}"
    if answer.decision:
        text += {"better": ": the pictures are better", "worse": ": the pictures are worse"}.get(
            answer.decision, ": these data cannot tell the two apart"
        )
    return text


def describe_winners(collected: Collected) -> list[str]:
    """Describe for each target how much of its best cell is luck of having been chosen, and how many cells are as good."""
    rows = of_level(collected.winners, collected).set_index("target")
    return [
        _describe_winner(t, rows.loc[[t]].to_dict("records")[0])
        for t in collected.targets
        if t in rows.index
    ]


def _describe_winner(target: str, row: dict[Any, Any]) -> str:
    cut = "" if row["best_cut"] in ("none", "all") else f" on {row['best_cut']}"
    n = int(row["n_not_distinguishable"])
    others = {0: "no other cell is", 1: "1 other cell is"}.get(n, f"{n} other cells are")
    best = f"{target}: the best of {int(row['n_cells'])} cells is {row['best_model']}{cut}"
    numbers = f"with R² {float(row['value']):.2f}; where it was not chosen, about {float(row['value_corrected']):.2f}"
    return f"{best} {numbers.replace('-', '−')}; {others} not distinguishable from it."


def describe_direction(collected: Collected) -> str:
    """Describe which way the index points."""
    higher = collected.settings.reports.higher_is
    if higher is None:
        return (
            "The settings do not say which way the indices point (key higher_is in [reports]): “higher” is higher on the index, "
            "which need not be more deprived."
        )
    if isinstance(higher, str):
        return f"Higher is {higher}, on every index."
    return "Higher is " + "; ".join(f"{word} for {target}" for target, word in higher.items()) + "."
