"""What went in: counts, distributions and correlations of the targets, tiles by area."""

from __future__ import annotations

import math
from itertools import permutations
from typing import Any

import numpy as np
import pandas as pd

from extract.config.arrays import Floats
from reports.data.collect import Collected
from reports.data.formats import format_count, format_number, plural
from reports.sections.charts import Spec, fill_chart, select_finite

N_BINS = 24
MAX_BARS = 30
ALIKE = 0.05  # mean rank correlations that differ by less are about the same
_VALUES = ["truth", "prediction"]


def describe_data(collected: Collected) -> str:
    """Describe how many tiles went in, and what the audit found."""
    text = f"{plural(len(collected.rejects), 'tile')} rejected"
    if collected.tiles is not None:
        areas = plural(collected.tiles.area.nunique(), "area")
        text = f"{format_count(len(collected.tiles))} tiles in {areas}, {text}"
    if collected.audit is None:
        return text + "; the data were not audited."
    nouns = {"fatal": "fatal finding", "warning": "warning", "note": "note"}
    counts = collected.audit["counts"]
    found = [plural(counts[word], noun) for word, noun in nouns.items() if counts.get(word)]
    if not found:
        return text + "; the audit found nothing to remark."
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
    table = pd.DataFrame(
        {
            "target": targets.columns.astype(str),
            "labelled": targets.count(),
            "missing": targets.isna().sum(),
            "mean": targets.mean(),
            "sd": targets.std(ddof=0),
            "low": targets.min(),
            "high": targets.max(),
        }
    )
    return table[table["labelled"] > 0]


def build_distributions(collected: Collected) -> Spec | None:
    """Draw the distributions of truth and prediction over units, one small chart a target."""
    rows = select_finite(collected.predictions, _VALUES)
    parts = []
    for target, some in rows.groupby("target"):
        values = some[_VALUES].to_numpy()
        if np.ptp(values) > 0:
            parts.append(_histogram(values).assign(target=target))
    if not parts:
        return None
    shares = pd.concat(parts)
    return fill_chart("distributions", targets=collected.targets, datasets={"shares": shares})


def title_distributions(collected: Collected) -> str:
    """Return on how many targets predictions spread less than the truth."""
    spreads = collected.predictions.astype(dict.fromkeys(_VALUES, float))
    spreads = spreads.groupby("target")[_VALUES].std(ddof=0)
    n_narrow = (spreads["prediction"] < spreads["truth"]).sum()
    return (
        f"Predictions spread less than the truth on {n_narrow} of {plural(len(spreads), 'index')}"
    )


def _histogram(values: Floats) -> pd.DataFrame:
    """Return value, what and share of (n, 2) truths and predictions, in the same bins."""
    edges = np.linspace(values.min(), values.max(), N_BINS + 1)
    table = pd.DataFrame({"value": edges[:-1]})
    for what, column in zip(_VALUES, values.T, strict=True):
        counts, _ = np.histogram(column, edges)
        table[what] = counts / len(values)
    return table.melt("value", var_name="what", value_name="share")


def build_correlations(collected: Collected) -> Spec | None:
    """Draw rank correlations between targets: truth upper right, predictions lower left."""
    table = correlate_targets(collected)
    if table.empty:
        return None
    names = list(dict.fromkeys(table["row"]))
    return fill_chart("correlations", targets=names, datasets={"correlations": table})


def title_correlations(collected: Collected) -> str:
    """Return whether targets are more alike as predicted than in truth."""
    mean = correlate_targets(collected).groupby("what")["rho"].mean()
    predicted = format_number(mean["prediction"])
    truth = f"{format_number(mean['truth'])}, mean rank correlation"
    if abs(mean["prediction"] - mean["truth"]) < ALIKE:
        return f"Indices are about as alike in prediction ({predicted}) as in truth ({truth})"
    word = "more" if mean["prediction"] > mean["truth"] else "less"
    return f"Indices are {word} alike in prediction ({predicted}) than in truth ({truth})"


def correlate_targets(collected: Collected) -> pd.DataFrame:
    """Return rank correlations between targets, of truths above the diagonal, else of predictions.

    Columns row, column, what, rho and label; empty for less than two targets.
    """
    known = set(collected.predictions["target"])
    names = [target for target in collected.targets if target in known]
    wide = collected.predictions.pivot_table(index="unit", columns="target", values=_VALUES)
    correlations: Any = wide.astype(float).corr(method="spearman").to_dict()
    rows = []
    for row, column in permutations(names, 2):
        is_above = names.index(row) < names.index(column)
        what = "truth" if is_above else "prediction"
        rho = correlations[what, row][what, column]
        rows.append(
            {
                "row": row,
                "column": column,
                "what": what,
                "rho": rho,
                "label": format_number(rho),
            }
        )
    return pd.DataFrame(rows)


def build_tiles_by_area(collected: Collected) -> Spec | None:
    """Draw how many areas have how many tiles."""
    if collected.tiles is None:
        return None
    n_tiles = collected.tiles.area.value_counts()
    width = max(1, -(-int(n_tiles.max()) // MAX_BARS))
    first = (n_tiles - 1) // width * width + 1
    areas = first.value_counts().sort_index()
    data = areas.rename_axis("tiles").reset_index(name="areas")
    data["end"] = data["tiles"] + width
    return fill_chart("tiles", datasets={"areas": data})


def title_tiles(collected: Collected) -> str:
    """Return how many tiles half of the areas have at most."""
    if collected.tiles is None:
        return ""
    n_tiles = collected.tiles.area.value_counts()
    middle = math.floor(n_tiles.median())
    return f"Half of the areas have {plural(middle, 'tile')} or fewer, the largest {n_tiles.max()}"
