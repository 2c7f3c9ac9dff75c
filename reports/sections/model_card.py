"""The model card of the chosen models: what they are for, what they are not for, and how the page was made."""

from __future__ import annotations

import shlex
from typing import Any

from reports.data.collect import Collected
from reports.data.runs_table import describe_chosen

LICENCES = {
    "imagenet": "Keras Applications weights, pretrained on ImageNet (code Apache 2.0; its pictures are for research that is not "
    "commercial)",
    "random": "drawn from a seed: no licence, and no knowledge either",
}
USES = (
    "To ask how much of an index the look of places tells, beside what their position and classification tell.",
    "To choose, among many cheap models, one whose error on areas it has not seen is known.",
)
LIMITS = (
    "It speaks of areas, never of people: two households under one roof line can live very differently.",
    "Not for decisions about individuals or households: no credit, insurance, policing, benefits or hiring.",
    "Learned from the areas listed here at the time of their labels. Elsewhere and later the error is not known.",
    "Predictions are drawn towards the mean: extremes are predicted less extreme than they are. "
    "See the errors by group.",
    "What pictures show of deprivation is partly what a place was built for: a model carries its past forward.",
    "The intervals say how much a score would differ had other areas been drawn. Other folds, seeds or training areas "
    "are not in them.",
)
SOURCE = "Mitchell et al. 2019, Model Cards for Model Reporting, doi:10.1145/3287560.3287596"


def build_card(collected: Collected) -> dict[str, Any]:
    """Return what the model card says: one row a target's best model, uses, limits, licences, commands."""
    runs = {(r["split"], r["cut"], r["model"]): r for r in collected.runs.to_dict("records")}
    rows = []
    order = {target: i for i, target in enumerate(collected.targets)}
    for best in sorted(collected.best.to_dict("records"), key=lambda row: order[row["target"]]):
        run = runs.get((best["split"], best["cut"], best["model"]), {})
        chosen = run.get("chosen", {})
        rows.append(
            {
                "target": best["target"],
                "model": best["model"],
                "cut": best["cut"],
                "chosen": describe_chosen(chosen.get(best["target"])),
                "seconds": best["fit_seconds"],
            }
        )
    return {
        "rows": rows,
        "uses": USES,
        "limits": LIMITS,
        "source": SOURCE,
        "licences": _licences(collected),
        "versions": sorted({str(v) for v in collected.runs["created_with"] if v}),
        "commands": list_commands(collected),
    }


def _licences(collected: Collected) -> list[tuple[str, str]]:
    rows = []
    for backbone, weights, is_random in (
        collected.weights[["backbone", "weights", "is_random"]].to_numpy().tolist()
    ):
        kind = "random" if is_random else str(weights)
        rows.append(
            (
                str(backbone),
                LICENCES.get(kind, "a file of the user's own: its licence is not known here"),
            )
        )
    return rows


def list_commands(collected: Collected) -> list[str]:
    """Return the commands that make everything again, from a settings file of this content."""
    config = shlex.quote(f"{collected.settings.name}.toml")
    return [f"make {step} CONFIG={config}" for step in ("features", "models", "explain", "report")]
