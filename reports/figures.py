"""The figures as Vega-Lite: R² of cuts × models, truth against prediction, and what the run cost."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import altair as alt
import pandas as pd
import vl_convert

from reports.collect import Collected
from reports.ladder import build_ladder

MAX_DOTS = 3000  # a target; more make the page heavy and the cloud no clearer
Spec = dict[str, Any]


def build_figures(collected: Collected) -> dict[str, Spec]:
    """Give each figure of the page by its name; a figure without data is left out."""
    ladder = build_ladder(collected)
    built = {"ladder": None if ladder is None else _spec(ladder), "heat": build_heat(collected), "cost": build_cost(collected)}
    for i, target in enumerate(collected.targets):
        built[f"truth-{i}"] = build_truth(collected, target)
    return {name: spec for name, spec in built.items() if spec is not None}


def build_heat(collected: Collected, target: str | None = None) -> Spec | None:
    """R² of cuts × models at the reported level, with menus for target and split, or for one target alone."""
    scores = collected.scores
    data = scores.loc[scores["level"] == collected.level, ["target", "split", "cut", "model", "r2"]]
    base = alt.Chart(_plain(data if target is None else _only(data, collected, target)))
    base = base.transform_calculate(label="isValid(datum.r2) ? replace(format(datum.r2, '.2f'), '-', '−') : '–'")
    if target is None:
        for field, values, first in (
            ("target", collected.targets, collected.targets[0]),
            ("split", list(dict.fromkeys(data["split"])), collected.split),
        ):
            menu = alt.param(f"menu_{field}", bind=alt.binding_select(options=values, name=f"{field} "), value=first)
            base = base.add_params(menu).transform_filter(f"datum.{field} === menu_{field}")
    base = base.encode(
        x=alt.X("model:N", title=None, axis=alt.Axis(labelAngle=-30, orient="top")),
        y=alt.Y("cut:N", title=None, axis=alt.Axis(labelLimit=320)),
        tooltip=["model:N", "cut:N", "label:N"],
    )
    # Below 0 a model is worse than the mean: one colour is enough for that.
    scale = alt.Scale(scheme="viridis", domain=[0, max(0.1, float(data["r2"].max(skipna=True) or 0))], clamp=True)
    cells = base.mark_rect().encode(color=alt.Color("r2:Q", title="R²", scale=scale))
    halo = base.mark_text(fontSize=12, fontWeight="bold", stroke="#000", strokeWidth=3, strokeJoin="round", opacity=0.6)
    text = base.mark_text(fontSize=12, fontWeight="bold", color="#fff").encode(text="label:N")
    return _spec((cells + halo.encode(text="label:N") + text).properties(width=alt.Step(72), height=alt.Step(34)))


def build_truth(collected: Collected, target: str) -> Spec | None:
    """Truth against out-of-fold prediction of one target's best model; the line is perfect."""
    rows = collected.predictions.loc[collected.predictions["target"] == target, ["unit", "truth", "prediction"]]
    if rows.empty:
        return None
    rows = rows.sample(MAX_DOTS, random_state=0) if len(rows) > MAX_DOTS else rows
    low, high = (
        float(rows[["truth", "prediction"]].min().min()),
        float(rows[["truth", "prediction"]].max().max()),
    )
    scale = alt.Scale(domain=[low, high], nice=True, zero=False)
    dots = (
        alt.Chart(_plain(rows))
        .mark_circle(size=28, opacity=0.45, color="#2a7f9e")
        .encode(
            x=alt.X("truth:Q", scale=scale),
            y=alt.Y("prediction:Q", scale=scale),
            tooltip=[
                "unit:N",
                alt.Tooltip("truth:Q", format=".3g"),
                alt.Tooltip("prediction:Q", format=".3g"),
            ],
        )
    )
    ends = pd.DataFrame({"truth": [low, high], "prediction": [low, high]})
    line = alt.Chart(ends).mark_line(strokeDash=[4, 4], color="#888").encode(x="truth:Q", y="prediction:Q")
    return _spec((line + dots).properties(width=240, height=240))


def build_cost(collected: Collected) -> Spec | None:
    """Seconds of each stage of each backbone, and of all fits of each model."""
    stages = collected.stages[collected.stages["stage"] != "total"]
    read = pd.DataFrame(
        {
            "what": "features: " + stages["backbone"].astype(str),
            "part": stages["stage"],
            "seconds": stages["seconds"],
        }
    )
    fits = collected.scores[collected.scores["level"] == collected.level].groupby("model", as_index=False)["fit_seconds"].sum()
    fitted = pd.DataFrame({"what": "models: " + fits["model"], "part": "fit", "seconds": fits["fit_seconds"]})
    data = pd.concat([part for part in (read, fitted) if not part.empty])
    if data.empty or not data["seconds"].sum() > 0:
        return None
    chart = (
        alt.Chart(_plain(data))
        .mark_bar()
        .encode(
            x=alt.X("seconds:Q", title="seconds"),
            y=alt.Y("what:N", title=None, sort=None, axis=alt.Axis(labelLimit=320)),
            color=alt.Color("part:N", title=None),
            tooltip=["what:N", "part:N", alt.Tooltip("seconds:Q", format=".2f")],
        )
    )
    return _spec(chart.properties(width=520, height=alt.Step(22)))


def write_figures(collected: Collected, figures: dict[str, Spec], folder: Path) -> list[Path]:
    """Write every figure as SVG; those with a menu once a target, as paper has no menus."""
    specs = {_file(n, collected): s for n, s in figures.items() if n not in ("heat", "ladder")}
    for i, target in enumerate(collected.targets):
        ladder = build_ladder(collected, target)
        for name, spec in (("heat", build_heat(collected, target)), ("ladder", None if ladder is None else _spec(ladder))):
            if spec is not None:
                specs[f"{name}-{i + 1:02d}-{_slug(target)}.svg"] = spec
    folder.mkdir(parents=True, exist_ok=True)
    for name, spec in specs.items():
        (folder / name).write_text(vl_convert.vegalite_to_svg(spec), encoding="utf-8")
    return [folder / name for name in specs]


def _only(data: pd.DataFrame, collected: Collected, target: str) -> pd.DataFrame:
    return data.loc[(data["target"] == target) & (data["split"] == collected.split)]


def _plain(data: pd.DataFrame) -> pd.DataFrame:
    """Text as text, numbers with six digits: what Vega needs, no more bytes than that."""
    plain: pd.DataFrame = data.apply(lambda c: c.map(lambda v: float(f"{v:.6g}")) if c.dtype.kind == "f" else c.astype(object))
    return plain


def _spec(chart: alt.LayerChart | alt.Chart) -> Spec:
    with alt.data_transformers.enable("default", max_rows=None):
        return chart.to_dict()


def _file(name: str, collected: Collected) -> str:
    kind, _, number = name.partition("-")
    return f"{kind}-{int(number) + 1:02d}-{_slug(collected.targets[int(number)])}.svg" if number else f"{kind}.svg"


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40] or "target"
