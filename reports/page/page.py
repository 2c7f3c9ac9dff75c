"""Render the page: one HTML file that loads nothing from outside."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
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
    format_ends,
    format_figures,
    format_number,
    format_percent,
)
from reports.data.places import Places
from reports.data.words import SPLITS, explain_model, name_baseline
from reports.page.figures import Figure
from reports.page.leaderboard import build_class_leaderboard
from reports.sections.answer import build_answers, build_class_answers, describe_exceptions
from reports.sections.comparison import describe_winners
from reports.sections.cost import build_pareto_table
from reports.sections.curves import describe_curves
from reports.sections.dataset_summary import describe_data, summarise_targets
from reports.sections.error_equity import GroupErrors, describe_group_errors
from reports.sections.explain import describe_galleries
from reports.sections.headline import build_headline, describe_direction, describe_size
from reports.sections.intervals import build_interval_table, describe_intervals
from reports.sections.ladder import build_ladder_table, describe_ladder
from reports.sections.maps import Maps, describe_unit
from reports.sections.model_card import build_card
from reports.sections.moran import describe_moran
from reports.sections.truth import describe_calibration

_HERE = Path(__file__).parent
_NO_AUDIT: dict[str, Any] = {"findings": [], "accepted": [], "skipped": {}}


class Link(NamedTuple):
    """A file beside the page, and what is in it."""

    file: str
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PageContent:
    """What the page shows.

    Attributes
    ----------
    collected : what was read from disk.
    board : the leaderboard.
    figures : by name.
    maps, group_errors : by target.
    links : the files beside the page.
    places : what the map beside the page shows; None without coordinates.
    """

    collected: Collected
    board: pd.DataFrame
    figures: dict[str, Figure]
    maps: dict[str, Maps]
    group_errors: dict[str, GroupErrors]
    links: list[Link]
    places: Places | None


class Section(NamedTuple):
    """A section of the page; one whose template renders to nothing is left out."""

    id: str
    title: str
    template: str


SECTIONS = (
    Section("answer", "The answer", "answer"),
    Section("ladder", "Splits", "ladder"),
    Section("comparison", "Comparison", "comparison"),
    Section("truth", "Truth and prediction", "truth"),
    Section("maps", "Maps", "maps"),
    Section("errors", "Errors by group", "error_equity"),
    Section("intervals", "Intervals", "intervals"),
    Section("explain", "What the models look at", "explain"),
    Section("curves", "Training curves", "curves"),
    Section("cost", "Cost", "cost"),
    Section("data", "Data", "dataset_summary"),
    Section("made", "Model card", "model_card"),
)


def render_page(content: PageContent) -> str:
    """Return the page as HTML, with every name escaped, in the text and in the figures' data."""
    environment = build_environment()
    context = _describe(content)
    macros: Any = environment.get_template("macros.html").make_module(context)
    context |= {"figure": macros.figure, "panels": macros.panels}
    rendered = []
    for section in SECTIONS:
        html = environment.get_template(f"sections/{section.template}.html").render(context)
        if html.strip():
            rendered.append((section.id, section.title, Markup(html)))
    page = environment.get_template("page.html")
    return page.render(context, sections=rendered, **_embed_sources(content))


@cache
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
        "ends": format_ends,
        "words": explain_model,
        "baseline": name_baseline,
        "png": embed_png,
    }
    return environment


def _describe(content: PageContent) -> dict[str, Any]:
    """Return what the templates show."""
    collected = content.collected
    answers = build_answers(collected)
    class_answers = build_class_answers(collected)
    pareto = build_pareto_table(collected)
    ladder = build_ladder_table(collected)
    return {
        "collected": collected,
        "settings": collected.settings,
        "figures": content.figures,
        "kinds": {name.partition("-")[0] for name in content.figures},
        "maps": content.maps,
        "group_errors": content.group_errors,
        "links": content.links,
        "version": version("roofline"),
        "first_target": next(iter(collected.galleries.shown), collected.all_targets[0]),
        "audit": collected.audit or _NO_AUDIT,
        "headline": build_headline(collected),
        "size": describe_size(collected),
        "direction": describe_direction(collected),
        "split_words": SPLITS.get(collected.split, f"split {collected.split}"),
        "answers": answers,
        "class_answers": class_answers,
        "exceptions": describe_exceptions([*answers, *class_answers], collected),
        "class_board": _rows(build_class_leaderboard(collected)),
        "ladder_sentence": describe_ladder(collected),
        "ladder_splits": ladder.splits,
        "ladder": _rows(ladder.table),
        "winners": describe_winners(collected),
        "board": _rows(format_board(content.board)),
        "calibration": describe_calibration(collected),
        "moran": describe_moran({target: one.moran for target, one in content.maps.items()}),
        "map_unit": describe_unit(content.maps, collected) if content.maps else "",
        "group_errors_sentence": describe_group_errors(content.group_errors),
        "interval_sentence": describe_intervals(collected),
        "intervals": _rows(build_interval_table(collected)),
        "galleries_sentence": describe_galleries(collected.galleries),
        "curves_sentence": describe_curves(collected.curves),
        "front": _rows(pareto[pareto["is_front"]].tail(6)),
        "model_costs": _rows(summarise_costs(collected)),
        "data_sentence": describe_data(collected),
        "target_rows": _rows(summarise_targets(collected)),
        "card": build_card(collected),
    }


def format_board(board: pd.DataFrame) -> pd.DataFrame:
    """Return the leaderboard as the page writes it."""
    scores = board.loc[:, "r2":"r2_tile"]
    text = board.astype(object)
    text[scores.columns] = scores.map(format_number, digits=3)
    text["fit_seconds"] = board["fit_seconds"].map(format_number)
    text["n"] = board["n"].map(format_count)
    text["cut"] = board["cut"].replace("none", DASH)
    return text


def summarise_costs(collected: Collected) -> pd.DataFrame:
    """Return by model the number of its runs, their seconds and bytes, and the peak memory."""
    runs = collected.runs.groupby("model", sort=False)
    costs = runs.agg(
        n_runs=("seconds", "size"),
        seconds=("seconds", "sum"),
        bytes=("bytes", "sum"),
        peak=("peak_rss_bytes", "max"),
    )
    return costs.reset_index()


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
