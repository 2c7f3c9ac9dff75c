"""The `README.md` beside a kept model: a short model card.

After Mitchell et al. 2019, doi:10.1145/3287560.3287596, with the header that Hugging Face reads.
"""

from __future__ import annotations

import math
import shlex
from typing import Any

USES = (
    "To ask how much of an index the look of places explains, beside location and classification.",
    "To choose, among many cheap models, one whose out-of-sample error is known.",
)
LIMITS = (
    "It speaks of areas, never of people: two households under one roof line can live very "
    "differently.",
    "Not for decisions about individuals or households: no credit, insurance, policing, benefits "
    "or hiring.",
    "Learned from the areas of its table at the time of their labels. Elsewhere and later the "
    "error is not known.",
    "Predictions are drawn towards the mean: extremes are predicted less extreme than they are. "
    "The report shows errors by group.",
    "What pictures show of deprivation is partly what a place was built for: a model carries its "
    "past forward.",
    "The intervals say how much a score would differ had other areas been drawn. Other folds, "
    "seeds or training areas are not in them.",
)
_SCORES = {
    "r2": "R²",
    "rmse": "RMSE",
    "balanced_accuracy": "balanced accuracy",
    "log_loss": "log loss",
}
_FEEDS = {
    "place": "where places are",
    "groups": "descriptors of areas",
    "region": "the region",
    "metadata": "file size and colour of pictures",
    "nothing": "nothing",
}
_HASHES = {
    "tiles_sha256": "tiles",
    "labels_sha256": "labels",
    "weights_sha256": "weights of the network",
    "features_sha256": "embeddings",
}


def describe_model(model: str, facts: dict[str, Any]) -> str:
    """Return the card of a model as Markdown, from what its `model.json` will say.

    Parameters
    ----------
    model : its name, as `ridge`.
    """
    target = facts.get("target", "an index")
    split = facts.get("split", "unknown")
    task = "classification" if facts.get("classes") else "regression"
    lines = [
        "---",
        "library_name: roofline",
        f"pipeline_tag: tabular-{task}",
        "---",
        f"# {_escape(model)} of {_escape(target)}",
        "",
        *_describe_origin(facts),
        "",
        "## Out-of-sample scores",
        "",
        f"Of fits that held tiles out (split `{split}`), with 95 % intervals over areas.",
        "",
        *_tabulate_scores(facts.get("scores", [])),
        "",
        "## Intervals of predictions",
        "",
        *_list_intervals(facts),
        "",
        "## Intended use",
        "",
        *(f"- {use}" for use in USES),
        "",
        "## Limits and ethics",
        "",
        *(f"- {limit}" for limit in LIMITS),
        "",
        "## How to load it",
        "",
        *_describe_loading(model, facts),
        "",
        "## Data",
        "",
        *_list_hashes(facts.get("training", {})),
        "",
    ]
    return "\n".join(lines)


def _describe_origin(facts: dict[str, Any]) -> list[str]:
    """Describe what the model is, and what it learnt from."""
    training = facts.get("training", {})
    feed = facts.get("feed", {})
    kinds = {"embedding": f"embeddings of `{facts.get('cut')}`", **_FEEDS}
    fed = kinds.get(feed.get("kind", ""), "its rows")
    if feed.get("groups"):
        fed += " and descriptors of areas"
    rows = training.get("n_rows", "an unknown number of")
    lines = [
        f"It is fed {fed}, and was fitted on {rows} rows.",
        f"Weights of the network: {_escape(facts.get('licence', 'unknown'))}.",
    ]
    if facts.get("is_refitted"):
        lines.append("No file can hold it safely: it is fitted again whenever it is asked.")
    return lines


def _tabulate_scores(levels: list[dict[str, Any]]) -> list[str]:
    lines = ["| level | rows | score | value | 95 % interval |", "|---|---|---|---|---|"]
    for scores in levels:
        for name, words in _SCORES.items():
            value = scores.get(name)
            if value is None:
                continue
            ends = [_format(scores.get(f"{name}_{end}")) for end in ("low", "high")]
            interval = " … ".join(ends)
            level = scores["level"]
            lines.append(f"| {level} | {scores['n']} | {words} | {_format(value)} | {interval} |")
    return lines


def _list_intervals(facts: dict[str, Any]) -> list[str]:
    if facts.get("classes"):
        return ["Sets of classes that hold the true one in 80 % and 95 % of new areas."]
    lines = []
    for level, widths in facts.get("intervals", {}).items():
        for nominal, half in widths.items():
            percent = round(100 * float(nominal))
            text = "too few areas for one" if half is None else f"± {_format(half)}"
            lines.append(f"- {level}s, {percent} %: {text}")
    return lines or ["- none"]


def _describe_loading(model: str, facts: dict[str, Any]) -> list[str]:
    settings = facts.get("settings", {})
    options = {
        "--config": f"{settings.get('name', 'settings')}.toml",
        "--tiles": "new.toml",
        "--target": str(facts.get("target", "an index")),
        "--model": model,
        "--cut": str(facts.get("cut")),
    }
    words = [f"{option} {shlex.quote(value)}" for option, value in options.items()]
    return [
        "```sh",
        f"python -m models predict {' '.join(words)}".replace("\n", " "),
        "```",
        "",
        "It reads no pickle, and refuses files that are not those that `model.json` lists.",
    ]


def _list_hashes(training: dict[str, Any]) -> list[str]:
    known = [(words, training[name]) for name, words in _HASHES.items() if training.get(name)]
    return [f"- SHA-256 of {words}: `{value}`" for words, value in known]


def _format(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.3g}".replace("-", "−")


def _escape(text: object) -> str:
    """Return a name on one line, without what Markdown or HTML would read."""
    line = " ".join(str(text).split())
    for sign in "\\`*_[]<>|#":
        line = line.replace(sign, f"\\{sign}")
    return line
