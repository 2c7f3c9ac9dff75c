"""Write what a fit gave into its run: the new targets beside those that still hold."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import pandas as pd

from extract.config.arrays import Floats
from extract.tables.tile_table import Tiles
from models.data.pooling import mean_by_group
from models.settings import FitSettings
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
    folder = settings.folder
    old = read_finished(folder, *plan.cell)
    cells: dict[str, dict[str, Any]] = {}
    chosen: dict[str, Any] = {}
    for target, cell in old.get("cells", {}).items():
        if target not in plan.missing and old["inputs"] == plan.inputs:
            cells[target] = cell
            chosen[target] = old["chosen"][target]
    kept = list(cells)
    area_r2 = score_areas(tiles, fitted)
    cells |= _describe_cells(fitted, area_r2)
    chosen |= dict(zip(fitted.numbers, fitted.cross.chosen, strict=True))
    chosen |= {target: one.chosen for target, one in fitted.classes.items()}
    frames = {}
    for name, new in _build_frames(tiles, fitted).items():
        before = read_rows(folder, plan.cell, name, kept) if kept else None
        parts = [frame for frame in (before, new) if frame is not None and len(frame)]
        frames[name] = pd.concat(parts, ignore_index=True) if parts else None
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
        run_folder(folder, *plan.cell),
        frames["predictions.parquet"],
        frames["nested.parquet"],
        document,
        classes=frames["classes.parquet"],
        curves=frames["curves.csv"],
    )
    return area_r2


def _describe_cells(fitted: Fitted, area_r2: dict[str, float]) -> dict[str, dict[str, Any]]:
    plan = fitted.plan
    seconds_of_classes = sum(one.seconds for one in fitted.classes.values())
    seconds_a_number = (fitted.seconds - seconds_of_classes) / max(1, len(fitted.numbers))
    cells: dict[str, dict[str, Any]] = {}
    for target in plan.missing:
        cell: dict[str, Any] = {"key": plan.keys[target], "depends": plan.depends[target]}
        if target in fitted.classes:
            one = fitted.classes[target]
            cell |= {"is_nested": False, "seconds": round(one.seconds, 4), "classes": one.names}
        else:
            r2 = area_r2[target]
            cell |= {
                "is_nested": fitted.cross.nested is not None,
                "seconds": round(seconds_a_number, 4),
                "area_r2": None if np.isnan(r2) else round(r2, 6),
            }
        cells[target] = cell
    return cells


def score_areas(tiles: Tiles, fitted: Fitted) -> dict[str, float]:
    """Compute R² over areas of each target that was fitted, for the progress display.

    NaN where the truth is constant, and for classes.
    """
    area = pd.factorize(tiles.area.iloc[fitted.rows])[0]
    scores = dict.fromkeys(fitted.classes, np.nan)
    for i, target in enumerate(fitted.numbers):
        truth = tiles.targets[target].to_numpy(np.float64)[fitted.rows]
        pair = np.column_stack([truth, fitted.cross.predicted[:, i]])
        pair[~np.isfinite(pair).all(axis=1)] = np.nan
        means = mean_by_group(pair, area)
        means = means[np.isfinite(means[:, 0])]
        variance = means[:, 0].var() if len(means) else 0.0
        mse = np.mean((means[:, 0] - means[:, 1]) ** 2) if len(means) else np.nan
        scores[target] = float(1 - mse / variance) if variance > 0 else np.nan
    return scores


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
    truth = tiles.targets[targets].to_numpy(np.float64)[fitted.rows]
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
    for target, one in fitted.classes.items():
        is_known = np.isfinite(one.probability[:, 0])
        names = np.array(one.names, dtype=object)
        likeliest = names[np.where(is_known[:, None], one.probability, 0).argmax(axis=1)]
        likeliest[~is_known] = None
        columns = {
            "id": tiles.id.to_numpy()[fitted.rows],
            "fold": fitted.fold,
            "target": target,
            "truth": tiles.classes[target].to_numpy()[fitted.rows],
            "prediction": likeliest,
            "probability": list(one.probability.astype(np.float32)),
        }
        frames.append(pd.DataFrame(columns))
    return pd.concat(frames, ignore_index=True) if frames else None


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
    versions = {"python": platform.python_version()}
    names = [*_PACKAGES]
    for module, distribution in _ACCELERATORS.items():
        if module in sys.modules:
            names.append(distribution)
    for name in names:
        try:
            versions[name.removesuffix("-cpu")] = version(name)
        except PackageNotFoundError:
            continue
    return versions
