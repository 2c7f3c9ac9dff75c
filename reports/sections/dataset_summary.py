"""What went in: counts, distributions and correlations of the targets, tiles by area."""

from __future__ import annotations

import altair as alt
import numpy as np
import pandas as pd

from reports.data.collect import Collected
from reports.data.formats import format_count, plural
from reports.sections.charts import BLUE, ORANGE, solid_and_dashed, tooltips

N_BINS = 24
MAX_BARS = 30
_VALUES = ["truth", "prediction"]


def describe_data(collected: Collected) -> str:
    """Describe how many tiles went in, and what the audit found."""
    text = f"{plural(len(collected.rejects), 'tile')} rejected"
    if collected.tiles is not None and collected.n_areas is not None:
        areas = format_count(collected.n_areas)
        text = f"{format_count(len(collected.tiles))} tiles in {areas} areas, {text}"
    if collected.audit is None:
        return text + "; the data were not audited."
    counts = {word: int(n) for word, n in collected.audit["counts"].items() if n}
    if not counts:
        return text + "; the audit found nothing to remark."
    nouns = {"fatal": "fatal finding"}
    found = [plural(n, nouns.get(word, word)) for word, n in counts.items()]
    return text + f"; the audit found {', '.join(found)}."


def summarise_targets(collected: Collected) -> pd.DataFrame:
    """Summarise the labels of each target that is a number, over tiles.

    Returns
    -------
    target, labelled and missing (tiles), mean, sd (of the population), low and high.
    """
    if collected.tiles is None:
        return pd.DataFrame()
    targets = collected.tiles.targets
    n_labelled = targets.count()
    table = pd.DataFrame(
        {
            "target": targets.columns.astype(str),
            "labelled": n_labelled,
            "missing": len(targets) - n_labelled,
            "mean": targets.mean(),
            "sd": targets.std(ddof=0),
            "low": targets.min(),
            "high": targets.max(),
        }
    )
    return table[table["labelled"] > 0]


def build_distributions(collected: Collected) -> alt.FacetChart | None:
    """Draw the distributions of truth and prediction over units, one small chart a target."""
    rows = collected.predictions.astype(dict.fromkeys(_VALUES, float))
    rows = rows.loc[np.isfinite(rows[_VALUES].to_numpy()).all(axis=1)]
    parts = [
        _histogram(some[_VALUES].to_numpy()).assign(target=target)
        for target, some in rows.groupby("target")
        if np.ptp(some[_VALUES].to_numpy()) > 0
    ]
    if not parts:
        return None
    lines = (
        alt.Chart(pd.concat(parts, ignore_index=True))
        .mark_line(interpolate="step-after", strokeWidth=2)
        .encode(
            x=alt.X("value:Q", title="value of the index", scale=alt.Scale(zero=False)),
            y=alt.Y("share:Q", title="share", axis=alt.Axis(format="%")),
            tooltip=tooltips("what", value=".3g", share=".1%"),
            **solid_and_dashed("what:N", *_VALUES),
        )
    )
    facet = alt.Facet("target:N", title=None, sort=collected.targets)
    charts = lines.properties(width=190, height=110).facet(facet, columns=4)
    return charts.resolve_scale(x="independent", y="independent")


def _histogram(values: np.ndarray) -> pd.DataFrame:
    """Return value, what and share of (n, 2) truths and predictions, in the same bins."""
    edges = np.linspace(values.min(), values.max(), N_BINS + 1)
    shares = {
        what: np.histogram(column, edges)[0] / len(values)
        for what, column in zip(_VALUES, values.T, strict=True)
    }
    table = pd.DataFrame({"value": edges[:-1], **shares})
    return table.melt("value", var_name="what", value_name="share")


def build_correlations(collected: Collected) -> alt.LayerChart | None:
    """Draw rank correlations between targets: truth upper right, predictions lower left."""
    known = set(collected.predictions["target"])
    names = [target for target in collected.targets if target in known]
    if len(names) < 2:
        return None
    wide = collected.predictions.pivot_table(index="unit", columns="target", values=_VALUES)
    correlations = []
    for what in _VALUES:
        columns = pd.DataFrame({name: wide[what, name] for name in names})
        correlations.append(columns.corr(method="spearman").to_numpy())
    truth, prediction = correlations
    upper = np.triu(np.ones_like(truth, dtype=bool))
    rho = pd.DataFrame(np.where(upper, truth, prediction), index=names, columns=names)
    data = rho.rename_axis("row").reset_index().melt("row", var_name="column", value_name="rho")
    data = data[data["row"] != data["column"]]
    base = alt.Chart(data).transform_calculate(
        label="isValid(datum.rho) ? replace(format(datum.rho, '.2f'), '-', '−') : '–'"
    )
    top = alt.Axis(labelAngle=-35, orient="top")
    base = base.encode(
        x=alt.X("column:N", sort=names, title=None, axis=top),
        y=alt.Y("row:N", sort=names, title=None),
        tooltip=tooltips("row", "column", "label"),
    )
    scale = alt.Scale(domain=[-1, 0, 1], range=[ORANGE, "#f2f2f2", "#56B4E9"])
    colour = alt.Color("rho:Q", title="rank correlation", scale=scale)
    text = base.mark_text(fontSize=12, color="#111").encode(text="label:N")
    cells = base.mark_rect().encode(color=colour)
    return (cells + text).properties(width=alt.Step(58), height=alt.Step(30))


def build_tiles_by_area(collected: Collected) -> alt.Chart | None:
    """Draw how many areas have how many tiles."""
    if collected.tiles is None:
        return None
    n_tiles = collected.tiles.area.value_counts()
    width = max(1, -(-int(n_tiles.max()) // MAX_BARS))
    first = (n_tiles - 1) // width * width + 1
    data = first.value_counts().sort_index().rename_axis("tiles").reset_index(name="areas")
    ticks = alt.Axis(tickMinStep=1, format="d")
    bars = (
        alt.Chart(data.assign(end=data["tiles"] + width))
        .mark_bar(color=BLUE, binSpacing=1)
        .encode(
            x=alt.X("tiles:Q", title="tiles of an area", bin="binned", axis=ticks),
            x2="end:Q",
            y=alt.Y("areas:Q", title="areas", axis=alt.Axis(tickMinStep=1)),
            tooltip=tooltips(tiles="d", areas="d"),
        )
    )
    return bars.properties(width=320, height=150)
