"""The intervals of a kept model: their half widths from its out-of-fold errors, and whether they
held on each split.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from extract.config.arrays import Floats
from extract.tables.tile_table import Tiles
from models.store.cells import Cell
from models.store.runs import read_classes, read_finished, read_predictions
from models.store.score_tables import write_csv
from models.uncertainty.conformal import (
    NOMINAL,
    Errors,
    choose_out_of_fold,
    find_half_width,
    measure_coverage,
)

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
_HONEST = ("area", "knndm", "block", "group")  # splits whose test areas no model has seen


def describe_intervals(
    folder: Path, cell: Cell, rivals: list[Cell], target: str, tiles: Tiles
) -> dict[str, Any]:
    """Return what `model.json` says of intervals: half widths by level, and their coverage on every
    honest split that was fitted.

    Parameters
    ----------
    rivals : the cells that this one was chosen from, itself among them; it alone where none was
        chosen.

    Returns
    -------
    `intervals`: level → nominal → half width, in the target's unit, None where the areas are too
    few for one; of the model's own split. `coverage`: a row a split, level and nominal.
    """
    chosen = _read_errors_of_choice(folder, rivals, target, tiles)
    widths = {level: _find_widths(errors) for level, errors in chosen.items()}
    rows = []
    for split in _HONEST:
        others = [one._replace(split=split) for one in rivals]
        fitted = [one for one in others if _is_fitted(folder, one, target)]
        if cell._replace(split=split) not in fitted:
            continue
        of_split = chosen
        if split != cell.split:
            of_split = _read_errors_of_choice(folder, fitted, target, tiles)
        for level, errors in of_split.items():
            for one in _describe_coverage(errors):
                rows.append({"split": split, "level": level, **one})
    return {"intervals": widths, "coverage": rows}


def _is_fitted(folder: Path, cell: Cell, target: str) -> bool:
    run = read_finished(folder, *cell)
    return target in run.get("cells", {})


def write_coverage(folder: Path, kept: Iterable[Mapping[str, Any]]) -> None:
    """Write `coverage.csv`."""
    write_csv(folder / "coverage.csv", build_coverage(kept))


def build_coverage(kept: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Return what each kept model's `model.json` says of its intervals; `mean_width` is NaN where
    infinite.
    """
    rows = []
    for one in kept:
        named = {name: one[name] for name in ("cut", "model", "target")}
        for row in one["coverage"]:
            half_width = row["half_width"]
            mean_width = np.nan if half_width is None else 2 * half_width
            rows.append({**row, **named, "mean_width": mean_width})
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _find_widths(errors: Errors) -> dict[str, float | None]:
    """Return the half width of each nominal coverage; None where areas are too few."""
    widths: dict[str, float | None] = {}
    for nominal in NOMINAL:
        width = find_half_width(errors, nominal)
        widths[str(nominal)] = width if np.isfinite(width) else None
    return widths


def _describe_coverage(errors: Errors) -> Iterator[dict[str, Any]]:
    """Describe how often intervals held; empty where they have no bounds, which hold everything
    and tell nothing.
    """
    for nominal in NOMINAL:
        measured = measure_coverage(errors, nominal)
        has_bounds = np.isfinite(measured.half_width)
        yield {
            "nominal": nominal,
            "coverage": measured.coverage if has_bounds else None,
            "half_width": measured.half_width if has_bounds else None,
            "n_areas": measured.n_areas,
        }


def _read_errors_of_choice(
    folder: Path, cells: list[Cell], target: str, tiles: Tiles
) -> dict[str, Errors]:
    """Read the errors of each cell, and take for each fold those of the cell that is best on the
    other folds: level → errors.

    Levels are those of the first cell; a model of areas is no candidate at tiles.
    """
    read = [read_errors(folder, cell, target, tiles) for cell in cells]
    chosen = {}
    for level in read[0]:
        candidates = [errors[level] for errors in read if level in errors]
        chosen[level] = choose_out_of_fold(candidates)
    return chosen


def read_errors(folder: Path, cell: Cell, target: str, tiles: Tiles) -> dict[str, Errors]:
    """Read how far a run's predictions of a target were off: level → errors. Classes have them at
    tiles alone.
    """
    is_class = tiles.kind(target) == "class"
    read = read_classes if is_class else read_predictions
    frame = read(folder, *cell)
    is_target = frame["target"] == target
    frame = frame[is_target]
    frame = frame.dropna(subset=["truth", "prediction"])
    code, _ = pd.factorize(tiles.area)
    area_of = pd.Series(code.astype(np.int64), index=tiles.id.to_numpy())
    area = area_of.loc[frame["id"]]
    frame = frame.assign(area=area.to_numpy())
    if is_class:
        run = read_finished(folder, *cell)
        names = pd.Index(run["cells"][target]["classes"])
        place = names.get_indexer(frame["truth"])
        shares = np.array(frame["probability"].tolist(), np.float64)
        row = np.arange(len(frame))
        of_truth = shares[row, place]
        return {"tile": _errors(frame, 1 - of_truth)}
    areas = frame.groupby("area", as_index=False)
    mean = areas.agg({"truth": "mean", "prediction": "mean", "fold": "first"})
    by_area = {"area": _number_errors(mean)}
    if cell.spec.area:
        return by_area
    return {"tile": _number_errors(frame), **by_area}


def _number_errors(frame: pd.DataFrame) -> Errors:
    truth = frame["truth"].to_numpy(np.float64)
    prediction = frame["prediction"].to_numpy(np.float64)
    residuals = truth - prediction
    return _errors(frame, np.abs(residuals))


def _errors(frame: pd.DataFrame, size: Floats) -> Errors:
    return Errors(
        size=size,
        area=frame["area"].to_numpy(np.int64),
        fold=frame["fold"].to_numpy(np.int64),
    )
