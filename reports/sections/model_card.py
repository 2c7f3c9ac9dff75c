"""The model card of the best models: what they are for, their limits, and how they were made."""

from __future__ import annotations

import shlex
from typing import Any, NamedTuple

from models.store.model_readme import LIMITS, USES
from reports.data.collect import Collected
from reports.data.formats import DASH, format_count, format_figures

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
    rows : target, model, cut and chosen parameters of each target's best model.
    kept : which models were kept for prediction, and why.
    licences : backbone and licence of its weights.
    versions : of the libraries that the models were fitted with.
    commands : that make everything again, from a settings file of this content.
    """

    rows: list[dict[str, Any]]
    kept: str
    licences: list[tuple[str, str]]
    versions: list[str]
    commands: list[str]
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
    rows = [
        {
            "target": target,
            "model": model,
            "cut": cut,
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
        versions=sorted({str(version) for version in collected.runs["created_with"] if version}),
        commands=[f"make {step} CONFIG={config}" for step in steps],
    )


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
        "A card lies beside each kept model (README.md)."
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
