"""The one page: tables, sentences and figures, put into page.html; it loads nothing from outside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import vl_convert
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from reports.collect import Collected
from reports.ladder import build_ladder_table, describe_ladder
from reports.sentences import SPLIT_WORDS, build_answers, build_headline, describe_places
from reports.tables import DASH, format_value

_HERE = Path(__file__).parent
MAX_REJECTS = 200  # rows on the page; rejects.csv has them all


def render_page(collected: Collected, board: pd.DataFrame, figures: dict[str, dict[str, Any]]) -> str:
    """Give the page as HTML; every name in it is escaped, in the text and in the figures' data."""
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": format_number, "count": format_count}
    answers = build_answers(collected)
    return environment.get_template("page.html").render(
        collected=collected,
        settings=collected.settings,
        answers=answers,
        headline=build_headline(answers, collected),
        places=describe_places(answers, collected),
        ladder_sentence=describe_ladder(collected),
        ladder=_rows(build_ladder_table(collected)),
        split_words=SPLIT_WORDS.get(collected.split, ""),
        boards=_boards(board),
        figures=figures,
        weights=_rows(collected.weights),
        rejects=_rows(collected.rejects.head(MAX_REJECTS)),
        reasons=_reasons(collected.rejects),
        fit_seconds=_fit_seconds(collected),
        stage_seconds=_stage_seconds(collected),
        settings_json=json.dumps(collected.settings.as_json(), indent=2, ensure_ascii=False),
        css=Markup((_HERE / "page.css").read_text(encoding="utf-8")),
        vega=Markup(embed_script(_bundle()) if figures else ""),
        data=Markup(embed_json(figures)),
    )


def embed_json(value: object) -> str:
    """Give JSON that no `<` in it can break out of a script element."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def embed_script(source: str) -> str:
    """Give JavaScript whose strings cannot close the script element."""
    return source.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def format_number(value: object, digits: int = 2) -> str:
    """Give a number for a table; `–` where there is none."""
    if not isinstance(value, int | float):
        return str(value)
    return DASH if format_value(float(value)) == DASH else f"{value:.{digits}f}".replace("-", "−")


def format_count(value: object) -> str:
    """Give a count with spaces at the thousands; `–` where there is none."""
    return DASH if value is None else f"{value:,}".replace(",", "\u202f")


def _bundle() -> str:
    bundle: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return bundle


def _boards(board: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {"target": target, "rows": _rows(rows), "n_splits": rows["split"].nunique()}
        for target, rows in board.groupby("target", sort=False)
    ]


def _rows(table: pd.DataFrame) -> list[dict[Any, Any]]:
    return table.to_dict("records")


def _reasons(rejects: pd.DataFrame) -> list[tuple[str, int]]:
    return [(str(reason), int(n)) for reason, n in rejects["reason"].value_counts().head(10).items()]


def _fit_seconds(collected: Collected) -> float:
    return float(collected.scores.loc[collected.scores["level"] == collected.level, "fit_seconds"].sum())


def _stage_seconds(collected: Collected) -> list[dict[str, Any]]:
    wide = collected.stages.pivot_table(index="backbone", columns="stage", values="seconds", sort=False)
    return [
        {"backbone": b, "seconds": dict(row.dropna()), "rate": collected.rates.get(str(b), float("nan"))}
        for b, row in wide.iterrows()
    ]
