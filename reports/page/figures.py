"""Build the page's figures, and write each as SVG, PNG and CSV."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import altair as alt
import pandas as pd
import vl_convert

from reports.data.collect import Collected
from reports.sections.answer import build_answer_chart
from reports.sections.comparison import build_heat
from reports.sections.cost import build_cost, build_pareto
from reports.sections.curves import build_curves
from reports.sections.dataset_summary import (
    build_correlations,
    build_distributions,
    build_tiles_by_area,
)
from reports.sections.ladder import build_ladder
from reports.sections.truth import build_residual, build_truth

Spec = dict[str, Any]
_MENUS = {
    "heat": build_heat,
    "ladder": build_ladder,
}  # on paper once a target, as paper has no menus


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A figure as Vega-Lite, with its alternative text."""

    spec: Spec
    alt: str


def build_figures(collected: Collected) -> dict[str, Figure]:
    """Return each figure of the page by its name; a figure without data is left out."""
    built: dict[str, tuple[Any, str]] = {
        "answer": (
            build_answer_chart(collected),
            "For each target, R² of the best model that sees pictures with its 95 % interval, "
            "and of the best baseline. The numbers are in the table of this section.",
        ),
        "ladder": (
            build_ladder(collected),
            "R² of each model on each split. The numbers are in the table of this section.",
        ),
        "heat": (
            build_heat(collected),
            "R² of each cut and model. The numbers are in the leaderboard.",
        ),
        "distributions": (
            build_distributions(collected),
            "How often each value occurs, in truth and as predicted, by target.",
        ),
        "correlations": (
            build_correlations(collected),
            "Rank correlations between targets, in truth and as predicted.",
        ),
        "tiles": (build_tiles_by_area(collected), "How many areas have how many tiles."),
        "cost": (
            build_cost(collected),
            "Seconds of each stage of the extraction and of the fits of each model.",
        ),
        "pareto": (
            build_pareto(collected),
            "Mean R² of each cell against the seconds of its fits.",
        ),
    }
    for i, target in enumerate(collected.targets):
        built[f"truth-{i}"] = (
            build_truth(collected, target),
            f"Truth against prediction of {target}, with the calibration line.",
        )
        built[f"residual-{i}"] = (
            build_residual(collected, target),
            f"Prediction less truth against truth of {target}.",
        )
    for i, target in enumerate(collected.settings.targets.names):
        chart = build_curves(collected.curves, target)
        built[f"curves-{i}"] = (
            chart,
            f"Loss of {target} on training rows and on rows held out, by epoch and fold.",
        )
    return {
        name: Figure(spec=to_spec(chart), alt=text)
        for name, (chart, text) in built.items()
        if chart is not None
    }


def to_spec(chart: Any) -> Spec:
    """Return a chart as Vega-Lite, with numbers of five digits."""
    with alt.data_transformers.enable("default", max_rows=None):
        spec: Spec = chart.to_dict()
    spec["datasets"] = {
        name: [_plain(row) for row in rows] for name, rows in spec.get("datasets", {}).items()
    }
    return spec


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """Round numbers to five digits, which keeps the page small."""
    return {k: float(f"{v:.5g}") if isinstance(v, float) else v for k, v in row.items()}


def write_figures(collected: Collected, figures: dict[str, Figure], folder: Path) -> list[Path]:
    """Write every figure as SVG and PNG, and its data as CSV."""
    specs = {_file(n, collected): f.spec for n, f in figures.items() if n not in _MENUS}
    for i, target in enumerate(collected.targets):
        for name, build in _MENUS.items():
            chart = build(collected, target) if name in figures else None
            if chart is not None:
                specs[f"{name}-{i + 1:02d}-{slug(target)}"] = to_spec(chart)
    folder.mkdir(parents=True, exist_ok=True)
    for name, spec in specs.items():
        svg = number_parts(vl_convert.vegalite_to_svg(spec))
        (folder / f"{name}.svg").write_text(svg, encoding="utf-8")
        (folder / f"{name}.png").write_bytes(vl_convert.svg_to_png(svg, scale=2))
        largest = max(spec["datasets"].values(), key=len)
        pd.DataFrame(largest).to_csv(folder / f"{name}.csv", index=False)
    return [folder / f"{name}{suffix}" for name in specs for suffix in (".svg", ".png", ".csv")]


def number_parts(svg: str) -> str:
    """Number gradients and clips from 0, as Vega counts them over all pictures of a process."""
    numbers: dict[str, int] = {}
    return re.sub(
        r"\b(gradient_|clip)(\d+)\b",
        lambda m: f"{m[1]}{numbers.setdefault(m[0], len(numbers))}",
        svg,
    )


def _file(name: str, collected: Collected) -> str:
    kind, _, number = name.partition("-")
    names = collected.settings.targets.names if kind == "curves" else collected.targets
    return f"{kind}-{int(number) + 1:02d}-{slug(names[int(number)])}" if number else kind


def slug(text: str) -> str:
    """Return a name that any file system takes."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40] or "target"
