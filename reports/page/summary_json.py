"""`report.json`: the numbers behind the page's sentences, for programs."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

from models.evaluation.comparisons import FUSED_PICTURES, FUSED_PLACE
from reports.data.collect import Collected
from reports.sections.answer import (
    build_answers,
    build_class_answers,
    describe_places,
    select_reported,
)
from reports.sections.comparison import describe_winners
from reports.sections.headline import build_headline
from reports.sections.ladder import build_ladder_table, describe_ladder

SCHEMA = "roofline.report"
SCHEMA_VERSION = 1


def build_document(collected: Collected, more: dict[str, list[dict[str, Any]]]) -> str:
    """Return the JSON text; what is no number is null.

    Parameters
    ----------
    more : further tables of the page, by name, as rows.
    """
    answers = build_answers(collected)
    audit = collected.audit
    document = {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "name": collected.settings.name,
        "split": collected.split,
        "level": collected.level,
        "headline": build_headline(answers, collected),
        "random_weights": collected.random_backbones,
        "accepted_findings": [] if audit is None else audit["accepted"],
        "missing_runs": collected.missing_runs,
        "answers": [{**dataclasses.asdict(a), "verdict": a.verdict} for a in answers],
        "places": describe_places(answers, collected),
        "winners": describe_winners(collected),
        "classes": build_class_answers(collected),
        "fusion": _list_fusion(collected),
        "ladder": {
            "sentence": describe_ladder(collected),
            "rows": build_ladder_table(collected).to_dict("records"),
        },
        **more,
    }
    return json.dumps(plain(document), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _list_fusion(collected: Collected) -> list[dict[Any, Any]]:
    """Return the paired comparisons of pictures with area descriptors against each alone, on the reported split and level."""
    rows = select_reported(collected.comparisons, collected)
    rows = rows[rows["kind"].isin([FUSED_PLACE, FUSED_PICTURES])]
    return rows[
        [
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
    ].to_dict("records")


def plain(value: Any) -> Any:
    """Return the value with NaN and infinity as None, and NumPy's numbers as Python's."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
