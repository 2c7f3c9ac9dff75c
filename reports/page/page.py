"""The one page: tables, sentences and figures, put into page.html; it loads nothing from outside."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd
import vl_convert
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from reports.data.collect import Collected
from reports.data.formats import (
    DASH,
    format_count,
    format_figures,
    format_number,
    format_percent,
)
from reports.page.figures import Figure
from reports.page.leaderboard import build_class_leaderboard
from reports.sections.answer import build_answers, build_class_answers, describe_places
from reports.sections.comparison import describe_winners
from reports.sections.cost import build_pareto_table
from reports.sections.curves import describe_curves
from reports.sections.dataset_summary import describe_data, summarise_targets
from reports.sections.error_equity import GroupErrors, describe_group_errors
from reports.sections.explain import describe_galleries
from reports.sections.headline import SPLIT_WORDS, build_headline, describe_direction
from reports.sections.intervals import build_interval_table, describe_intervals
from reports.sections.ladder import build_ladder_table, describe_ladder
from reports.sections.maps import Maps, describe_moran, describe_unit
from reports.sections.model_card import build_card
from reports.sections.truth import describe_calibration

_HERE = Path(__file__).parent
MAX_REJECTS = 200  # rows on the page; rejects.csv has them all
CONTENTS = (
    ("ladder", "Splits"),
    ("comparison", "Comparison"),
    ("truth", "Truth and prediction"),
    ("maps", "Maps"),
    ("errors", "Errors by group"),
    ("intervals", "Intervals"),
    ("explain", "What the models look at"),
    ("curves", "Training curves"),
    ("cost", "Cost"),
    ("data", "Data"),
    ("made", "How this was made"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the page shows beside sentences: the leaderboard, the figures, and by target maps and errors."""

    board: pd.DataFrame
    figures: dict[str, Figure]
    maps: dict[str, Maps]
    group_errors: dict[str, GroupErrors]


def render_page(collected: Collected, parts: Parts) -> str:
    """Return the page as HTML; every name in it is escaped, in the text and in the figures' data."""
    environment = Environment(
        loader=FileSystemLoader([_HERE, _HERE.parent]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": format_number,
        "percent": format_percent,
        "count": format_count,
        "figures": format_figures,
    }
    values = {
        **_answer(collected),
        **_comparison(collected, parts),
        **_places(collected, parts),
        **_explain(collected),
        **_data(collected),
        **_made(collected),
        **_embedded(parts),
    }
    left_out = {
        "ladder": not values["ladder_sentence"],
        "truth": not values["truth_targets"],
        "maps": not parts.maps,
        "errors": not parts.group_errors,
        "intervals": not values["interval_sentence"],
        "explain": not collected.galleries.shown,
        "curves": not values["curve_targets"],
    }
    contents = [(id, name) for id, name in CONTENTS if not left_out.get(id, False)]
    return environment.get_template("page.html").render(
        collected=collected, settings=collected.settings, contents=contents, **values
    )


def _answer(collected: Collected) -> dict[str, Any]:
    answers = build_answers(collected)
    return {
        "answers": answers,
        "headline": build_headline(answers, collected),
        "places": describe_places(answers, collected),
        "direction": describe_direction(collected),
        "split_words": SPLIT_WORDS.get(collected.split, ""),
        "class_answers": build_class_answers(collected),
        "class_board": _rows(build_class_leaderboard(collected)),
        "n_runs": len(collected.runs) + len(collected.missing_runs),
    }


def _comparison(collected: Collected, parts: Parts) -> dict[str, Any]:
    return {
        "ladder_sentence": describe_ladder(collected),
        "ladder": _rows(build_ladder_table(collected)),
        "winners": describe_winners(collected),
        "board": [_board_row(row) for row in _rows(parts.board)],
    }


def _board_row(row: dict[Any, Any]) -> dict[str, Any]:
    digits = (
        "r2",
        "r2_low",
        "r2_high",
        "rmse",
        "nrmse",
        "mae",
        "spearman",
        "calibration_slope",
        "r2_training_mean",
        "r2_tile",
    )
    cells = [
        row["target"],
        row["split"],
        row["rank"],
        row["model"],
        DASH if row["cut"] == "none" else row["cut"],
        row["verdict"],
        *(format_number(row[name], 3) for name in digits),
        format_count(row["n"]),
        format_number(row["fit_seconds"]),
    ]
    return {"rank": row["rank"], "cells": cells}


def _places(collected: Collected, parts: Parts) -> dict[str, Any]:
    truth = [(i, t) for i, t in enumerate(collected.targets) if f"truth-{i}" in parts.figures]
    group_errors = [
        {"target": t, "sentence": b.sentence, "rows": _rows(b.table)}
        for t, b in parts.group_errors.items()
    ]
    return {
        "truth_targets": truth,
        "calibration": describe_calibration(collected),
        "moran": describe_moran(parts.maps),
        "map_unit": describe_unit(parts.maps, collected),
        "maps": [_map_panel(t, m) for t, m in parts.maps.items()],
        "group_errors": group_errors,
        **_curves(collected, parts),
        "group_errors_sentence": describe_group_errors(parts.group_errors),
        "interval_sentence": describe_intervals(collected),
        "intervals": _rows(build_interval_table(collected)),
    }


def _curves(collected: Collected, parts: Parts) -> dict[str, Any]:
    curves = collected.curves
    drawn = [
        (i, t)
        for i, t in enumerate(collected.settings.targets.names)
        if f"curves-{i}" in parts.figures
    ]
    first = curves.drop_duplicates("target").set_index("target")
    return {
        "curves_sentence": describe_curves(curves),
        "curve_targets": [(i, t, f"{first['model'][t]} ({first['cut'][t]})") for i, t in drawn],
    }


def _explain(collected: Collected) -> dict[str, Any]:
    classes = [t for t in collected.settings.targets.names if t not in collected.targets]
    return {
        "galleries": collected.galleries,
        "gallery_targets": [*collected.targets, *classes],
        "galleries_sentence": describe_galleries(collected.galleries),
    }


def _map_panel(target: str, maps: Maps) -> dict[str, Any]:
    sizes = (
        ("truth", maps.truth, maps.low, maps.high, "viridis"),
        ("prediction", maps.prediction, maps.low, maps.high, "viridis"),
        ("residual", maps.residual, -maps.spread, maps.spread, "diverging"),
    )
    pictures = [
        {
            "title": title,
            "src": "data:image/png;base64," + base64.b64encode(png).decode(),
            "low": low,
            "high": high,
            "scale": scale,
            "alt": f"Map of {target}: {title}.",
        }
        for title, png, low, high, scale in sizes
    ]
    return {"target": target, "pictures": pictures, "digits": 2 if maps.high - maps.low < 20 else 0}


def _data(collected: Collected) -> dict[str, Any]:
    audit = collected.audit or {"findings": [], "accepted": [], "skipped": {}}
    accepted = [f for f in audit["findings"] if f.severity == "fatal"]
    findings = [
        {
            "severity": f.severity,
            "code": f.code,
            "what": f.what,
            "examples": f.examples,
            "remedy": f.remedy,
            "is_accepted": f.severity == "fatal" and f.code in audit["accepted"],
        }
        for f in audit["findings"]
    ]
    reasons = [
        (str(reason), int(n))
        for reason, n in collected.rejects["reason"].value_counts().head(10).items()
    ]
    return {
        "accepted": accepted,
        "few_areas": [f for f in audit["findings"] if f.code == "few-areas"],
        "findings": findings,
        "skipped": list(audit["skipped"].items()),
        "reasons": reasons,
        "data_sentence": describe_data(collected),
        "targets": _rows(summarise_targets(collected)),
        "rejects": _rows(collected.rejects.head(MAX_REJECTS)),
    }


def _made(collected: Collected) -> dict[str, Any]:
    pareto = build_pareto_table(collected)
    front = [
        f"{m} ({c})" if c not in ("none", "all") else m
        for c, m in pareto.loc[pareto["is_front"], ["cut", "model"]].to_numpy()
    ]
    return {
        "card": build_card(collected),
        "weights": _rows(collected.weights),
        "front": front[-6:],
        "fit_seconds": float(collected.runs["seconds"].sum()),
        "stage_seconds": _stage_seconds(collected),
        "model_costs": _model_costs(collected),
        "has_memory": bool(collected.runs["peak_rss_bytes"].notna().any()),
        "settings_json": json.dumps(collected.settings.as_json(), indent=2, ensure_ascii=False),
    }


def _embedded(parts: Parts) -> dict[str, Any]:
    css, script = ((_HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    bundle = _bundle() if parts.figures else ""
    return {
        "figures": parts.figures,
        "css": Markup(css),
        "script": Markup(embed_script(script)),
        "vega": Markup(embed_script(bundle)),
        "data": Markup(embed_json({name: figure.spec for name, figure in parts.figures.items()})),
    }


@lru_cache(maxsize=1)
def _bundle() -> str:
    bundle: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return bundle


def embed_json(value: object) -> str:
    """Return JSON that no `<` in it can break out of a script element."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def embed_script(source: str) -> str:
    """Return JavaScript whose strings cannot close the script element."""
    return source.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _rows(table: pd.DataFrame) -> list[dict[Any, Any]]:
    return table.to_dict("records")


def _stage_seconds(collected: Collected) -> list[dict[str, Any]]:
    wide = collected.stages.pivot_table(
        index="backbone", columns="stage", values="seconds", sort=False
    )
    rates = collected.rates
    return [
        {
            "backbone": b,
            "seconds": dict(row.dropna()),
            "rate": float(rates["tiles_per_second"].get(b, float("nan"))),
            "gib": float(rates["peak_rss_bytes"].get(b, float("nan"))) / 2**30,
        }
        for b, row in wide.iterrows()
    ]


def _model_costs(collected: Collected) -> list[dict[Any, Any]]:
    """Return one row a model: runs, seconds and bytes of all, and the largest memory that a run states."""
    groups = collected.runs.groupby("model", sort=False)
    table = groups.agg(
        runs=("seconds", "size"),
        seconds=("seconds", "sum"),
        bytes=("bytes", "sum"),
        peak=("peak_rss_bytes", "max"),
    )
    return _rows(table.assign(mb=table["bytes"] / 1e6, gib=table["peak"] / 2**30).reset_index())
