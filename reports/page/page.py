"""Render the page: one HTML file that loads nothing from outside."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

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
_NO_AUDIT: dict[str, Any] = {"findings": [], "accepted": [], "skipped": {}}


@dataclass(frozen=True, slots=True, kw_only=True)
class PageContent:
    """What the page shows.

    Attributes
    ----------
    collected : what was read from disk.
    board : the leaderboard.
    figures : by name.
    maps, group_errors : by target.
    """

    collected: Collected
    board: pd.DataFrame
    figures: dict[str, Figure]
    maps: dict[str, Maps]
    group_errors: dict[str, GroupErrors]


class Section(NamedTuple):
    """A section of the page; one whose template renders to nothing is left out."""

    id: str
    title: str
    template: str
    build_context: Callable[[PageContent], dict[str, Any]]


def render_page(content: PageContent) -> str:
    """Return the page as HTML, with every name escaped, in the text and in the figures' data."""
    collected = content.collected
    environment = build_environment()
    macros = environment.get_template("figure.html").make_module({"figures": content.figures})
    environment.globals |= {
        "collected": collected,
        "settings": collected.settings,
        "figures": content.figures,
        "figure": macros.figure,  # type: ignore[attr-defined]
        "direction": describe_direction(collected),
        "audit": collected.audit or _NO_AUDIT,
    }
    rendered = []
    for section in SECTIONS:
        template = environment.get_template(f"sections/{section.template}.html")
        html = template.render(section.build_context(content))
        if html.strip():
            rendered.append((section.id, section.title, Markup(html)))
    return environment.get_template("page.html").render(
        headline=build_headline(build_answers(collected), collected),
        sections=rendered,
        **_embed_sources(content),
    )


def build_environment() -> Environment:
    """Return the environment of the templates, with the formats of numbers as filters."""
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
        "png": embed_png,
    }
    return environment


def _answer(content: PageContent) -> dict[str, Any]:
    collected = content.collected
    answers = build_answers(collected)
    return {
        "answers": answers,
        "places": describe_places(answers, collected),
        "split_words": SPLIT_WORDS.get(collected.split, ""),
        "class_answers": build_class_answers(collected),
        "class_board": _rows(build_class_leaderboard(collected)),
    }


def _ladder(content: PageContent) -> dict[str, Any]:
    collected = content.collected
    ladder = _rows(build_ladder_table(collected))
    return {"ladder_sentence": describe_ladder(collected), "ladder": ladder}


def _comparison(content: PageContent) -> dict[str, Any]:
    collected = content.collected
    return {"winners": describe_winners(collected), "board": format_board(content.board)}


def format_board(board: pd.DataFrame) -> list[list[Any]]:
    """Return the leaderboard's cells as the page writes them; the rank stays a number."""
    scores = board.loc[:, "r2":"r2_tile"]
    text = board.astype(object)
    text[scores.columns] = scores.map(format_number, digits=3)
    text["fit_seconds"] = board["fit_seconds"].map(format_number)
    text["n"] = board["n"].map(format_count)
    text["cut"] = board["cut"].replace("none", DASH)
    return text.to_numpy().tolist()


def _truth(content: PageContent) -> dict[str, Any]:
    collected = content.collected
    return {
        "truth_targets": _list_drawn("truth", collected.targets, content),
        "calibration": describe_calibration(collected),
    }


def _maps(content: PageContent) -> dict[str, Any]:
    collected = content.collected
    maps = content.maps
    return {
        "maps": maps,
        "moran": describe_moran(maps),
        "map_unit": describe_unit(maps, collected),
    }


def _errors(content: PageContent) -> dict[str, Any]:
    return {
        "group_errors": content.group_errors,
        "group_errors_sentence": describe_group_errors(content.group_errors),
    }


def _intervals(content: PageContent) -> dict[str, Any]:
    collected = content.collected
    intervals = _rows(build_interval_table(collected))
    return {"interval_sentence": describe_intervals(collected), "intervals": intervals}


def _explain(content: PageContent) -> dict[str, Any]:
    collected = content.collected
    classes = [t for t in collected.settings.targets.names if t not in collected.targets]
    return {
        "galleries": collected.galleries,
        "gallery_targets": [*collected.targets, *classes],
        "galleries_sentence": describe_galleries(collected.galleries),
    }


def _curves(content: PageContent) -> dict[str, Any]:
    collected = content.collected
    curves = collected.curves
    cells = curves.drop_duplicates("target").set_index("target")[["model", "cut"]]
    return {
        "curves_sentence": describe_curves(curves),
        "curve_targets": _list_drawn("curves", collected.settings.targets.names, content),
        "curve_cells": cells.to_dict("index"),
    }


def _cost(content: PageContent) -> dict[str, Any]:
    collected = content.collected
    pareto = build_pareto_table(collected)
    columns = {"seconds": ["size", "sum"], "bytes": ["sum"], "peak_rss_bytes": ["max"]}
    costs = collected.runs.groupby("model", sort=False).agg(columns)
    return {
        "front": _rows(pareto[pareto["is_front"]].tail(6)),
        "model_costs": list(costs.itertuples(name=None)),
    }


def _data(content: PageContent) -> dict[str, Any]:
    collected = content.collected
    targets = _rows(summarise_targets(collected))
    return {"data_sentence": describe_data(collected), "targets": targets}


def _made(content: PageContent) -> dict[str, Any]:
    collected = content.collected
    settings = json.dumps(collected.settings.as_json(), indent=2, ensure_ascii=False)
    return {"card": build_card(collected), "settings_json": settings}


SECTIONS = (
    Section("answer", "The answer", "answer", _answer),
    Section("ladder", "Splits", "ladder", _ladder),
    Section("comparison", "Comparison", "comparison", _comparison),
    Section("truth", "Truth and prediction", "truth", _truth),
    Section("maps", "Maps", "maps", _maps),
    Section("errors", "Errors by group", "error_equity", _errors),
    Section("intervals", "Intervals", "intervals", _intervals),
    Section("explain", "What the models look at", "explain", _explain),
    Section("curves", "Training curves", "curves", _curves),
    Section("cost", "Cost", "cost", _cost),
    Section("data", "Data", "dataset_summary", _data),
    Section("made", "How this was made", "model_card", _made),
)


def _list_drawn(kind: str, targets: list[str], content: PageContent) -> list[tuple[int, str]]:
    """Return number and name of the targets that have a figure of a kind."""
    return [(i, target) for i, target in enumerate(targets) if f"{kind}-{i}" in content.figures]


def _embed_sources(content: PageContent) -> dict[str, Markup]:
    """Return style, scripts and the figures' data, as the page embeds them."""
    script = (_HERE / "page.js").read_text(encoding="utf-8")
    specs = {name: figure.spec for name, figure in content.figures.items()}
    return {
        "css": Markup((_HERE / "page.css").read_text(encoding="utf-8")),
        "script": Markup(embed_script(script)),
        "vega": Markup(embed_script(_bundle_vega() if specs else "")),
        "data": Markup(embed_json(specs)),
    }


@cache
def _bundle_vega() -> str:
    bundle: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return bundle


def embed_json(value: object) -> str:
    """Return JSON in which no `<` can end its script element."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def embed_script(source: str) -> str:
    """Return JavaScript whose strings cannot end the script element."""
    return source.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def embed_png(content: bytes) -> str:
    """Return a PNG as a data URI."""
    return "data:image/png;base64," + base64.b64encode(content).decode()


def _rows(table: pd.DataFrame) -> list[dict[Any, Any]]:
    return table.to_dict("records")
