"""The headline of the page, and which way its indices point."""

from __future__ import annotations

import math

from reports.data.collect import Collected
from reports.data.formats import format_percent, plural
from reports.sections.answer import UNCLEAR, Answer, build_class_answers

SPLIT_WORDS = {
    "block": "whole blocks of the map held out",
    "area": "whole areas held out",
    "random": "single tiles held out",
}


def build_headline(answers: list[Answer], collected: Collected) -> str:
    """Return the answer in a few sentences."""
    known = [answer for answer in answers if answer.is_known]
    if not known:
        return _describe_classes(collected)
    held_out = SPLIT_WORDS.get(collected.split, f"split {collected.split}")
    text = f"With {held_out}, {_count_decisions(known)}"
    top = max(known, key=lambda answer: answer.r2)
    if top.r2 <= 0:
        return text + " No model predicts better than the mean."
    return text + (
        f" The best predicted is {top.target}: {top.model} explains {format_percent(top.r2)} of "
        f"its differences between out-of-sample {collected.level}s."
    )


def _count_decisions(known: list[Answer]) -> str:
    """Describe on how many targets pictures beat the best baseline."""
    decisions = [answer.decision for answer in known if answer.decision]
    if not decisions:
        return "no model that sees the pictures could be compared with a baseline."
    text = (
        f"the pictures predict better than the best baseline on {decisions.count('better')} of "
        f"{plural(len(decisions), 'target')}"
    )
    counts = {word: decisions.count(word) for word in ("worse", UNCLEAR)}
    rest = ", ".join(f"{n} {word}" for word, n in counts.items() if n)
    return f"{text} ({rest})." if rest else f"{text}."


def _describe_classes(collected: Collected) -> str:
    """Describe how well the best predicted class is found."""
    answers = build_class_answers(collected)
    if not answers:
        return (
            "No model that sees pictures could be scored on any target: there is nothing to "
            "conclude."
        )
    top = max(answers, key=lambda answer: answer["balanced_accuracy"])
    text = (
        f"Of the classes of {top['target']}, {top['model']} finds "
        f"{format_percent(top['balanced_accuracy'])} on average"
    )
    if math.isfinite(top["baseline_value"]):
        share = format_percent(top["baseline_value"])
        text += f"; the best baseline, {top['baseline']}, finds {share}"
    if top["decision"] == UNCLEAR:
        text += ": these data cannot tell the two apart"
    elif top["decision"]:
        text += f": the pictures are {top['decision']}"
    return text + "."


def describe_direction(collected: Collected) -> str:
    """Describe which way the index points."""
    higher = collected.settings.reports.higher_is
    if higher is None:
        return (
            "The settings do not say which way the indices point (key higher_is in [reports]). "
            "“Higher” is higher on the index, which need not be more deprived."
        )
    if isinstance(higher, str):
        return f"Higher is {higher}, on every index."
    return "Higher is " + "; ".join(f"{word} for {target}" for target, word in higher.items()) + "."
