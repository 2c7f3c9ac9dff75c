"""Write `report.json`: the numbers behind the page's sentences, for programs."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

from models.evaluation.comparisons import FUSED_PICTURES, FUSED_PLACE
from reports.page.page import PageContent
from reports.sections.answer import (
    build_answers,
    build_class_answers,
    describe_places,
    select_reported,
)
from reports.sections.comparison import describe_winners
from reports.sections.explain import list_rows
from reports.sections.headline import build_headline
from reports.sections.ladder import build_ladder_table, describe_ladder

SCHEMA = "roofline.report"
SCHEMA_VERSION = 1
FUSION_COLUMNS = [
    "target",
    "kind",
    "score",
    "best_cut",
    "best_model",
    "cut",
    "model",
    "difference",
    "low",
    "high",
    "p_holm",
    "verdict",
]


def build_document(content: PageContent) -> str:
    """Return the JSON text; NaN and infinity are null."""
    collected = content.collected
    answers = build_answers(collected)
    compared = select_reported(collected.comparisons, collected)
    is_fusion = compared["kind"].isin([FUSED_PLACE, FUSED_PICTURES])
    maps = content.maps.items()
    errors = content.group_errors.items()
    document = {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "name": collected.settings.name,
        "split": collected.split,
        "level": collected.level,
        "headline": build_headline(answers, collected),
        "random_weights": collected.random_backbones,
        "accepted_findings": collected.audit["accepted"] if collected.audit else [],
        "missing_runs": collected.missing_runs,
        "answers": [{**dataclasses.asdict(a), "verdict": a.verdict} for a in answers],
        "places": describe_places(answers, collected),
        "winners": describe_winners(collected),
        "classes": build_class_answers(collected),
        "fusion": compared.loc[is_fusion, FUSION_COLUMNS].to_dict("records"),
        "ladder": {
            "sentence": describe_ladder(collected),
            "rows": build_ladder_table(collected).to_dict("records"),
        },
        "galleries": list_rows(collected.galleries),
        "residuals": [{"target": t, "moran": m.moran, "p": m.p} for t, m in maps],
        "errors": [{"target": t, "sentence": e.sentence} for t, e in errors],
    }
    return json.dumps(to_json(document), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def to_json(value: Any) -> Any:
    """Return the value with NaN and infinity as None, and NumPy's numbers as Python's."""
    if isinstance(value, dict):
        return {str(k): to_json(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(v) for v in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
