"""What a unit gave, written into its run: the new targets beside those that were done and still hold."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import pandas as pd

from extract.tiles import Tiles
from models.runs import read_finished, read_nested, read_predictions, run_folder, write_run
from models.settings import Settings
from models.units import Fitted

_PACKAGES = ("numpy", "scikit-learn", "xgboost", "xgboost-cpu", "keras")


def write_fitted(settings: Settings, tiles: Tiles, fitted: Fitted) -> dict[str, float]:
    """Write the run of a unit, and give the R² over areas of each target that was fitted.

    Cells that were done stay as they are, those of targets that the settings no longer name too: they are fitted from
    the same inputs, or were planned to be fitted again.
    """
    plan = fitted.plan
    old = read_finished(settings.folder, *plan.cell)
    kept = {t: one for t, one in old.get("cells", {}).items() if t not in plan.missing and old["inputs"] == plan.inputs}
    area_r2 = score_areas(tiles, fitted)
    cells = {**kept, **_cells(fitted, area_r2)}
    chosen = {t: old["chosen"][t] for t in kept} | dict(zip(plan.missing, fitted.cross.chosen, strict=True))
    predictions = _frame(tiles, fitted, fitted.cross.predicted)
    nested = None if fitted.cross.nested is None else _frame(tiles, fitted, fitted.cross.nested)
    if kept:
        before = read_predictions(settings.folder, *plan.cell)
        predictions = pd.concat([before[before["target"].isin(list(kept))], predictions], ignore_index=True)
    deep = [t for t, one in kept.items() if one["is_nested"]]
    if deep:
        before = read_nested(settings.folder, *plan.cell)
        nested = pd.concat([before[before["target"].isin(deep)], *([] if nested is None else [nested])], ignore_index=True)
    write_run(run_folder(settings.folder, *plan.cell), predictions, nested,
              {**plan.cell._asdict(), "settings": settings.as_json(), "inputs": plan.inputs, "versions": _versions(),
               "seconds": sum(one["seconds"] for one in cells.values()), "chosen": chosen, "cells": cells})
    return area_r2


def _cells(fitted: Fitted, area_r2: dict[str, float]) -> dict[str, dict[str, Any]]:
    plan = fitted.plan
    share = fitted.seconds / len(plan.missing)
    return {t: {"key": plan.keys[t], "depends": plan.depends[t], "is_nested": fitted.cross.nested is not None,
                "seconds": round(share, 4),
                "area_r2": None if np.isnan(area_r2[t]) else round(area_r2[t], 6)} for t in plan.missing}


def score_areas(tiles: Tiles, fitted: Fitted) -> dict[str, float]:
    """R² over areas of each target that was fitted, for the progress display alone; NaN where the truth is constant."""
    area, scores = np.unique(tiles.area.to_numpy()[fitted.rows], return_inverse=True)[1], {}
    for i, target in enumerate(fitted.plan.missing):
        truth, predicted = tiles.targets[target].to_numpy(np.float64)[fitted.rows], fitted.cross.predicted[:, i]
        known = np.isfinite(truth) & np.isfinite(predicted)
        n = np.bincount(area[known])
        means = [np.bincount(area[known], weights=values[known])[n > 0] / n[n > 0] for values in (truth, predicted)]
        spread = float(means[0].var()) if len(n) else 0.0
        scores[target] = 1 - float(((means[0] - means[1]) ** 2).mean()) / spread if spread > 0 else float("nan")
    return scores


def _frame(tiles: Tiles, fitted: Fitted, values: Any) -> pd.DataFrame:
    """One row a target and tile: id, fold, target, truth, prediction."""
    targets, ids = fitted.plan.missing, tiles.id.to_numpy()[fitted.rows]
    truth = tiles.targets[targets].to_numpy(np.float64)[fitted.rows]
    return pd.DataFrame({"id": np.tile(ids, len(targets)), "fold": np.tile(fitted.fold, len(targets)),
                         "target": np.repeat(targets, len(ids)), "truth": truth.T.ravel(), "prediction": values.T.ravel()})


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name.removesuffix("-cpu")] = version(name)
        except PackageNotFoundError:
            continue
    return found
