"""Write what a fit gave into its run: the new targets beside those that still hold."""

from __future__ import annotations

import platform
import sys

import numpy as np
import pandas as pd

from extract.config.arrays import Floats, Ints
from extract.tables.tile_table import Tiles
from models.data.classes import choose_classes
from models.data.pooling import mean_by_group
from models.settings import FitSettings
from models.store.cells import Entry, read_versions
from models.store.fitted import Fitted
from models.store.runs import CURVE_COLUMNS, read_finished, read_rows, run_folder, write_run

# What stands in for classes of scikit-learn in a fit that was started by it.
_ACCELERATORS = {"sklearnex": "scikit-learn-intelex", "cuml.accel": "cuml-cu12"}
_PACKAGES = ("numpy", "scikit-learn", "xgboost", "xgboost-cpu", "keras")


def write_fitted(settings: FitSettings, tiles: Tiles, fitted: Fitted) -> dict[str, float]:
    """Write the run of a fit.

    Cells that were done stay as they are, also those of targets that the settings no longer name:
    they were fitted from the same inputs, or were planned to be fitted again.

    Returns
    -------
    Target that was fitted → its R² over areas.
    """
    plan = fitted.plan
    old = read_finished(settings.folder, *plan.cell)
    kept: list[str] = []
    if old.get("inputs") == plan.inputs:
        kept = [target for target in old["cells"] if target not in plan.missing]
    cells = {target: old["cells"][target] for target in kept}
    chosen = {target: old["chosen"][target] for target in kept}
    area_r2 = score_areas(tiles, fitted)
    cells |= _describe_cells(fitted, area_r2)
    chosen |= dict(zip(fitted.numbers, fitted.cross.chosen, strict=True))
    chosen |= {target: one.chosen for target, one in fitted.classes.items()}
    frames = _build_frames(tiles, fitted)
    if kept:
        for name, new in frames.items():
            before = read_rows(settings.folder, plan.cell, name, kept)
            frames[name] = _join(before, new)
    document = {
        **plan.cell.as_texts(),
        "settings": settings.as_json(),
        "inputs": plan.inputs,
        "versions": {**_read_versions(), **plan.inputs.get("versions", {})},
        "seconds": sum(cell["seconds"] for cell in cells.values()),
        "peak_rss_bytes": fitted.peak_rss_bytes or None,
        "chosen": chosen,
        "cells": cells,
    }
    write_run(
        run_folder(settings.folder, *plan.cell),
        frames["predictions.parquet"],
        frames["nested.parquet"],
        document,
        classes=frames["classes.parquet"],
        curves=frames["curves.csv"],
    )
    return area_r2


def _join(before: pd.DataFrame, new: pd.DataFrame | None) -> pd.DataFrame | None:
    """Put new rows behind those that still hold; None where there are none."""
    parts = [frame for frame in (before, new) if frame is not None and len(frame)]
    if not parts:
        return None
    return pd.concat(parts, ignore_index=True)


def _describe_cells(fitted: Fitted, area_r2: dict[str, float]) -> dict[str, Entry]:
    plan = fitted.plan
    seconds = fitted.seconds - sum(one.seconds for one in fitted.classes.values())
    n_numbers = max(1, len(fitted.numbers))
    is_nested = fitted.cross.nested is not None
    cells: dict[str, Entry] = {}
    for target in plan.missing:
        cell: Entry = {"key": plan.keys[target], "depends": plan.depends[target]}
        if target in fitted.classes:
            one = fitted.classes[target]
            cell["is_nested"] = False
            cell["seconds"] = round(one.seconds, 4)
            cell["classes"] = one.names
        else:
            r2 = area_r2[target]
            cell["is_nested"] = is_nested
            cell["seconds"] = round(seconds / n_numbers, 4)
            cell["area_r2"] = None if np.isnan(r2) else round(r2, 6)
        cells[target] = cell
    return cells


def score_areas(tiles: Tiles, fitted: Fitted) -> dict[str, float]:
    """Compute R² over areas of each target that was fitted, for the progress display.

    NaN where the truth is constant, and for classes.
    """
    area, _ = pd.factorize(tiles.area.iloc[fitted.rows])
    scores = dict.fromkeys(fitted.classes, np.nan)
    for i, target in enumerate(fitted.numbers):
        truth = tiles.targets[target].to_numpy(np.float64)
        scores[target] = _score(truth[fitted.rows], fitted.cross.predicted[:, i], area)
    return scores


def _score(truth: Floats, predicted: Floats, area: Ints) -> float:
    pair = np.column_stack([truth, predicted])
    is_unknown = ~np.isfinite(pair).all(axis=1)
    pair[is_unknown] = np.nan
    means = mean_by_group(pair, area)
    means = means[np.isfinite(means[:, 0])]
    variance = 0.0
    if len(means):
        variance = means[:, 0].var()
    if variance == 0:
        return np.nan
    error = means[:, 0] - means[:, 1]
    mse = np.mean(error**2)
    return float(1 - mse / variance)


def _build_frames(tiles: Tiles, fitted: Fitted) -> dict[str, pd.DataFrame | None]:
    """Return file name → its new rows; None where there are none."""
    cross = fitted.cross
    return {
        "predictions.parquet": _number_frame(tiles, fitted, cross.predicted),
        "nested.parquet": _number_frame(tiles, fitted, cross.nested),
        "classes.parquet": _class_frame(tiles, fitted),
        "curves.csv": _curve_frame(fitted),
    }


def _number_frame(tiles: Tiles, fitted: Fitted, values: Floats | None) -> pd.DataFrame | None:
    """One row a target and tile: id, fold, target, truth, prediction."""
    targets = fitted.numbers
    if values is None or not targets:
        return None
    ids = tiles.id.to_numpy()[fitted.rows]
    truth = tiles.targets[targets].to_numpy(np.float64)
    truth = truth[fitted.rows]
    columns = {
        "id": np.tile(ids, len(targets)),
        "fold": np.tile(fitted.fold, len(targets)),
        "target": np.repeat(targets, len(ids)),
        "truth": truth.T.ravel(),
        "prediction": values.T.ravel(),
    }
    return pd.DataFrame(columns)


def _class_frame(tiles: Tiles, fitted: Fitted) -> pd.DataFrame | None:
    """One row a target and tile: as for numbers, and the probabilities as a list."""
    frames = []
    ids = tiles.id.to_numpy()[fitted.rows]
    for target, one in fitted.classes.items():
        truth = tiles.classes[target].to_numpy()
        columns = {
            "id": ids,
            "fold": fitted.fold,
            "target": target,
            "truth": truth[fitted.rows],
            "prediction": choose_classes(one.probability, one.names),
            "probability": list(one.probability.astype(np.float32)),
        }
        frames.append(pd.DataFrame(columns))
    if not frames:
        return None
    return pd.concat(frames, ignore_index=True)


def _curve_frame(fitted: Fitted) -> pd.DataFrame:
    """One row a target, fold and epoch of what is learnt in epochs."""
    by_target = dict(zip(fitted.numbers, fitted.cross.curves, strict=False))
    by_target |= {target: one.curves for target, one in fitted.classes.items()}
    rows = []
    for target, curves in by_target.items():
        for fold, curve in curves.items():
            rows += [(target, int(fold), *epoch) for epoch in curve]
    return pd.DataFrame(rows, columns=list(CURVE_COLUMNS))


def _read_versions() -> dict[str, str]:
    names = [*_PACKAGES]
    for module, distribution in _ACCELERATORS.items():
        if module in sys.modules:
            names.append(distribution)
    return {"python": platform.python_version(), **read_versions(names)}
