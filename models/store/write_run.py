"""What a unit gave, written into its run: the new targets beside those that were done and still hold."""

from __future__ import annotations

import platform
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import pandas as pd

from extract.tables.tile_table import Tiles
from models.settings import FitSettings
from models.store.cells import Cell
from models.store.fitted import Fitted
from models.store.runs import (
    CURVE_COLUMNS,
    read_classes,
    read_curves,
    read_finished,
    read_nested,
    read_predictions,
    run_folder,
    write_run,
)

_PACKAGES = ("numpy", "scikit-learn", "xgboost", "xgboost-cpu", "keras")


def write_fitted(settings: FitSettings, tiles: Tiles, fitted: Fitted) -> dict[str, float]:
    """Write the run of a unit, and give the R² over areas of each target that was fitted.

    Cells that were done stay as they are, those of targets that the settings no longer name too: they are fitted from
    the same inputs, or were planned to be fitted again.
    """
    plan = fitted.plan
    old = read_finished(settings.folder, *plan.cell)
    kept = {
        t: one
        for t, one in old.get("cells", {}).items()
        if t not in plan.missing and old["inputs"] == plan.inputs
    }
    area_r2 = score_areas(tiles, fitted)
    cells = {**kept, **_cells(fitted, area_r2)}
    chosen = {t: old["chosen"][t] for t in kept} | {
        t: one.chosen for t, one in fitted.classes.items()
    }
    chosen |= dict(zip(fitted.numbers, fitted.cross.chosen, strict=True))
    predictions = _frame(tiles, fitted, fitted.cross.predicted)
    nested = None if fitted.cross.nested is None else _frame(tiles, fitted, fitted.cross.nested)
    classes = _class_frame(tiles, fitted)
    for_classes = [t for t in kept if "classes" in kept[t]]
    deep = [t for t, one in kept.items() if one["is_nested"]]
    predictions = _join(
        read_predictions,
        settings,
        plan.cell,
        [t for t in kept if t not in for_classes],
        predictions,
    )
    nested = _join(read_nested, settings, plan.cell, deep, nested)
    classes = _join(read_classes, settings, plan.cell, for_classes, classes)
    curves = _curve_frame(fitted, _join(read_curves, settings, plan.cell, list(kept), None))
    write_run(
        run_folder(settings.folder, *plan.cell),
        predictions,
        nested,
        {
            **plan.cell.as_texts(),
            "settings": settings.as_json(),
            "inputs": plan.inputs,
            "versions": _versions(),
            "seconds": sum(one["seconds"] for one in cells.values()),
            "peak_rss_bytes": fitted.peak_rss_bytes or None,
            "chosen": chosen,
            "cells": cells,
        },
        classes=classes,
        curves=curves,
    )
    return area_r2


def _join(
    read: Callable[..., pd.DataFrame],
    settings: FitSettings,
    cell: Cell,
    kept: list[str],
    new: pd.DataFrame | None,
) -> pd.DataFrame | None:
    """Put what was there of some targets before what is new; None where there is neither."""
    if not kept:
        return new
    before = read(settings.folder, *cell)
    return pd.concat(
        [before[before["target"].isin(kept)], *([] if new is None else [new])], ignore_index=True
    )


def _cells(fitted: Fitted, area_r2: dict[str, float]) -> dict[str, dict[str, Any]]:
    plan = fitted.plan
    of_classes = sum(one.seconds for one in fitted.classes.values())
    share = (fitted.seconds - of_classes) / max(1, len(fitted.numbers))
    cells: dict[str, dict[str, Any]] = {
        t: {
            "key": plan.keys[t],
            "depends": plan.depends[t],
            "is_nested": fitted.cross.nested is not None,
            "seconds": round(share, 4),
            "area_r2": None if np.isnan(area_r2[t]) else round(area_r2[t], 6),
        }
        for t in fitted.numbers
    }
    return cells | {
        t: {
            "key": plan.keys[t],
            "depends": plan.depends[t],
            "is_nested": False,
            "seconds": round(one.seconds, 4),
            "classes": one.names,
        }
        for t, one in fitted.classes.items()
    }


def score_areas(tiles: Tiles, fitted: Fitted) -> dict[str, float]:
    """R² over areas of each target that was fitted, for the progress display alone; NaN where the truth is constant.

    Classes have no R²: theirs is NaN.
    """
    area = np.unique(tiles.area.to_numpy()[fitted.rows], return_inverse=True)[1]
    scores = dict.fromkeys(fitted.classes, float("nan"))
    for i, target in enumerate(fitted.numbers):
        truth = tiles.targets[target].to_numpy(np.float64)[fitted.rows]
        predicted = fitted.cross.predicted[:, i]
        known = np.isfinite(truth) & np.isfinite(predicted)
        n = np.bincount(area[known])
        means = [
            np.bincount(area[known], weights=values[known])[n > 0] / n[n > 0]
            for values in (truth, predicted)
        ]
        spread = float(means[0].var()) if len(n) else 0.0
        scores[target] = (
            1 - float(((means[0] - means[1]) ** 2).mean()) / spread if spread > 0 else float("nan")
        )
    return scores


def _class_frame(tiles: Tiles, fitted: Fitted) -> pd.DataFrame | None:
    """One row a target and tile: id, fold, target, truth, prediction, and its probabilities as a list."""
    parts = []
    for target, one in fitted.classes.items():
        is_known = np.isfinite(one.probability[:, 0])
        likeliest = np.array(one.names, dtype=object)[
            np.where(is_known[:, None], one.probability, 0).argmax(axis=1)
        ]
        parts.append(
            pd.DataFrame(
                {
                    "id": tiles.id.to_numpy()[fitted.rows],
                    "fold": fitted.fold,
                    "target": target,
                    "truth": tiles.classes[target].to_numpy()[fitted.rows],
                    "prediction": pd.Series(likeliest).where(is_known, None),
                    "probability": list(one.probability.astype(np.float32)),
                }
            )
        )
    return pd.concat(parts, ignore_index=True) if parts else None


def _curve_frame(fitted: Fitted, before: pd.DataFrame | None) -> pd.DataFrame | None:
    """Put one row a target, fold and epoch behind those of other targets; None where nothing is learnt in epochs."""
    numbers = dict(zip(fitted.numbers, fitted.cross.curves, strict=False))
    by_target = numbers | {target: one.curves for target, one in fitted.classes.items()}
    rows = [
        (target, int(fold), *epoch)
        for target, curves in by_target.items()
        for fold, curve in curves.items()
        for epoch in curve
    ]
    frames = [
        frame
        for frame in (before, pd.DataFrame(rows, columns=list(CURVE_COLUMNS)))
        if frame is not None and len(frame)
    ]
    return pd.concat(frames, ignore_index=True) if frames else None


def _frame(tiles: Tiles, fitted: Fitted, values: Any) -> pd.DataFrame | None:
    """One row a target and tile: id, fold, target, truth, prediction; None where no target is a number."""
    targets = fitted.numbers
    ids = tiles.id.to_numpy()[fitted.rows]
    if not targets:
        return None
    truth = tiles.targets[targets].to_numpy(np.float64)[fitted.rows]
    return pd.DataFrame(
        {
            "id": np.tile(ids, len(targets)),
            "fold": np.tile(fitted.fold, len(targets)),
            "target": np.repeat(targets, len(ids)),
            "truth": truth.T.ravel(),
            "prediction": values.T.ravel(),
        }
    )


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name.removesuffix("-cpu")] = version(name)
        except PackageNotFoundError:
            continue
    return found
