"""The headline of the page, and which way its indices point."""

from __future__ import annotations

import math
from collections import Counter

from models.evaluation.comparisons import FUSED_PLACE
from reports.data.collect import Collected
from reports.data.formats import format_number, join_words, plural
from reports.data.words import name_baseline
from reports.sections.answer import (
    BETTER,
    MAX_ALIKE,
    WORSE,
    Answer,
    build_answers,
    build_class_answers,
    index_pairs,
)

NOTHING = "add nothing that we can detect"


def build_headline(collected: Collected) -> str:
    """Return the answer in a few sentences; the first is no or yes."""
    answers = [*build_answers(collected), *build_class_answers(collected)]
    known = [answer for answer in answers if answer.is_known]
    if not known:
        return "No answer: no model that sees pictures could be scored."
    compared = [answer for answer in known if answer.decision]
    if not compared:
        return "No answer: no model that sees pictures could be compared with a baseline."
    sentences = [_answer(compared, collected), _name_baselines(compared)]
    worse = [answer.target for answer in compared if answer.decision == WORSE]
    if worse:
        names = join_words(worse)
        sentences.append(f"On {len(worse)} they predict worse than the best baseline: {names}.")
    return " ".join(sentences)


def _answer(compared: list[Answer], collected: Collected) -> str:
    n = len(compared)
    better = [answer for answer in compared if answer.decision == BETTER]
    if better:
        names = join_words([answer.target for answer in better])
        if len(better) == n > MAX_ALIKE:
            names = "every index"
        best = max(better, key=lambda answer: answer.value)
        return (
            f"Yes, on {len(better)} of {n}: pictures predict {names} better than the best "
            f"baseline. {_describe_best(best)}"
        )
    which = f"any of {n} indices" if n > 1 else compared[0].target
    pairs = index_pairs(collected, FUSED_PLACE, "r2")
    fused = [target for target, pair in pairs.items() if pair["verdict"] == BETTER]
    if fused:
        return (
            f"Only together: pictures alone {NOTHING} on {which}. With area descriptors they "
            f"improve {len(fused)} of {len(pairs)}: {join_words(fused)}."
        )
    return f"No: pictures {NOTHING} on {which}."


def _describe_best(best: Answer) -> str:
    """Name the best predicted target, by its value where it was not chosen if that is known."""
    names = {"r2": "R²", "balanced_accuracy": "balanced accuracy"}
    score = names[best.score]
    if math.isfinite(best.corrected):
        value = format_number(best.corrected)
        low = format_number(best.corrected_low)
        high = format_number(best.corrected_high)
        return (
            f"The best predicted is {best.target}: {score} {value} ({low} to {high}) where it was "
            "not chosen."
        )
    return f"The best predicted is {best.target}: {score} {format_number(best.value)}."


def _name_baselines(compared: list[Answer]) -> str:
    """Name the best baseline of most targets."""
    counts = Counter(answer.baseline for answer in compared)
    baseline, n_targets = counts.most_common(1)[0]
    on = f" on {n_targets} of {len(compared)}" if len(compared) > 1 else ""
    return f"The best baseline is {name_baseline(baseline)}{on}."


def describe_size(collected: Collected) -> str:
    """Return how many tiles, areas and indices the page is about."""
    targets = {*collected.targets, *collected.class_scores["target"]}
    parts = [plural(len(targets), "index")]
    if collected.tiles is not None:
        n_areas = collected.tiles.area.nunique()
        parts = [plural(len(collected.tiles), "tile"), plural(n_areas, "area"), *parts]
    return ", ".join(parts)


def name_higher(collected: Collected, target: str) -> str:
    """Return what higher on an index is: `more deprived`, `less deprived` or just `higher`."""
    way = collected.settings.reports.higher_is
    if isinstance(way, dict):
        way = way.get(target)
    return way or "higher"


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
    ways = [f"{word} for {target}" for target, word in higher.items()]
    return f"Higher is {'; '.join(ways)}."
