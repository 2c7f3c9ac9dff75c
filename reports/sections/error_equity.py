"""Errors by group: bias and size of the errors by tenth of the truth, tile count and group."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from extract.config.arrays import Floats
from models.evaluation.score_split import TILE_BINS
from reports.data.collect import Collected
from reports.data.formats import plural
from reports.sections.truth import bin_by_rank, select_predictions

N_DRAWS = 1000
MIN_UNITS = 5
MAX_GROUPS = 40  # rows of a column on the page; the largest groups
NOTABLE = 0.1  # of the spread of the truth: a smaller bias gives no warning, however certain
BY_TRUTH = "truth, from lowest to highest"
BY_TILES = "tiles of the area"
COLUMNS = [
    "target",
    "by",
    "group",
    "n",
    "bias",
    "bias_low",
    "bias_high",
    "mae",
    "mae_low",
    "mae_high",
    "warning",
]


class GroupErrors(NamedTuple):
    """`table` has `COLUMNS`, one row a group; `sentence` says what stands out."""

    table: pd.DataFrame
    sentence: str


def build_group_errors(collected: Collected, target: str) -> GroupErrors | None:
    """Summarise the errors of one target's best model by group; None without predictions."""
    rows = select_predictions(collected, target)
    if rows.empty:
        return None
    parts = [_by_tenth(rows)]
    if collected.tiles is not None:
        if collected.unit == "area":
            parts.append(_by_tile_count(rows, collected.tiles.area))
        ids = collected.tiles.area if collected.unit == "area" else collected.tiles.id
        units = ids.astype(str).to_numpy()
        parts += [
            _by_group(rows, pd.Series(column.astype(str).to_numpy(), units), by=str(name))
            for name, column in collected.tiles.groups.items()
        ]
    table = pd.concat([part for part in parts if len(part)], ignore_index=True)
    is_large = table["bias"].abs() >= NOTABLE * rows["truth"].std(ddof=0)
    is_large &= table["by"] != BY_TRUTH
    table.loc[is_large & (table["bias_low"] > 0), "warning"] = "too high"
    table.loc[is_large & (table["bias_high"] < 0), "warning"] = "too low"
    table = table.assign(target=target)[COLUMNS]
    return GroupErrors(table, _describe(target, table, collected))


def _by_tenth(rows: pd.DataFrame) -> pd.DataFrame:
    n_bins = min(10, len(rows))
    name = "tenth {}" if n_bins == 10 else f"{{}} of {n_bins}"
    groups = (bin_by_rank(rows["truth"], n_bins) + 1).map(name.format)
    order = [name.format(i + 1) for i in range(n_bins)]
    return _summarise(rows["residual"], groups, order, by=BY_TRUTH)


def _by_tile_count(rows: pd.DataFrame, area: pd.Series) -> pd.DataFrame:
    """Summarise by how many tiles an area has; empty where all areas fall in one bin."""
    n_tiles = rows["unit"].map(area.astype(str).value_counts()).fillna(1)
    edges = [low for low, _ in TILE_BINS] + [np.inf]
    labels = [f"{low} to {high}" if high else f"{low} or more" for low, high in TILE_BINS]
    labels = ["1" if label == "1 to 1" else label for label in labels]
    groups = pd.cut(n_tiles, edges, right=False, labels=labels).astype(str)
    order = [label for label in labels if label in set(groups)]
    if len(order) < 2:
        return pd.DataFrame()
    return _summarise(rows["residual"], groups, order, by=BY_TILES)


def _by_group(rows: pd.DataFrame, group_of: pd.Series, *, by: str) -> pd.DataFrame:
    groups = rows["unit"].map(group_of[~group_of.index.duplicated()]).fillna("unknown")
    sizes = groups.value_counts().sort_index().sort_values(ascending=False, kind="stable")
    return _summarise(rows["residual"], groups, sorted(sizes.index[:MAX_GROUPS]), by=by)


def _summarise(
    residual: pd.Series, groups: pd.Series, order: list[str], *, by: str
) -> pd.DataFrame:
    """Return bias and mean absolute error of each group, with 95 % intervals."""
    rows = []
    for name in order:
        errors = residual[groups == name].to_numpy()
        size = np.abs(errors)
        bias = (errors.mean(), *_interval(errors))
        rows.append((by, name, len(errors), *bias, size.mean(), *_interval(size), ""))
    return pd.DataFrame(rows, columns=COLUMNS[1:])


def _interval(values: Floats) -> tuple[float, float]:
    """Return the 95 % percentile bootstrap interval of a mean; NaN for fewer than 5 values."""
    n = len(values)
    if n < MIN_UNITS:
        return np.nan, np.nan
    drawn = np.random.default_rng(n).integers(n, size=(N_DRAWS, n))
    low, high = np.quantile(values[drawn].mean(axis=1), (0.025, 0.975))
    return float(low), float(high)


def _select_groups(table: pd.DataFrame) -> pd.DataFrame:
    return table[~table["by"].isin([BY_TRUTH, BY_TILES])]


def _describe(target: str, table: pd.DataFrame, collected: Collected) -> str:
    tenths = table.loc[table["by"] == BY_TRUTH, "bias"].tolist()
    part = "tenth" if len(tenths) == 10 else collected.unit
    lowest, highest = (
        f"{'too high' if bias > 0 else 'too low'} by {abs(bias):.3g}"
        for bias in (tenths[0], tenths[-1])
    )
    text = (
        f"{target}: on average the lowest {part} is predicted {lowest}, "
        f"the highest {part} {highest}"
    )
    groups = _select_groups(table)
    warned = groups[groups["warning"] != ""]
    if groups.empty:
        return text + "."
    if warned.empty:
        return text + "; no group stands out."
    worst = warned.iloc[int(warned["bias"].abs().to_numpy().argmax())]
    way = _name_way(worst["warning"], target, collected)
    verb = "is" if len(warned) == 1 else "are"
    return text + (
        f". {plural(len(warned), 'group')} {verb} systematically misjudged, most of all "
        f"{worst['by']} “{worst['group']}”: {way} by {abs(worst['bias']):.3g}."
    )


def _name_way(warning: str, target: str, collected: Collected) -> str:
    """Return `too deprived` or `too well off` where the settings say which way an index points."""
    higher = collected.settings.reports.higher_is
    way = higher.get(target) if isinstance(higher, dict) else higher
    if way is None:
        return warning
    is_too_deprived = (warning == "too high") == (way == "more deprived")
    return "too deprived" if is_too_deprived else "too well off"


def describe_group_errors(errors: dict[str, GroupErrors]) -> str:
    """Describe how many groups are systematically misjudged, over all targets."""
    n_drawn_in = 0
    for one in errors.values():
        tenths = one.table.loc[one.table["by"] == BY_TRUTH, "bias"].tolist()
        n_drawn_in += tenths[0] > 0 > tenths[-1]
    text = (
        f"The extremes are drawn towards the mean on {n_drawn_in} of "
        f"{plural(len(errors), 'target')}"
    )
    groups = [_select_groups(one.table)["warning"] for one in errors.values()]
    n_groups = sum(map(len, groups))
    if not n_groups:
        return text + "; the settings name no group columns to look at."
    n_warned = sum(int((warnings != "").sum()) for warnings in groups)
    return text + (
        f"; of {n_groups} groups, counted once a target, {n_warned} are predicted "
        "systematically too high or too low."
    )
