"""Who bears the errors: bias and error by tenth of the truth, tile count and each group column, with intervals over areas."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from models.evaluation.score_split import TILE_BINS
from reports.data.collect import Collected
from reports.sections.truth import rows_of

N_DRAWS = 1000
MIN_UNITS = 5
MAX_GROUPS = 40  # rows of a column on the page; the largest groups
NOTABLE = 0.1  # of the spread of the truth: a smaller bias is not warned of, however sure
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Burden:
    """`table` has `COLUMNS`, one row a group; `sentence` says what stands out."""

    table: pd.DataFrame
    sentence: str


def build_burden(collected: Collected, target: str) -> Burden | None:
    """Return the errors of one target's best model by tenth of the truth and by group; None without predictions."""
    rows = rows_of(collected, target)
    if rows.empty:
        return None
    spread = float(rows["truth"].std(ddof=0))
    groups = [_mark(_by_group(collected, rows, name), spread) for name in _group_columns(collected)]
    by_tiles = [_mark(one, spread) for one in _by_tiles(collected, rows)]
    table = pd.concat([_by_tenth(rows), *by_tiles, *groups], ignore_index=True).assign(
        target=target
    )[COLUMNS]
    return Burden(table=table, sentence=_describe(target, table, collected))


def _group_columns(collected: Collected) -> list[str]:
    return [] if collected.tiles is None else [str(c) for c in collected.tiles.groups.columns]


def _by_tenth(rows: pd.DataFrame) -> pd.DataFrame:
    n_bins = min(10, len(rows))
    bins = ((rows["truth"].rank(method="first").to_numpy() - 1) * n_bins // len(rows)).astype(int)
    names = [f"tenth {b + 1}" if n_bins == 10 else f"{b + 1} of {n_bins}" for b in range(n_bins)]
    return _summarise(rows["residual"].to_numpy(), np.array(names)[bins], order=names).assign(
        by=BY_TRUTH, warning=""
    )


def _by_tiles(collected: Collected, rows: pd.DataFrame) -> list[pd.DataFrame]:
    """Return the errors by how many tiles an area has; nothing where a unit is a tile, or all areas have as many."""
    if collected.tiles is None or collected.unit != "area":
        return []
    n = (
        rows["unit"]
        .map(collected.tiles.area.astype(str).value_counts())
        .fillna(1)
        .to_numpy(np.int64)
    )
    bins = [
        (
            f"{low}" if low == high else f"{low} to {high}" if high else f"{low} or more",
            (n >= low) & (n <= (high or np.inf)),
        )
        for low, high in TILE_BINS
    ]
    named = np.select([is_in for _, is_in in bins], [name for name, _ in bins], "")
    order = [name for name, is_in in bins if is_in.any()]
    return (
        [_summarise(rows["residual"].to_numpy(), named, order=order).assign(by=BY_TILES)]
        if len(order) > 1
        else []
    )


def _by_group(collected: Collected, rows: pd.DataFrame, column: str) -> pd.DataFrame:
    tiles = collected.tiles
    if tiles is None:
        return pd.DataFrame()
    key = tiles.area if collected.unit == "area" else tiles.id
    group = pd.Series(tiles.groups[column].astype(str).to_numpy(), index=key.astype(str).to_numpy())
    named = rows["unit"].map(group[~group.index.duplicated()]).fillna("unknown").to_numpy()
    names, n = np.unique(named, return_counts=True)
    largest = sorted(names[np.argsort(-n, kind="stable")][:MAX_GROUPS].tolist())
    return _summarise(rows["residual"].to_numpy(), named, order=largest).assign(by=column)


def _summarise(
    residual: NDArray[np.float64], group: NDArray[np.str_], *, order: list[str]
) -> pd.DataFrame:
    found = []
    for name in order:
        some = residual[group == name]
        bias, mae = _intervals(some, np.abs(some))
        found.append((name, len(some), some.mean(), *bias, np.abs(some).mean(), *mae))
    return pd.DataFrame(
        found, columns=["group", "n", "bias", "bias_low", "bias_high", "mae", "mae_low", "mae_high"]
    )


def _intervals(*columns: NDArray[np.float64]) -> list[tuple[float, float]]:
    """95 % percentile intervals of means over the same resampled areas; NaN for fewer than 5."""
    n = len(columns[0])
    if n < MIN_UNITS:
        return [(float("nan"), float("nan"))] * len(columns)
    drawn = np.random.default_rng(n).integers(n, size=(N_DRAWS, n))
    ends = [np.quantile(values[drawn].mean(axis=1), (0.025, 0.975)).tolist() for values in columns]
    return [(low, high) for low, high in ends]


def _mark(part: pd.DataFrame, spread: float) -> pd.DataFrame:
    """Warn where the interval leaves 0 out and the bias is a tenth of the truth's spread or more."""
    is_large = part["bias"].abs() >= NOTABLE * spread
    high = (part["bias_low"] > 0) & is_large
    low = (part["bias_high"] < 0) & is_large
    return part.assign(warning=np.where(high, "too high", np.where(low, "too low", "")))


def _describe(target: str, table: pd.DataFrame, collected: Collected) -> str:
    tenths = table.loc[table["by"] == BY_TRUTH, "bias"].to_numpy(np.float64)
    groups = table[~table["by"].isin([BY_TRUTH, BY_TILES]) & (table["warning"] != "")].to_dict(
        "records"
    )
    part = "tenth" if len(tenths) == 10 else collected.unit
    text = (
        f"{target}: on average the lowest {part} is predicted {_side(tenths[0])} by {abs(tenths[0]):.3g}, the highest {part} "
        f"{_side(tenths[-1])} by {abs(tenths[-1]):.3g}"
    )
    if not groups:
        return text + (
            "; no group stands out." if (~table["by"].isin([BY_TRUTH, BY_TILES])).any() else "."
        )
    worst = max(groups, key=lambda row: abs(row["bias"]))
    are = "group is" if len(groups) == 1 else "groups are"
    return text + (
        f"; {len(groups)} {are} systematically misjudged, most of all {worst['by']} “{worst['group']}”: "
        f"{_deprived(worst['warning'], target, collected)} by {abs(worst['bias']):.3g}."
    )


def _side(bias: float) -> str:
    return "too high" if bias > 0 else "too low"


def _deprived(warning: str, target: str, collected: Collected) -> str:
    """Describe `too deprived` or `too well off` where the settings tell which way the index points."""
    higher = collected.settings.reports.higher_is
    way = higher.get(target) if isinstance(higher, dict) else higher
    if way is None:
        return warning
    return "too deprived" if (warning == "too high") == (way == "more deprived") else "too well off"
