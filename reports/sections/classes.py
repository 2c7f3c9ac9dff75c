"""The answer for targets that are classes: the best model by balanced accuracy, beside the best that sees no picture."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from models.evaluation.comparisons import AGAINST_PLACE
from reports.data.collect import Collected


def build_class_answers(collected: Collected) -> list[dict[str, Any]]:
    """Return one row a target: scores of its best model that sees pictures (else of its best baseline), and the best baseline's.

    gain, gain_low, gain_high, decision : of the paired comparison of the two; NaN and empty where they were not compared.
    """
    rows = collected.class_scores
    rows = rows[(rows["split"] == collected.split) & (rows["level"] == collected.level)]
    asked = collected.comparisons
    asked = asked[
        (asked["split"] == collected.split)
        & (asked["level"] == collected.level)
        & (asked["kind"] == AGAINST_PLACE)
        & (asked["score"] == "balanced_accuracy")
    ]
    paired = {str(row["target"]): row for row in asked.to_dict("records")}
    return [
        _answer(some, paired.get(str(target), {}))
        for target, some in rows.groupby("target", sort=False)
    ]


def _answer(rows: pd.DataFrame, pair: dict[Any, Any]) -> dict[str, Any]:
    rows = rows.sort_values("balanced_accuracy", ascending=False, kind="stable")
    seeing = rows[~rows["is_baseline"] & ~rows["is_fused"]]
    blind = rows[rows["is_baseline"]]
    best: dict[Any, Any] = (seeing if len(seeing) else rows).to_dict("records")[0]
    names = (
        "target",
        "model",
        "cut",
        "accuracy",
        "balanced_accuracy",
        "balanced_accuracy_low",
        "balanced_accuracy_high",
        "f1_macro",
        "log_loss",
    )
    base = blind[["model", "balanced_accuracy"]].to_numpy().tolist()
    model, value = base[0] if base else ("–", math.nan)
    return {
        **{name: best[name] for name in names},
        "baseline": model,
        "baseline_value": float(value),
        "gain": float(pair.get("difference", math.nan)),
        "gain_low": float(pair.get("low", math.nan)),
        "gain_high": float(pair.get("high", math.nan)),
        "decision": str(pair.get("verdict", "")),
    }


def describe_classes(collected: Collected) -> str:
    """Describe how well the best predicted class is found."""
    answers = build_class_answers(collected)
    if not answers:
        return "No class could be scored: there is nothing to conclude."
    top = max(answers, key=lambda a: a["balanced_accuracy"])
    text = f"Of the classes of {top['target']}, {top['model']} finds {100 * top['balanced_accuracy']:.0f} % on average"
    if math.isnan(top["baseline_value"]):
        return text + "."
    text += (
        f"; the best that sees no picture, {top['baseline']}, {100 * top['baseline_value']:.0f} %"
    )
    words = {
        "better": ": the pictures are better.",
        "worse": ": the pictures are worse.",
        "not distinguishable": ": these data cannot tell the two apart.",
    }
    return text + words.get(top["decision"], ".")
