"""Build the page's figures, and write each as SVG, PNG and CSV."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import vl_convert

from extract.files.atomic import name_place
from reports.data.collect import Collected
from reports.sections.answer import build_answer_chart, title_answer
from reports.sections.charts import Spec
from reports.sections.comparison import build_heat, title_heat
from reports.sections.cost import build_cost, build_pareto, title_cost, title_pareto
from reports.sections.curves import build_curves, title_curves
from reports.sections.dataset_summary import (
    build_correlations,
    build_distributions,
    build_tiles_by_area,
    title_correlations,
    title_distributions,
    title_tiles,
)
from reports.sections.ladder import build_ladder, title_ladder
from reports.sections.truth import build_residual, build_truth, title_residual, title_truth

# Room for names that another machine's font draws wider than the one that was measured with.
PADDING = {"left": 24, "right": 12, "top": 5, "bottom": 5}


class Kind(NamedTuple):
    """A figure of the whole experiment: what draws it, what it shows and what it is made of."""

    build: Callable[[Collected], Spec | None]
    describe: Callable[[Collected], str]
    source: str
    alt: str


class TargetKind(NamedTuple):
    """A figure of each target."""

    build: Callable[[Collected, str], Spec | None]
    describe: Callable[[Collected, str], str]
    source: str
    alt: str


SCORES = "scores.csv, split “{split}”"
PREDICTIONS = "held-out predictions of the best model that sees pictures, split “{split}”"
KINDS = {
    "answer": Kind(
        build_answer_chart,
        title_answer,
        SCORES,
        "For each index, R² of the best model that sees pictures with its 95 % interval, and of "
        "the best baseline. The numbers are in the table of this section.",
    ),
    "distributions": Kind(
        build_distributions,
        title_distributions,
        PREDICTIONS,
        "How often each value occurs, in truth and as predicted, by index.",
    ),
    "correlations": Kind(
        build_correlations,
        title_correlations,
        PREDICTIONS,
        "Rank correlations between indices, in truth and as predicted.",
    ),
    "tiles": Kind(
        build_tiles_by_area,
        title_tiles,
        "the tile table",
        "How many areas have how many tiles.",
    ),
    "pareto": Kind(
        build_pareto,
        title_pareto,
        "scores.csv",
        "Mean R² of each cell against the seconds of its fits.",
    ),
    "cost": Kind(
        build_cost,
        title_cost,
        "features/stages.json and every run",
        "Seconds of each stage of the extraction and of the fits of each model.",
    ),
}
TARGET_KINDS = {
    "ladder": TargetKind(
        build_ladder, title_ladder, "scores.csv", "R² of each model on each split"
    ),
    "heat": TargetKind(build_heat, title_heat, SCORES, "R² of each cut and model"),
    "truth": TargetKind(build_truth, title_truth, PREDICTIONS, "Truth against prediction"),
    "residual": TargetKind(
        build_residual, title_residual, PREDICTIONS, "Prediction less truth, against truth"
    ),
    "curves": TargetKind(
        build_curves,
        title_curves,
        "curves.csv of each run",
        "Loss on training and held-out rows by epoch",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A figure as Vega-Lite.

    Attributes
    ----------
    title : what it shows.
    source : what it was made of.
    alt : the alternative text.
    file : name of its files beside the page, without a suffix.
    """

    spec: Spec
    title: str
    source: str
    alt: str
    file: str


def build_figures(collected: Collected) -> dict[str, Figure]:
    """Return each figure of the page by its name; a figure without data is left out.

    A figure of one target has the number of the target behind its name, as `ladder-0`.
    """
    figures = {}
    for name, kind in KINDS.items():
        spec = kind.build(collected)
        if spec is not None:
            figures[name] = Figure(
                spec=spec,
                title=kind.describe(collected),
                source=kind.source.format(split=collected.split),
                alt=kind.alt,
                file=name,
            )
    for name, by_target in TARGET_KINDS.items():
        for i, target in enumerate(collected.all_targets):
            spec = by_target.build(collected, target)
            if spec is not None:
                figures[f"{name}-{i}"] = Figure(
                    spec=spec,
                    title=by_target.describe(collected, target),
                    source=by_target.source.format(split=collected.split),
                    alt=f"{by_target.alt}: {target}.",
                    file=f"{name}-{name_target_file(i, target)}",
                )
    return figures


def write_figures(figures: dict[str, Figure], folder: Path) -> None:
    """Write every figure as SVG and PNG, and its data as CSV."""
    for figure in figures.values():
        path = folder / figure.file
        svg = number_parts(vl_convert.vegalite_to_svg(figure.spec | {"padding": PADDING}))
        largest = max(figure.spec["datasets"].values(), key=len)
        with name_place(path):
            path.with_suffix(".svg").write_text(svg, encoding="utf-8")
            path.with_suffix(".png").write_bytes(vl_convert.svg_to_png(svg, scale=2))
            pd.DataFrame(largest).to_csv(path.with_suffix(".csv"), index=False)


def number_parts(svg: str) -> str:
    """Number gradients and clips from 0, as Vega counts them over all pictures of a process."""
    numbers: dict[str, int] = {}
    return re.sub(
        r"\b(gradient_|clip)(\d+)\b",
        lambda m: f"{m[1]}{numbers.setdefault(m[0], len(numbers))}",
        svg,
    )


def name_target_file(number: int, target: str) -> str:
    """Return a name that any file system takes, from the number of a target from 0 on."""
    slug = re.sub(r"[^a-z0-9]+", "-", target.lower()).strip("-")
    return f"{number + 1:02d}-{slug[:40] or 'target'}"
