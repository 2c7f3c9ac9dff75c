"""The intervals of a kept model: their half widths from its out-of-fold errors, and whether they
held on each split.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from extract.tables.tile_table import Tiles
from models.store.cells import Cell
from models.store.runs import read_classes, read_finished, read_predictions, write_csv
from models.uncertainty.conformal import NOMINAL, Errors, find_half_width, measure_coverage

COLUMNS = (
    "split",
    "cut",
    "model",
    "target",
    "level",
    "nominal",
    "coverage",
    "n_areas",
    "mean_width",
)  # of coverage.csv
_HONEST = ("area", "block")  # splits whose test areas no model has seen


def describe_intervals(folder: Path, cell: Cell, target: str, tiles: Tiles) -> dict[str, Any]:
    """Return what `model.json` says of intervals: half widths by level, and their coverage on every
    honest split that was fitted.

    Returns
    -------
    `intervals`: level → nominal → half width, in the target's unit, None where the areas are too
    few for one; of the model's own split. `coverage`: a row a split, level and nominal.
    """
    widths: dict[str, dict[str, float | None]] = {}
    for level, errors in read_errors(folder, cell, target, tiles).items():
        found = {str(nominal): find_half_width(errors, nominal) for nominal in NOMINAL}
        widths[level] = {
            nominal: width if np.isfinite(width) else None for nominal, width in found.items()
        }
    rows = []
    for split in _HONEST:
        other = cell._replace(split=split)
        if target not in read_finished(folder, *other).get("cells", {}):
            continue
        for level, errors in read_errors(folder, other, target, tiles).items():
            for nominal in NOMINAL:
                measured = measure_coverage(errors, nominal)
                facts = measured._asdict()
                if not np.isfinite(
                    measured.half_width
                ):  # an interval without bounds holds everything, and tells nothing
                    facts |= {"coverage": None, "half_width": None}
                rows.append({"split": split, "level": level, "nominal": nominal, **facts})
    return {"intervals": widths, "coverage": rows}


def write_coverage(folder: Path, kept: Iterable[dict[str, Any]]) -> None:
    """Write `coverage.csv`: what each kept model's `model.json` says of its intervals; `mean_width`
    is empty where infinite.
    """
    rows = [
        {
            **row,
            **{name: one[name] for name in ("cut", "model", "target")},
            "mean_width": np.nan if row["half_width"] is None else 2 * row["half_width"],
        }
        for one in kept
        for row in one["coverage"]
    ]
    write_csv(folder / "coverage.csv", pd.DataFrame(rows, columns=list(COLUMNS)))


def read_errors(folder: Path, cell: Cell, target: str, tiles: Tiles) -> dict[str, Errors]:
    """Read how far a run's predictions of a target were off: level → errors. Classes have them at
    tiles alone.
    """
    is_class = tiles.kind(target) == "class"
    frame = (read_classes if is_class else read_predictions)(folder, *cell)
    frame = frame[
        (frame["target"] == target) & frame["truth"].notna() & frame["prediction"].notna()
    ]
    frame = frame.assign(
        area=pd.Series(tiles.area.to_numpy(), index=tiles.id.to_numpy()).loc[frame["id"]].to_numpy()
    )
    if is_class:
        names = read_finished(folder, *cell)["cells"][target]["classes"]
        place = pd.Index(names).get_indexer(frame["truth"])
        shares = np.array(frame["probability"].tolist(), np.float64)
        return {"tile": _errors(frame, 1 - shares[np.arange(len(frame)), place])}
    mean = (
        frame.groupby("area", as_index=False)[["truth", "prediction"]]
        .mean()
        .assign(fold=frame.groupby("area")["fold"].first().to_numpy())
    )
    levels = {"area": mean} if cell.spec.area else {"tile": frame, "area": mean}
    return {
        level: _errors(
            one, np.abs(one["truth"].to_numpy(np.float64) - one["prediction"].to_numpy(np.float64))
        )
        for level, one in levels.items()
    }


def _errors(frame: pd.DataFrame, size: Any) -> Errors:
    return Errors(
        size, pd.factorize(frame["area"])[0].astype(np.int64), frame["fold"].to_numpy(np.int64)
    )
