"""Write `report.json`: the numbers behind the page's sentences, for programs.

Schema `roofline.report`, version 3; version 1 had R² as `r2` and the winners as sentences, and 2
intervals that did not reckon with other training sets.
"""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

from models.evaluation.comparisons import FUSED_PICTURES, FUSED_PLACE
from reports.page.page import PageContent
from reports.sections.answer import (
    Answer,
    build_answers,
    build_class_answers,
    describe_exceptions,
)
from reports.sections.explain import list_rows
from reports.sections.headline import build_headline
from reports.sections.ladder import build_ladder_table, describe_ladder

SCHEMA = "roofline.report"
SCHEMA_VERSION = 3
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
    "p_corrected",
    "verdict",
]


def build_document(content: PageContent) -> str:
    """Return the JSON text; NaN and infinity are null."""
    collected = content.collected
    answers = [*build_answers(collected), *build_class_answers(collected)]
    compared = collected.select_reported(collected.comparisons)
    is_fusion = compared["kind"].isin([FUSED_PLACE, FUSED_PICTURES])
    winners = collected.select_reported(collected.winners)
    document = {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "name": collected.settings.name,
        "split": collected.split,
        "level": collected.level,
        "headline": build_headline(collected),
        "random_weights": collected.random_backbones,
        "accepted_findings": collected.audit["accepted"] if collected.audit else [],
        "missing_runs": collected.missing_runs,
        "answers": [_describe_answer(answer) for answer in answers],
        "exceptions": describe_exceptions(answers, collected),
        "winners": winners.to_dict("records"),
        "fusion": compared.loc[is_fusion, FUSION_COLUMNS].to_dict("records"),
        "ladder": {
            "sentence": describe_ladder(collected),
            "rows": build_ladder_table(collected).table.to_dict("records"),
        },
        "galleries": list_rows(collected.galleries),
        "residuals": [
            {"target": target, "moran": one.moran.i, "p": one.moran.p}
            for target, one in content.maps.items()
        ],
        "errors": [
            {"target": target, "sentence": one.sentence}
            for target, one in content.group_errors.items()
        ],
    }
    return json.dumps(to_json(document), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _describe_answer(answer: Answer) -> dict[str, Any]:
    return {**dataclasses.asdict(answer), "verdict": answer.verdict}


def to_json(value: Any) -> Any:
    """Return the value with NaN and infinity as None, and NumPy's numbers as Python's."""
    if isinstance(value, dict):
        return {str(key): to_json(child) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(child) for child in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
