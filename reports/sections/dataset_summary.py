"""What went in: counts, distributions and correlations of the targets, tiles by area."""

from __future__ import annotations

import altair as alt
import numpy as np
import pandas as pd

from reports.data.collect import Collected

N_BINS = 24


def summarise_targets(collected: Collected) -> pd.DataFrame:
    """Return one row a target that is a number: tiles with a label, mean, spread, smallest and largest, over tiles."""
    columns = ["target", "labelled", "missing", "mean", "sd", "low", "high"]
    if collected.tiles is None:
        return pd.DataFrame(columns=columns)
    rows = []
    for name in collected.tiles.targets.columns:
        values = collected.tiles.targets[name].dropna()
        if len(values):
            rows.append(
                (
                    str(name),
                    len(values),
                    len(collected.tiles) - len(values),
                    values.mean(),
                    values.std(ddof=0),
                    values.min(),
                    values.max(),
                )
            )
    return pd.DataFrame(rows, columns=columns)


def build_distributions(collected: Collected) -> alt.FacetChart | None:
    """Draw how often each value of truth and of prediction occurs, over units, one small picture a target."""
    parts = [_histogram(collected, target) for target in collected.targets]
    data = (
        pd.concat([p for p in parts if len(p)], ignore_index=True)
        if any(len(p) for p in parts)
        else pd.DataFrame()
    )
    if data.empty:
        return None
    names = ["truth", "prediction"]
    colour = alt.Color(
        "what:N",
        title=None,
        scale=alt.Scale(domain=names, range=["#0072B2", "#D55E00"]),
        legend=alt.Legend(orient="top"),
    )
    line = (
        alt.Chart(data)
        .mark_line(interpolate="step-after", strokeWidth=2)
        .encode(
            x=alt.X("value:Q", title="value of the index", scale=alt.Scale(zero=False)),
            y=alt.Y("share:Q", title="share", axis=alt.Axis(format="%")),
            color=colour,
            strokeDash=alt.StrokeDash(
                "what:N", title=None, scale=alt.Scale(domain=names, range=[[1, 0], [5, 3]])
            ),
            tooltip=[
                "what:N",
                alt.Tooltip("value:Q", format=".3g"),
                alt.Tooltip("share:Q", format=".1%"),
            ],
        )
    )
    facets = alt.Facet("target:N", title=None, sort=collected.targets)
    return (
        line.properties(width=190, height=110)
        .facet(facets, columns=4)
        .resolve_scale(x="independent", y="independent")
    )


def _histogram(collected: Collected, target: str) -> pd.DataFrame:
    rows = collected.predictions[collected.predictions["target"] == target]
    values = rows[["truth", "prediction"]].to_numpy(np.float64)
    values = values[np.isfinite(values).all(axis=1)]
    if not len(values) or not np.ptp(values) > 0:
        return pd.DataFrame()
    edges = np.linspace(values.min(), values.max(), N_BINS + 1)
    parts = [
        pd.DataFrame(
            {
                "target": target,
                "what": what,
                "value": edges[:-1],
                "share": np.histogram(column, edges)[0] / len(values),
            }
        )
        for what, column in zip(("truth", "prediction"), values.T, strict=True)
    ]
    return pd.concat(parts, ignore_index=True)


def build_correlations(collected: Collected) -> alt.LayerChart | None:
    """Draw how far targets go together, in truth (upper right) and as predicted (lower left); None for one target."""
    wide = {
        what: collected.predictions.pivot_table(index="unit", columns="target", values=what)
        for what in ("truth", "prediction")
    }
    names = [t for t in collected.targets if t in wide["truth"].columns]
    if len(names) < 2:
        return None
    matrices = {
        what: table[names].corr(method="spearman").to_numpy() for what, table in wide.items()
    }
    rows = [
        {
            "row": a,
            "column": b,
            "of": "truth" if j > i else "prediction",
            "rho": matrices["truth" if j > i else "prediction"][i, j],
        }
        for i, a in enumerate(names)
        for j, b in enumerate(names)
        if i != j
    ]
    base = alt.Chart(pd.DataFrame(rows)).transform_calculate(
        label="isValid(datum.rho) ? replace(format(datum.rho, '.2f'), '-', '−') : '–'"
    )
    base = base.encode(
        x=alt.X("column:N", sort=names, title=None, axis=alt.Axis(labelAngle=-35, orient="top")),
        y=alt.Y("row:N", sort=names, title=None),
        tooltip=["row:N", "column:N", "of:N", "label:N"],
    )
    colour = alt.Color(
        "rho:Q",
        title="rank correlation",
        scale=alt.Scale(domain=[-1, 0, 1], range=["#D55E00", "#f2f2f2", "#56B4E9"]),
    )
    text = base.mark_text(fontSize=12, color="#111").encode(text="label:N")
    return (base.mark_rect().encode(color=colour) + text).properties(
        width=alt.Step(58), height=alt.Step(30)
    )


def build_tiles_by_area(collected: Collected) -> alt.Chart | None:
    """Draw how many areas have how many tiles."""
    if collected.tiles is None:
        return None
    n = collected.tiles.area.value_counts().to_numpy()
    step = max(1, -(-int(n.max()) // 30))
    low = (n - 1) // step * step + 1
    counts = pd.Series(low).value_counts().sort_index()
    data = pd.DataFrame(
        {"tiles": counts.index, "end": counts.index + step, "areas": counts.to_numpy()}
    )
    return (
        alt.Chart(data)
        .mark_bar(color="#0072B2", binSpacing=1)
        .encode(
            x=alt.X(
                "tiles:Q",
                title="tiles of an area",
                bin="binned",
                axis=alt.Axis(tickMinStep=1, format="d"),
            ),
            x2="end:Q",
            y=alt.Y("areas:Q", title="areas", axis=alt.Axis(tickMinStep=1)),
            tooltip=["tiles:Q", "areas:Q"],
        )
        .properties(width=320, height=150)
    )
