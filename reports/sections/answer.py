"""The answer: the best model of each target that sees pictures, beside the best baseline."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from models.evaluation.comparisons import AGAINST_PLACE, FUSED_PICTURES, FUSED_PLACE
from reports.data.collect import Collected
from reports.data.formats import DASH, format_percent
from reports.sections.charts import BLUE, LOWEST_R2, ORANGE, categories, name_axis, tooltips

UNCLEAR = "not distinguishable"  # the verdict of a comparison that is neither better nor worse
COLOURS = {"pictures": BLUE, "best baseline": ORANGE}
BASELINE_WORDS = {
    "mean": "the mean explains",
    "location": "a map of where places are (location) explains",
    "region": "the mean of the region (region) explains",
    "geodemographic": "what areas are classified as (geodemographic) explains",
    "metadata": "the size and the mean colours of the files (metadata) explain",
}
_CLASS_COLUMNS = [
    "target",
    "model",
    "cut",
    "accuracy",
    "balanced_accuracy",
    "balanced_accuracy_low",
    "balanced_accuracy_high",
    "f1_macro",
    "log_loss",
    "baseline",
    "baseline_value",
    "gain",
    "gain_low",
    "gain_high",
    "decision",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One row of the answer table; NaN where there is no number.

    Attributes
    ----------
    r2, low, high : of the best model that sees pictures and nothing else, and its 95 % interval.
    gain, gain_low, gain_high : R² above the best baseline, paired over the same resamples.
    decision : `better`, `worse` or `not distinguishable` (p < 0.05 after correction); empty where
        it was not compared.
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
    def is_known(self) -> bool:
        """Whether a model that sees pictures has a score."""
        return not self.is_baseline and math.isfinite(self.r2)

    @property
    def verdict(self) -> str:
        """What this row means."""
        if math.isnan(self.r2):
            return "not scored: R² is undefined here"
        if self.is_baseline:
            return "only baselines were fitted"
        than = "from" if self.decision == UNCLEAR else "than"
        text = f"not compared with {self.baseline}"
        if self.decision:
            text = f"{self.decision} {than} {self.baseline}"
        elif math.isnan(self.baseline_r2):
            guess = "no better than guessing the mean"
            text = guess if self.r2 <= 0 else "no baseline to compare with"
        if self.r2 > self.ceiling:
            text += "; above the known ceiling: by chance, or by leakage"
        return text

    @property
    def reached(self) -> float:
        """Share of the ceiling that is reached; NaN where either is unknown or not positive."""
        return self.r2 / self.ceiling if self.ceiling > 0 and self.r2 > 0 else math.nan


def select_reported(rows: pd.DataFrame, collected: Collected) -> pd.DataFrame:
    """Return the rows of the strictest split at the reported level."""
    return rows[(rows["split"] == collected.split) & (rows["level"] == collected.level)]


def build_answers(collected: Collected) -> list[Answer]:
    """Compare the best model of each target with its best baseline and the ceiling."""
    table = _add_baseline(collected.best, collected.baseline, "r2", collected)
    ceiling = collected.ceiling.drop_duplicates("target").set_index("target")["r2"]
    table = table.rename(
        columns={"r2_low": "low", "r2_high": "high", "baseline_value": "baseline_r2"}
    )
    table = table.assign(ceiling=table["target"].map(ceiling).astype(float))
    table = table.sort_values("target", key=lambda names: names.map(collected.targets.index))
    rows: list[dict[Any, Any]] = table[list(Answer.__slots__)].to_dict("records")
    return [Answer(**row) for row in rows]


def build_class_answers(collected: Collected) -> list[dict[Any, Any]]:
    """Compare the best model of each target that is a class with its best baseline."""
    score = "balanced_accuracy"
    rows = select_reported(collected.class_scores, collected)
    rows = rows.sort_values(score, ascending=False, kind="stable")
    sees_pictures = ~rows["is_baseline"] & ~rows["is_fused"]
    best = pd.concat([rows[sees_pictures], rows]).drop_duplicates("target")
    table = _add_baseline(best, rows[rows["is_baseline"]], score, collected)
    return table[_CLASS_COLUMNS].to_dict("records")


def _add_baseline(
    best: pd.DataFrame, baselines: pd.DataFrame, score: str, collected: Collected
) -> pd.DataFrame:
    """Return the best models with their baseline, the gain over it, and the decision."""
    base = baselines.drop_duplicates("target").set_index("target")[["model", score]]
    base = base.set_axis(["baseline", "baseline_value"], axis=1)
    pairs = select_reported(collected.comparisons, collected)
    pairs = pairs[(pairs["kind"] == AGAINST_PLACE) & (pairs["score"] == score)]
    pairs = pairs.drop_duplicates("target").set_index("target")
    pairs = pairs[["difference", "low", "high", "verdict"]]
    pairs = pairs.set_axis(["gain", "gain_low", "gain_high", "decision"], axis=1)
    table = best.join(base, on="target").join(pairs, on="target")
    numbers = ["baseline_value", "gain", "gain_low", "gain_high"]
    table = table.astype(dict.fromkeys(numbers, float) | {"baseline": object, "decision": object})
    table["gain"] = table["gain"].fillna(table[score] - table["baseline_value"])
    table.loc[table["is_baseline"], [*numbers[1:], "decision"]] = np.nan
    return table.fillna({"baseline": DASH, "decision": ""})


def build_answer_chart(collected: Collected) -> alt.LayerChart | None:
    """Draw R² of pictures with its 95 % interval, and of the best baseline, one line a target."""
    answers = [answer for answer in build_answers(collected) if answer.is_known]
    if not answers:
        return None
    pictures, baseline = COLOURS
    rows = [(a.target, pictures, a.model, a.r2, a.low, a.high) for a in answers]
    for a in answers:
        rows.append((a.target, baseline, a.baseline, a.baseline_r2, a.baseline_r2, a.baseline_r2))
    data = pd.DataFrame(rows, columns=["target", "what", "model", "r2", "low", "high"])
    data = data[np.isfinite(data["r2"])]
    data = data.assign(**data[["r2", "low", "high"]].clip(lower=LOWEST_R2))
    marks = categories("what:N", COLOURS, shape=["circle", "diamond"])
    base = alt.Chart(data).encode(
        y=name_axis("target:N", [a.target for a in answers]),
        color=marks["color"],
        tooltip=tooltips("target", "what", "model", r2=".3f", low=".3f", high=".3f"),
    )
    title = f"out-of-sample R² of {collected.level}s (0: the mean, 1: perfect)"
    low = alt.X("low:Q", title=title, scale=alt.Scale(zero=True))
    intervals = base.mark_rule(strokeWidth=3).encode(x=low, x2="high:Q")
    points = base.mark_point(filled=True, size=110, opacity=1)
    points = points.encode(x="r2:Q", shape=marks["shape"])
    return (intervals + points).properties(width=430, height=alt.Step(30))


def describe_places(answers: list[Answer], collected: Collected) -> list[str]:
    """Describe for each target whether pictures add to where a place is and its classification."""
    fused = collected.fused.set_index("target")
    pairs = select_reported(collected.comparisons, collected)
    rows: list[dict[Any, Any]] = pairs.to_dict("records")
    by_kind = {(row["kind"], row["target"]): row for row in rows}
    texts = []
    for answer in answers:
        if not answer.is_known:
            continue
        text = _describe_pictures(answer)
        if answer.target in fused.index and math.isfinite(fused["r2"][answer.target]):
            model = fused["model"][answer.target]
            r2 = float(fused["r2"][answer.target])
            text += (
                f" Pictures and area descriptors together ({model}) explain {format_percent(r2)}."
            )
            text += _describe_gain(by_kind.get((FUSED_PLACE, answer.target)), "pictures", "place")
            text += _describe_gain(
                by_kind.get((FUSED_PICTURES, answer.target)), "descriptors", "pictures"
            )
        texts.append(text)
    return texts


def _describe_pictures(answer: Answer) -> str:
    explained = _describe_share(answer.r2)
    if answer.r2 > 0 and math.isfinite(answer.low):
        explained += f" ({format_percent(answer.low)} to {format_percent(answer.high)})"
    text = (
        f"For {answer.target}, the pictures explain {explained} of what differs between "
        "out-of-sample places"
    )
    if math.isfinite(answer.baseline_r2):
        words = BASELINE_WORDS.get(answer.baseline, f"{answer.baseline} explains")
        text += f"; {words} {_describe_share(answer.baseline_r2)}"
    if answer.decision == UNCLEAR:
        text += ": these data cannot tell the two apart"
    elif answer.decision:
        text += f": the pictures are {answer.decision}"
    return text + "."


def _describe_share(r2: float) -> str:
    return format_percent(r2) if r2 > 0 else "nothing"


def _describe_gain(pair: dict[Any, Any] | None, added: str, known: str) -> str:
    """Describe whether what was added to what is known explains more than that alone."""
    if pair is None:
        return ""
    words = {"place": "location and classification", "pictures": "the pictures"}[known]
    if pair["verdict"] == UNCLEAR:
        return f" These data cannot tell whether the {added} add anything to {words}."
    sign = -1 if pair["verdict"] == "worse" else 1
    value, *ends = (sign * 100 * float(pair[name]) for name in ("difference", "low", "high"))
    digits = 0 if abs(value) >= 1 else 1
    numbers = [round(v, digits) + 0.0 for v in (value, min(ends), max(ends))]  # + 0.0: no −0
    points, low, high = (f"{v:.{digits}f}".replace("-", "−") for v in numbers)
    interval = f"{points} points ({low} to {high})"
    if pair["verdict"] == "worse":
        return f" That is {interval} less than {words} alone."
    return f" The {added} add {interval} to {words}."
