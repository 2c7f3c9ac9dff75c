"""The model card of the best models: what they are for, their limits, and how they were made."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import pandas as pd

from extract.files.names import encode_name
from models.store.model_readme import LIMITS, USES
from models.store.runs import place_cell
from reports.data.collect import Collected
from reports.data.formats import DASH, format_count, format_figures, join_words

LICENCES = {
    "imagenet": "Keras Applications weights, pretrained on ImageNet. The code is under Apache 2.0; "
    "the pictures are for research that is not commercial",
    "random": "drawn from a seed, without a licence and without knowledge",
}
SOURCE = "Mitchell et al. 2019, Model Cards for Model Reporting, doi:10.1145/3287560.3287596"


class ModelCard(NamedTuple):
    """What the model card says.

    Attributes
    ----------
    rows : target, model, cut and chosen parameters of each target's best model, the model that was
        kept for prediction and its folder.
    kept : which models were kept for prediction, and why.
    licences : backbone and licence of its weights.
    versions : of the libraries that the models were fitted with.
    commands : that make everything again, from a settings file of this content.
    settings : names and values of that file.
    """

    rows: list[dict[str, Any]]
    kept: str
    licences: list[tuple[str, str]]
    versions: list[str]
    commands: list[str]
    settings: dict[str, str]
    uses: tuple[str, ...] = USES
    limits: tuple[str, ...] = LIMITS
    source: str = SOURCE


def build_card(collected: Collected) -> ModelCard:
    """Return the model card of the best model of each target."""
    keys = ["split", "cut", "model"]
    chosen = collected.runs.set_index(keys)["chosen"].to_dict()
    best = collected.best.sort_values(
        "target", key=lambda names: names.map(collected.targets.index)
    )
    kept = _find_kept(collected)
    rows = [
        {
            "target": target,
            "model": model,
            "cut": cut,
            **kept.get(target, {"kept": DASH, "folder": ""}),
            "chosen": describe_chosen(chosen.get((split, cut, model), {}).get(target) or {}),
        }
        for target, split, cut, model in best[["target", *keys]].to_numpy().tolist()
    ]
    config = shlex.quote(f"{collected.settings.name}.toml")
    steps = ("features", "models", "explain", "report")
    return ModelCard(
        rows=rows,
        kept=_describe_kept(collected),
        licences=_list_licences(collected),
        versions=_merge_versions(collected.runs["created_with"]),
        commands=[f"make {step} CONFIG={config}" for step in steps],
        settings=flatten_settings(collected.settings.as_json()),
    )


def _find_kept(collected: Collected) -> dict[str, dict[str, str]]:
    """Return the name and the folder of each target's kept model; the first of several."""
    kept = {}
    for row in collected.coverage.drop_duplicates("target").to_dict("records"):
        cell = place_cell(row["cut"], row["model"])
        folder = Path("..", "models", encode_name(row["target"]), cell)
        kept[row["target"]] = {"kept": row["model"], "folder": quote(folder.as_posix())}
    return kept


def _merge_versions(texts: pd.Series) -> list[str]:
    """Return each library with its versions over all runs, as `keras 3.15.0 and 3.15.1`."""
    versions: dict[str, set[str]] = {}
    for text in filter(None, texts):
        for part in text.split(", "):
            library, _, version = part.partition(" ")
            versions.setdefault(library, set()).add(version)
    return [f"{library} {join_words(_drop_short(found))}" for library, found in versions.items()]


def _drop_short(versions: set[str]) -> list[str]:
    """Return versions in order without those, as 3.15, that another one, as 3.15.1, is of."""
    return [one for one in sorted(versions) if not any(v.startswith(f"{one}.") for v in versions)]


def flatten_settings(settings: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Return each setting that has a value, by its dotted name, in words."""
    flat: dict[str, str] = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            flat |= flatten_settings(value, f"{prefix}{name}.")
        elif value not in (None, []):
            values = value if isinstance(value, list) else [value]
            flat[f"{prefix}{name}"] = ", ".join(str(one) for one in values)
    return flat


def _describe_kept(collected: Collected) -> str:
    keep = collected.settings.models.keep
    if keep == "best":
        which = "the best model of each index, be it a baseline"
    elif keep == "all":
        which = "every model"
    else:
        which = f"the best of {', '.join(keep)} of each index"
    return (
        f"For prediction we keep {which}, by its error on the split “{collected.split}”. "
        "It is refitted on all tiles; scores are of the fits that held tiles out. "
        "A card lies beside each kept model."
    )


def describe_chosen(chosen: dict[str, dict[str, Any]]) -> str:
    """Describe what was chosen over the folds, as `alpha 10 to 100`."""
    values: dict[str, list[Any]] = {}
    for parameters in chosen.values():
        for name, value in parameters.items():
            values.setdefault(name, []).append(value)
    parts = [f"{name} {_describe_values(some)}" for name, some in values.items()]
    return ", ".join(parts) or DASH


def _describe_values(values: list[Any]) -> str:
    if isinstance(values[0], int | float) and not isinstance(values[0], bool):
        is_whole = all(isinstance(value, int) for value in values)
        form = format_count if is_whole else format_figures
        ends = [form(min(values)), form(max(values))]
        return " to ".join(dict.fromkeys(ends))
    if isinstance(values[0], dict | list):
        return f"of {len(values[0])}"
    return " or ".join(sorted({str(value) for value in values}))


def _list_licences(collected: Collected) -> list[tuple[str, str]]:
    unknown = "a file of the user's own: its licence is not known here"
    weights = collected.weights[["backbone", "weights", "is_random"]].to_numpy().tolist()
    return [
        (backbone, LICENCES.get("random" if is_random else name, unknown))
        for backbone, name, is_random in weights
    ]
