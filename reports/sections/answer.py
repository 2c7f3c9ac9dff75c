"""The answer: the best model of each target that sees pictures, beside the best baseline."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd

from models.evaluation.comparisons import AGAINST_PLACE, FUSED_PICTURES, FUSED_PLACE
from reports.data.collect import Collected
from reports.data.formats import DASH, format_percent, plural
from reports.data.words import name_baseline
from reports.sections.charts import Spec, clip_r2, fill_chart

BETTER = "better"
WORSE = "worse"
UNCLEAR = "not distinguishable"  # the verdict of a comparison that is neither better nor worse
ADDED = {
    FUSED_PLACE: "Added to location and classification, the pictures",
    FUSED_PICTURES: "Added to the pictures, area descriptors",
}
MAX_ALIKE = 3  # sentences; more of a kind become one
Rows = dict[Any, dict[Any, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One row of the answer table; NaN where there is no number.

    Attributes
    ----------
    score : `r2`, or `balanced_accuracy` of classes.
    value, low, high : of the best model that sees pictures and nothing else, and its 95 % interval.
    corrected, corrected_low, corrected_high : the same where the model was not chosen, where it is
        the best of all.
    gain, gain_low, gain_high : above the best baseline, paired over the same resamples.
    decision : `better`, `worse` or `not distinguishable` (p < 0.05 after correction); empty where
        it was not compared.
    ceiling : the best reachable value.
    """

    target: str
    score: str
    model: str
    cut: str
    is_baseline: bool
    value: float
    low: float
    high: float
    corrected: float
    corrected_low: float
    corrected_high: float
    baseline: str
    baseline_value: float
    gain: float
    gain_low: float
    gain_high: float
    decision: str
    ceiling: float

    @property
    def is_known(self) -> bool:
        """Whether a model that sees pictures has a score."""
        return not self.is_baseline and math.isfinite(self.value)

    @property
    def kept(self) -> tuple[float, float, float]:
        """The value that can be expected to stay, with its interval: corrected for the choice where
        the model was chosen as the best.
        """
        if math.isfinite(self.corrected):
            return self.corrected, self.corrected_low, self.corrected_high
        return self.value, self.low, self.high

    @property
    def verdict(self) -> str:
        """What this row means."""
        if math.isnan(self.value):
            return f"not scored: {self.score} is undefined here"
        if self.is_baseline:
            return "only baselines were fitted"
        if self.value > self.ceiling:
            return f"{self._beside_baseline}; above the known ceiling: by chance, or by leakage"
        return self._beside_baseline

    @property
    def _beside_baseline(self) -> str:
        if self.decision == UNCLEAR:
            return "no difference detected"
        if self.decision:
            return self.decision
        if not math.isnan(self.baseline_value):
            return "not compared"
        if self.score == "r2" and self.value <= 0:
            return "no better than guessing the mean"
        return "no baseline to compare with"

    @property
    def reached(self) -> float:
        """Share of the ceiling that is reached; NaN where either is unknown or not positive."""
        if self.ceiling > 0 and self.value > 0:
            return self.value / self.ceiling
        return math.nan


def build_answers(collected: Collected) -> list[Answer]:
    """Compare the best model of each target with its best baseline and the ceiling."""
    best = _index(collected.best)
    baselines = _index(collected.baseline)
    return _build(collected, "r2", best, baselines, collected.targets)


def build_class_answers(collected: Collected) -> list[Answer]:
    """Compare the best model of each target that is a class with its best baseline."""
    score = "balanced_accuracy"
    rows = collected.select_reported(collected.class_scores)
    rows = rows.sort_values(score, ascending=False, kind="stable")
    sees_pictures = ~rows["is_baseline"] & ~rows["is_fused"]
    best = _index(pd.concat([rows[sees_pictures], rows]))
    baselines = _index(rows[rows["is_baseline"]])
    return _build(collected, score, best, baselines, list(best))


def _index(rows: pd.DataFrame) -> Rows:
    """Return the first row of each target, by target."""
    return rows.drop_duplicates("target").set_index("target").to_dict("index")


def index_pairs(collected: Collected, kind: str, score: str) -> Rows:
    """Return the comparison of one kind of each target, by target."""
    pairs = collected.select_reported(collected.comparisons)
    is_asked = (pairs["kind"] == kind) & (pairs["score"] == score)
    return _index(pairs[is_asked])


def _build(
    collected: Collected, score: str, best: Rows, baselines: Rows, targets: list[str]
) -> list[Answer]:
    pairs = index_pairs(collected, AGAINST_PLACE, score)
    ceilings = _index(collected.ceiling)
    winners = _index(collected.select_reported(collected.winners))
    answers = []
    for target in targets:
        row = best.get(target)
        if row is None:
            continue
        baseline = {} if row["is_baseline"] else baselines.get(target, {})
        pair = {} if row["is_baseline"] else pairs.get(target, {})
        winner = winners.get(target, {})
        if (winner.get("best_cut"), winner.get("best_model")) != (row["cut"], row["model"]):
            winner = {}
        value = float(row[score])
        baseline_value = float(baseline.get(score, math.nan))
        answer = Answer(
            target=target,
            score=score,
            model=row["model"],
            cut=row["cut"],
            is_baseline=row["is_baseline"],
            value=value,
            low=float(row[f"{score}_low"]),
            high=float(row[f"{score}_high"]),
            corrected=float(winner.get("value_corrected", math.nan)),
            corrected_low=float(winner.get("low_corrected", math.nan)),
            corrected_high=float(winner.get("high_corrected", math.nan)),
            baseline=baseline.get("model", DASH),
            baseline_value=baseline_value,
            gain=float(pair.get("difference", value - baseline_value)),
            gain_low=float(pair.get("low", math.nan)),
            gain_high=float(pair.get("high", math.nan)),
            decision=pair.get("verdict", ""),
            ceiling=float(ceilings.get(target, {}).get("r2", math.nan)),
        )
        answers.append(answer)
    return answers


def build_answer_chart(collected: Collected) -> Spec | None:
    """Draw R² of pictures with its 95 % interval, and of the best baseline, one line a target."""
    answers = [answer for answer in build_answers(collected) if answer.is_known]
    if not answers:
        return None
    names = {"value": "r2", "baseline_value": "r2", "baseline": "model"}
    table = pd.DataFrame(answers)
    pictures = table[["target", "model", "value", "low", "high"]].rename(columns=names)
    baselines = table[["target", "baseline", "baseline_value"]].rename(columns=names)
    baselines = baselines.assign(low=baselines["r2"], high=baselines["r2"])
    rows = pd.concat(
        [pictures.assign(what="pictures"), baselines.assign(what="best baseline")],
        ignore_index=True,
    )
    return fill_chart(
        "answer",
        targets=table["target"].tolist(),
        title=f"R² of {collected.level}s that were held out (0: the mean, 1: perfect)",
        datasets={"scores": clip_r2(rows.dropna(subset="r2"))},
    )


def title_answer(collected: Collected) -> str:
    """Return on how many targets that are numbers pictures are better, and on how many worse."""
    decisions = [answer.decision for answer in build_answers(collected) if answer.decision]
    if not decisions:
        return "What pictures explain, beside the best baseline"
    n_better = decisions.count(BETTER)
    n_worse = decisions.count(WORSE)
    count = n_better or "none"
    text = f"Pictures beat the best baseline on {count} of {plural(len(decisions), 'index')}"
    return f"{text}, and lose on {n_worse}" if n_worse else text


def describe_exceptions(answers: list[Answer], collected: Collected) -> list[str]:
    """Describe where pictures are better or worse, and what they add or lack beside descriptors.

    Many alike are one sentence, and what no comparison could tell apart is counted in one.
    """
    texts = []
    for decision in (BETTER, WORSE):
        alike = [answer for answer in answers if answer.decision == decision]
        is_many = len(alike) > MAX_ALIKE and len({answer.score for answer in alike}) == 1
        if is_many:
            texts.append(_describe_alike(alike))
        else:
            texts += [_describe_pictures(answer) for answer in alike]
    for kind, subject in ADDED.items():
        texts += _describe_gains(index_pairs(collected, kind, "r2"), subject)
    unclear = [answer.target for answer in answers if answer.decision == UNCLEAR]
    if unclear:
        n = plural(len(unclear), "index")
        texts.append(f"We detect no difference between pictures and the best baseline on {n}.")
    texts += _list_undetected(collected)
    return texts


def _describe_pictures(answer: Answer) -> str:
    """Describe what pictures and the best baseline explain, or find of classes."""
    verb = "find" if answer.score == "balanced_accuracy" else "explain"
    value, low, high = answer.kept
    share = _describe_share(value)
    if value > 0 and math.isfinite(low):
        share += f" ({format_percent(max(low, 0))} to {format_percent(high)})"
    baseline = _describe_share(answer.baseline_value)
    return (
        f"{answer.target}: pictures are {answer.decision}. They {verb} {share}, the best baseline "
        f"({name_baseline(answer.baseline)}) {baseline}."
    )


def _describe_alike(answers: list[Answer]) -> str:
    """Describe in one sentence what pictures and the best baselines explain of many targets."""
    verb = "find" if answers[0].score == "balanced_accuracy" else "explain"
    pictures = [answer.kept[0] for answer in answers]
    baselines = [answer.baseline_value for answer in answers]
    return (
        f"Pictures are {answers[0].decision} on {plural(len(answers), 'index')}. They {verb} "
        f"{_describe_shares(pictures)}, the best baselines {_describe_shares(baselines)}."
    )


def _describe_shares(values: list[float]) -> str:
    ends = [_describe_share(min(values)), _describe_share(max(values))]
    return " to ".join(dict.fromkeys(ends))


def _describe_share(value: float) -> str:
    return format_percent(value) if value > 0 else "nothing"


def _describe_gains(pairs: Rows, subject: str) -> list[str]:
    """Describe by how many points R² changes with what was added, where that is clear."""
    clear = {target: pair for target, pair in pairs.items() if pair["verdict"] != UNCLEAR}
    if len(clear) <= MAX_ALIKE:
        return [_describe_gain(target, pair, subject) for target, pair in clear.items()]
    gains = [pair["difference"] for pair in clear.values()]
    ends = f"{_format_points(min(gains))} to {_format_points(max(gains))}"
    on = f"on {len(clear)} of {plural(len(pairs), 'index')}"
    return [f"{subject} change R² by {ends} points {on}."]


def _describe_gain(target: str, pair: dict[Any, Any], subject: str) -> str:
    gain = _format_points(pair["difference"])
    interval = f"{_format_points(pair['low'])} to {_format_points(pair['high'])}"
    return f"{target}: {subject} change R² by {gain} points ({interval})."


def _format_points(share: float) -> str:
    points = round(100 * float(share), 1) + 0.0  # + 0.0: no −0
    return f"{points:+.1f}".replace("-", "−")


def _list_undetected(collected: Collected) -> list[str]:
    """Return on how many targets nothing was detected, of each question about descriptors."""
    texts = []
    for kind, subject in ADDED.items():
        pairs = index_pairs(collected, kind, "r2").values()
        verdicts = [pair["verdict"] for pair in pairs]
        n_unclear = verdicts.count(UNCLEAR)
        if n_unclear:
            on = f"on {n_unclear} of {plural(len(verdicts), 'index')}"
            texts.append(f"{subject} change nothing that we can detect {on}.")
    return texts
