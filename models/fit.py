"""The loop: every model on every cut and split, out of fold; then the scores, and the best of each target on all tiles."""

from __future__ import annotations

import json
import logging
import platform
import time
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from itertools import groupby
from typing import Any

import numpy as np
import pandas as pd

from extract.tiles import Tiles, read_tiles
from models.cells import ALL, Cell, Planned, plan_cells, stack_members
from models.design import Design, build_design, features_path, read_cut
from models.family import CrossFit, Floats
from models.folds import Folds, assign_folds, build_folds, hash_array, read_folds, write_folds
from models.keep import model_folder, save_model
from models.registry import build_model
from models.runs import join_cut, read_nested, read_predictions, read_run, run_folder, write_run
from models.scoring import build_labels, score_runs
from models.settings import Settings
from models.stack import stack_folds

LOG = logging.getLogger(__name__)
_PACKAGES = ("numpy", "scikit-learn", "xgboost", "xgboost-cpu", "keras")
Report = Callable[[str, int, int], None]


def fit_all(settings: Settings, *, report: Report = lambda *_: None) -> pd.DataFrame:
    """Fit and score every cell that is not done, write `scores.csv`, and keep the best models.

    Parameters
    ----------
    report : called with (what, done, of how many) before each run and at the end.

    Returns
    -------
    The scores, one row a cell and level.

    Raises
    ------
    ValueError : settings, table, embeddings or folds that cannot be used; the text says what to do.
    """
    tiles, folder = read_tiles(settings), settings.folder
    for backbone in settings.extract.backbones:
        features_path(folder, backbone)
    folds = open_folds(settings, tiles)
    planned = plan_cells(settings, tiles, folds)
    todo, done = [p for p in planned if p.missing], 0
    for cut, part in groupby(todo, key=lambda p: p.cell.cut):
        data = None if cut == ALL else read_cut(folder, tiles, cut, settings.extract.backbones)
        for plan in part:
            report(" ".join(plan.cell), done, len(todo))
            if data is None:
                fit_stack(settings, tiles, plan, [p.cell for p in planned], folds[plan.cell.split])
            else:
                design = build_design(data, tiles, plan.cell.spec, folds=folds[plan.cell.split], region=settings.models.region,
                                      weights=settings.models.weights)
                fit_run(settings, tiles, plan, design)
            done += 1
    labels = build_labels(tiles, folds, block_m=settings.models.block_m)
    scores = score_runs(folder, [p.cell for p in planned], labels, seed=settings.models.seed, report=report)
    for target, cell in _choose_kept(settings, scores):
        report(f"keep {target} {cell.cut} {cell.model}", done, len(todo))
        keep_cell(settings, tiles, target, cell, folds[cell.split])
    report("done", len(todo), len(todo))
    return scores


def open_folds(settings: Settings, tiles: Tiles) -> dict[str, Folds]:
    """Give the folds of every asked split: those on disk where they were made for these tiles, else new ones, written.

    The folds are made once, so that a target that is added later finds the same.
    """
    asked, path = settings.models, settings.folder / "folds.parquet"
    stored, recipes = read_folds(path)
    area, targets = tiles.area.to_numpy(), tiles.targets.to_numpy(np.float64)
    common = {"ids_sha256": hash_array(np.array(tiles.id.astype(str), dtype=str)),
              "area_sha256": hash_array(np.array(area, dtype=str)), "folds": asked.folds, "seed": asked.seed}
    before = dict(recipes)
    for split in asked.splits:
        recipe = {**common, **({"block_m": asked.block_m, "xy_sha256": hash_array(tiles.xy)} if split == "block" else {})}
        if {k: v for k, v in recipes.get(split, {}).items() if k != "fold_sha256"} != recipe:
            stored[split] = assign_folds(split, area=area, xy=tiles.xy, targets=targets, n_folds=asked.folds, seed=asked.seed,
                                         block_m=asked.block_m)
            recipes[split] = {**recipe, "fold_sha256": hash_array(stored[split])}
    current = {split: fold for split, fold in stored.items() if len(fold) == len(tiles)}
    if recipes != before:
        write_folds(path, tiles.id.to_numpy(), current, {split: recipes[split] for split in current})
    return {split: build_folds(split, stored[split], area=area, xy=tiles.xy, block_m=asked.block_m, buffer_m=asked.buffer_m)
            for split in asked.splits}


def fit_run(settings: Settings, tiles: Tiles, plan: Planned, design: Design) -> None:
    """Predict every tile out of fold for the targets that are missing, and write the run."""
    names = settings.targets.columns
    columns = [names.index(t) for t in plan.missing]
    start = time.perf_counter()
    model = build_model(plan.cell.spec, seed=settings.models.seed)
    fitted = model.cross_fit(design.X, design.Y[:, columns], folds=design.folds, weight=design.weight,
                             nested=bool(plan.inputs["nested"]))
    seconds = time.perf_counter() - start
    fold = design.folds.fold[design.row_of_tile]
    nested = None if fitted.nested is None else fitted.nested[design.row_of_tile]
    by_tile = CrossFit(fitted.predicted[design.row_of_tile], nested, fitted.chosen)
    write_cells(settings, tiles, plan, design.tiles, fold, by_tile, seconds)
    LOG.info("%s %s %s: %.1f s", *plan.cell, seconds)


def fit_stack(settings: Settings, tiles: Tiles, plan: Planned, cells: list[Cell], folds: Folds) -> None:
    """Combine the members' predictions for the targets that are missing, and write the run."""
    start, members = time.perf_counter(), stack_members(cells, plan.cell.split)
    predicted = np.full((len(tiles), len(plan.missing)), np.nan)
    chosen: list[dict[str, Any]] = []
    frames = [(read_predictions(settings.folder, *m), read_nested(settings.folder, *m)) for m in members]
    for i, target in enumerate(plan.missing):
        outer = np.column_stack([_by_tile(frame, target, tiles) for frame, _ in frames])
        inner = np.column_stack([_by_tile(frame, target, tiles) for _, frame in frames])
        predicted[:, i], learned = stack_folds(tiles.targets[target].to_numpy(np.float64), outer, inner, folds=folds,
                                               area=tiles.area.to_numpy())
        chosen.append({f: {"penalty": w.penalty, "weights": dict(zip((f"{m.cut} {m.model}" for m in members),
                                                                     w.weights.round(6).tolist(), strict=True))}
                       for f, w in learned.items()})
    rows = np.flatnonzero(np.isfinite(predicted).any(axis=1))
    by_tile, seconds = CrossFit(predicted[rows], None, chosen), time.perf_counter() - start
    write_cells(settings, tiles, plan, rows, folds.fold[rows], by_tile, seconds)


def _by_tile(frame: pd.DataFrame, target: str, tiles: Tiles) -> Floats:
    part = frame[frame["target"] == target].set_index("id")["prediction"]
    return part.reindex(tiles.id).to_numpy(np.float64)


def write_cells(settings: Settings, tiles: Tiles, plan: Planned, rows: Any, fold: Any, fitted: CrossFit, seconds: float) -> None:
    """Write the run: the newly fitted targets beside those that were done and are still up to date."""
    ids, names = tiles.id.to_numpy()[rows], settings.targets.columns
    new = {t: pd.DataFrame({"id": ids, "fold": fold, "target": t, "truth": tiles.targets[t].to_numpy(np.float64)[rows],
                            "prediction": fitted.predicted[:, i]}) for i, t in enumerate(plan.missing)}
    deep = None if fitted.nested is None else {t: pd.DataFrame({"id": ids, "target": t, "prediction": fitted.nested[:, i]})
                                               for i, t in enumerate(plan.missing)}
    cells: dict[str, dict[str, Any]] = {
        t: {"key": plan.keys[t], "seconds": seconds / len(plan.missing), "chosen": fitted.chosen[i]}
        for i, t in enumerate(plan.missing)}
    if len(plan.missing) < len(names):
        old = read_run(settings.folder, *plan.cell)
        cells |= {t: {**old["cells"][t], "chosen": old["chosen"][t]} for t in names if t not in cells}
        frame = read_predictions(settings.folder, *plan.cell)
        new |= {t: frame[frame["target"] == t] for t in names if t not in new}
        if deep is not None:
            frame = read_nested(settings.folder, *plan.cell)
            deep |= {t: frame[frame["target"] == t] for t in names if t not in deep}
    run = {**plan.cell._asdict(), "settings": settings.as_json(), "inputs": plan.inputs, "versions": _versions(),
           "seconds": sum(c["seconds"] for c in cells.values()), "chosen": {t: cells[t]["chosen"] for t in names},
           "cells": {t: {k: v for k, v in cells[t].items() if k != "chosen"} for t in names}}
    write_run(run_folder(settings.folder, *plan.cell), pd.concat([new[t] for t in names], ignore_index=True),
              None if deep is None else pd.concat([deep[t] for t in names], ignore_index=True), run)


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name.removesuffix("-cpu")] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _choose_kept(settings: Settings, scores: pd.DataFrame) -> Iterator[tuple[str, Cell]]:
    """Give the cells to keep of each target: the highest area R² on the strictest split, or all, or those named; no stack."""
    asked = settings.models
    frame = scores[(scores["split"] == asked.strictest) & (scores["level"] == "area") & (scores["backbone"] != ALL)]
    if isinstance(asked.keep, list):
        frame = frame[frame["model"].isin(asked.keep)]
    for target in settings.targets.columns:
        ranked = frame[frame["target"] == target].sort_values("rmse", kind="stable")
        for row in ranked.head(1 if asked.keep == "best" else len(ranked)).to_dict("records"):
            yield target, Cell(asked.strictest, join_cut(row["backbone"], row["layer"], row["pooling"]), str(row["model"]))


def keep_cell(settings: Settings, tiles: Tiles, target: str, cell: Cell, folds: Folds) -> None:
    """Refit one cell on all tiles and save it; nothing where the same is saved already."""
    run, t = read_run(settings.folder, *cell), settings.targets.columns.index(target)
    path, key = model_folder(settings.folder, target, cell.cut, cell.model), run["cells"][target]["key"]
    facts = path / "model.json"
    if facts.is_file() and json.loads(facts.read_text(encoding="utf-8")).get("key") == key:
        return
    data = read_cut(settings.folder, tiles, cell.cut, settings.extract.backbones)
    design = build_design(data, tiles, cell.spec, folds=folds, region=settings.models.region, weights=settings.models.weights)
    model = build_model(cell.spec, seed=settings.models.seed)
    model.fit(design.X, design.Y[:, [t]], folds=design.folds, weight=design.weight)
    save_model(path, cell.model, model, {"target": target, "cut": cell.cut, "split": cell.split, "key": key,
                                         "settings": settings.as_json(), "chosen": model.chosen_[0],
                                         "features": design.names, "inputs": run["inputs"], "versions": _versions()})
