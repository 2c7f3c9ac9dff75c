"""Errors by group: bias and size of the errors by tenth of the truth, tile count and group."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from extract.config.arrays import Floats
from models.evaluation.score_split import TILE_BINS
from reports.data.collect import Collected
from reports.data.formats import format_figures, plural
from reports.sections.headline import name_higher
from reports.sections.truth import bin_by_rank, describe_bias, select_predictions

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
    """Errors of one target by group.

    Attributes
    ----------
    table : `COLUMNS`, one row a group.
    sentence : what stands out.
    """

    table: pd.DataFrame
    sentence: str

    @property
    def groups(self) -> pd.DataFrame:
        """Return the rows of the columns that the settings name."""
        return self.table[~self.table["by"].isin([BY_TRUTH, BY_TILES])]

    @property
    def warnings_first(self) -> pd.DataFrame:
        """Return the table as the page shows it."""
        return self.table.sort_values("warning", key=lambda words: words == "", kind="stable")

    @property
    def ends(self) -> tuple[float, float]:
        """Return the bias of the lowest and of the highest truths."""
        tenths = self.table.loc[self.table["by"] == BY_TRUTH, "bias"]
        return float(tenths.iloc[0]), float(tenths.iloc[-1])


def build_group_errors(collected: Collected, target: str) -> GroupErrors | None:
    """Summarise the errors of one target's best model by group; None without predictions."""
    rows = select_predictions(collected, target)
    if rows.empty:
        return None
    parts = [_summarise(rows["residual"], _name_tenths(rows), by=BY_TRUTH)]
    if collected.tiles is not None:
        is_area = collected.unit == "area"
        unit = collected.tiles.area if is_area else collected.tiles.id
        unit = pd.Series(unit.astype(str).to_numpy())
        if is_area:
            parts.append(_by_tile_count(rows, unit))
        for name, column in collected.tiles.groups.items():
            group_of = pd.Series(column.astype(str).to_numpy(), unit)
            parts.append(_by_group(rows, group_of, by=str(name)))
    table = pd.concat(parts, ignore_index=True)
    table["target"] = target
    table["warning"] = ""
    notable = NOTABLE * rows["truth"].std(ddof=0)
    is_large = table["bias"].abs() >= notable
    is_large &= table["by"] != BY_TRUTH
    is_high = table["bias_low"] > 0
    is_low = table["bias_high"] < 0
    table.loc[is_large & is_high, "warning"] = "too high"
    table.loc[is_large & is_low, "warning"] = "too low"
    errors = GroupErrors(table[COLUMNS], "")
    return errors._replace(sentence=_describe(errors, target, collected))


def _name_tenths(rows: pd.DataFrame) -> pd.Series:
    n_bins = min(10, len(rows))
    name = "tenth {}" if n_bins == 10 else f"{{}} of {n_bins}"
    names = [name.format(i + 1) for i in range(n_bins)]
    bins = bin_by_rank(rows["truth"], n_bins).map(names.__getitem__)
    return pd.Series(pd.Categorical(bins, names))


def _by_tile_count(rows: pd.DataFrame, area: pd.Series) -> pd.DataFrame:
    """Summarise by how many tiles an area has; empty where all areas fall in one bin."""
    n_tiles = rows["unit"].map(area.value_counts()).fillna(1)
    lows = [low for low, _ in TILE_BINS]
    labels = [f"{low} to {high}" for low, high in TILE_BINS]
    labels[0] = "1"
    labels[-1] = f"{lows[-1]} or more"
    edges = [*lows, np.inf]
    groups = pd.cut(n_tiles, edges, right=False, labels=labels)
    if groups.nunique() < 2:
        return pd.DataFrame()
    return _summarise(rows["residual"], groups, by=BY_TILES)


def _by_group(rows: pd.DataFrame, group_of: pd.Series, *, by: str) -> pd.DataFrame:
    first = group_of[~group_of.index.duplicated()]
    groups = rows["unit"].map(first).fillna("unknown")
    sizes = groups.value_counts().sort_index()
    sizes = sizes.sort_values(ascending=False, kind="stable")
    is_shown = groups.isin(sizes.index[:MAX_GROUPS])
    return _summarise(rows["residual"], groups.where(is_shown), by=by)


def _summarise(residual: pd.Series, groups: pd.Series, *, by: str) -> pd.DataFrame:
    """Return bias and mean absolute error of each group, with 95 % intervals."""
    rows = []
    for name, some in residual.groupby(groups, observed=True):
        errors = some.to_numpy()
        bias_low, bias_high = _interval(errors)
        size = np.abs(errors)
        mae_low, mae_high = _interval(size)
        rows.append(
            {
                "by": by,
                "group": str(name),
                "n": len(errors),
                "bias": errors.mean(),
                "bias_low": bias_low,
                "bias_high": bias_high,
                "mae": size.mean(),
                "mae_low": mae_low,
                "mae_high": mae_high,
            }
        )
    return pd.DataFrame(rows)


def _interval(values: Floats) -> tuple[float, float]:
    """Return the 95 % percentile bootstrap interval of a mean; NaN for fewer than 5 values."""
    n = len(values)
    if n < MIN_UNITS:
        return np.nan, np.nan
    rng = np.random.default_rng(n)
    drawn = rng.integers(n, size=(N_DRAWS, n))
    means = values[drawn].mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


def _describe(errors: GroupErrors, target: str, collected: Collected) -> str:
    lowest, highest = map(describe_bias, errors.ends)
    text = f"Low truths are predicted {lowest}, high truths {highest}"
    warned = errors.groups[errors.groups["warning"] != ""]
    if errors.groups.empty:
        return text + "."
    if warned.empty:
        return text + "; no group stands out."
    worst = warned.sort_values("bias", key=np.abs).iloc[-1]
    way = _name_way(worst["warning"], target, collected)
    size = format_figures(abs(worst["bias"]))
    return text + (
        f". Misjudged systematically: {plural(len(warned), 'group')}, most of all "
        f"{worst['by']} “{worst['group']}”, {way} by {size}."
    )


def _name_way(warning: str, target: str, collected: Collected) -> str:
    """Return `too deprived` or `too well off` where the settings say which way an index points."""
    way = name_higher(collected, target)
    if way == "higher":
        return warning
    is_too_deprived = (warning == "too high") == (way == "more deprived")
    return "too deprived" if is_too_deprived else "too well off"


def describe_group_errors(errors: dict[str, GroupErrors]) -> str:
    """Describe how many groups are systematically misjudged, over all targets."""
    ends = [one.ends for one in errors.values()]
    n_drawn_in = sum(low > 0 > high for low, high in ends)
    indices = plural(len(ends), "index")
    text = f"The extremes are drawn towards the mean on {n_drawn_in} of {indices}"
    groups = [one.groups["warning"] for one in errors.values()]
    n_groups = sum(len(warnings) for warnings in groups)
    if not n_groups:
        return text + "; the settings name no group columns to look at."
    n_warned = sum((warnings != "").sum() for warnings in groups)
    return text + (
        f". Of {n_groups} groups, counted once an index, {n_warned} are systematically misjudged."
    )
