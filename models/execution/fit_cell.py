"""Fit one run out of fold: one model on one cut and split, for the targets that it lacks."""

from __future__ import annotations

import os
import sys
import time

import numpy as np
from threadpoolctl import threadpool_limits

from extract.config.arrays import Bools, Floats
from extract.config.cuts import ALL_CUTS
from extract.errors import FitError
from extract.timing.clock import peak_rss_bytes
from models.data.classes import list_classes, spread_classes
from models.data.design import Design
from models.data.fold_file import hash_folds, number_split_units
from models.data.folds import Folds
from models.evaluation.out_of_fold import read_predicted
from models.execution.experiment_data import ExperimentData
from models.families.family import Family, FitContext
from models.families.fit_results import CrossFit
from models.families.stack import stack_folds
from models.store.cells import Cell, Planned, hash_labels
from models.store.fitted import ClassFit, Fitted


def fit_unit(data: ExperimentData, plan: Planned, members: list[Cell], threads: int) -> Fitted:
    """Predict every tile out of fold for the targets that a run lacks; nothing is written.

    Parameters
    ----------
    members : what a stack combines; their predictions are read from disk.
    threads : how many the fit may use.

    Raises
    ------
    FitError : the run cannot be fitted, or the table, the folds or the features are no longer
        those of the plan.
    """
    _check_unchanged(data, plan)
    try:
        with threadpool_limits(threads):
            if plan.cell.cut is ALL_CUTS:
                fitted = _fit_stack(data, plan, members)
            else:
                fitted = _fit_model(data, plan, threads)
    except ValueError as error:
        raise FitError(f"{plan.cell}: {error}") from error
    return fitted._replace(peak_rss_bytes=peak_rss_bytes())


def _check_unchanged(data: ExperimentData, plan: Planned) -> None:
    if plan.cell.cut is ALL_CUTS:
        return
    ids = data.tiles.id.to_numpy()
    folds = hash_folds(ids, data.folds[plan.cell.split])
    labels = hash_labels(data.tiles)
    changed = [
        target
        for target, inputs in plan.depends.items()
        if inputs["labels_sha256"] != labels[target]
    ]
    if changed or plan.inputs["folds_sha256"] != folds:
        raise FitError(
            f"{plan.cell}: the tile table or the folds have changed since the run was planned, or "
            "this machine sees others. Run the same command again."
        )


def _fit_model(data: ExperimentData, plan: Planned, threads: int) -> Fitted:
    design = data.open_design(plan.cell, plan.inputs)
    start = time.perf_counter()
    n_asked = data.settings.models.folds
    n_found = len(design.folds.folds)
    if n_found < n_asked:
        raise FitError(
            f"expected usable tiles in {n_asked} folds, got them in {n_found}: every tile of a "
            "fold was rejected (features/rejects.csv). Mend those pictures, or lower folds in "
            "[models]."
        )
    _check_targets(data, plan, design)
    cross = _fit_numbers(data, plan, design, threads)
    asked = [target for target in plan.missing if target in data.tiles.classes]
    classes = {target: _fit_classes(data, plan, design, target, threads) for target in asked}
    return Fitted(
        plan=plan,
        rows=design.tiles,
        fold=design.folds.fold[design.row_of_tile],
        cross=cross,
        seconds=time.perf_counter() - start,
        classes=classes,
    )


def _fit_numbers(data: ExperimentData, plan: Planned, design: Design, threads: int) -> CrossFit:
    """Fit all targets that are numbers at once; the predictions have a row a tile."""
    columns = data.tiles.targets.columns
    is_missing = columns.isin(plan.missing)
    targets = columns[is_missing].astype(str).tolist()
    row = design.row_of_tile
    if not targets:
        return CrossFit(np.zeros((len(row), 0)), None, [])
    Y = design.Y[:, is_missing]
    model = limit_threads(data.settings.models.build(plan.cell.spec), threads)
    context = _locate_fit(data, plan, targets)
    cross = model.cross_fit(
        design.X,
        Y,
        folds=design.folds,
        weight=design.weight,
        nested=plan.is_nested,
        context=context,
    )
    nested = None if cross.nested is None else cross.nested[row]
    return cross._replace(predicted=cross.predicted[row], nested=nested)


def _fit_classes(
    data: ExperimentData, plan: Planned, design: Design, target: str, threads: int
) -> ClassFit:
    start = time.perf_counter()
    code = design.codes[target]
    names = list_classes(data.tiles.classes[target])
    model = limit_threads(data.settings.models.build(plan.cell.spec, "class"), threads)
    context = _locate_fit(data, plan, [target])
    cross = model.cross_fit(
        design.X,
        spread_classes(code, len(names)),
        folds=design.folds,
        weight=design.weight,
        context=context,
    )
    return ClassFit(
        names=names,
        probability=cross.predicted[design.row_of_tile],
        chosen=cross.chosen[0],
        seconds=time.perf_counter() - start,
        curves=cross.curves[0] if cross.curves else {},
    )


def _check_targets(data: ExperimentData, plan: Planned, design: Design) -> None:
    """Check that every training set has labels of every target that is to be fitted."""
    numbers = [str(target) for target in data.tiles.targets]
    for target in plan.missing:
        is_class = target in design.codes
        if is_class:
            is_labelled = design.codes[target] >= 0
        else:
            labels = design.Y[:, numbers.index(target)]
            is_labelled = ~np.isnan(labels)
        is_nested = plan.is_nested and not is_class
        _check_labels(design.folds, target, is_labelled, is_nested=is_nested)


def _check_labels(folds: Folds, target: str, is_labelled: Bools, *, is_nested: bool) -> None:
    """Refuse a target of which some training set has no label.

    Parameters
    ----------
    is_labelled : (n_rows,).
    is_nested : nested predictions are asked for, whose models leave out two folds.
    """
    held_out = [{fold} for fold in folds.folds]
    remedy = ""
    if is_nested:
        held_out += [{fold, folds.before(fold)} for fold in folds.folds]
        remedy = ", or take stack out of names"
    for held in held_out:
        rows = folds.training(folds.parts_of(*held))
        if is_labelled[rows].any():
            continue
        noun = "fold" if len(held) == 1 else "folds"
        without = " and ".join(map(str, sorted(held)))
        raise FitError(
            f"target {target!r}: without {noun} {without} no label is left to learn from. "
            "Fill in labels, take it out of [targets], or lower folds or buffer_m in "
            f"[models]{remedy}."
        )


def _locate_fit(data: ExperimentData, plan: Planned, targets: list[str]) -> FitContext:
    return FitContext(
        cell=str(plan.cell),
        targets=tuple(targets),
        folder=data.settings.folder,
        keys=tuple(plan.keys[t] for t in targets),
    )


def limit_threads(model: Family, threads: int) -> Family:
    """Return the model with the number of threads that it may use."""
    if "tensorflow" not in sys.modules:  # it reads these once, when it is loaded
        os.environ["TF_NUM_INTRAOP_THREADS"] = str(threads)
        os.environ["TF_NUM_INTEROP_THREADS"] = str(threads)
    names = [name for name in model.get_params() if name.endswith("n_jobs")]
    limited: Family = model.set_params(**dict.fromkeys(names, threads))
    return limited


def _fit_stack(data: ExperimentData, plan: Planned, members: list[Cell]) -> Fitted:
    start = time.perf_counter()
    tiles = data.tiles
    folder = data.settings.folder
    folds = data.folds[plan.cell.split]
    runs = [member.names for member in members]
    ids = tiles.id.to_numpy()
    outer = read_predicted(folder, runs, ids, plan.missing)
    inner = read_predicted(folder, runs, ids, plan.missing, is_nested=True)
    options = data.settings.models.fold_options
    unit = number_split_units(plan.cell.split, tiles, options)
    weight = _weigh_tiles(data)
    names = [str(member) for member in members]
    predicted = np.full((len(tiles), len(plan.missing)), np.nan)
    chosen = []
    for i, target in enumerate(plan.missing):
        predicted[:, i], learned = stack_folds(
            tiles.targets[target].to_numpy(np.float64),
            outer[i].astype(np.float64),
            inner[i].astype(np.float64),
            folds=folds,
            unit=unit,
            weight=weight,
        )
        of_folds = {}
        for fold, stack in learned.items():
            weights = stack.weights.round(6).tolist()
            by_name = dict(zip(names, weights, strict=True))
            of_folds[fold] = {"penalty": stack.penalty, "weights": by_name}
        chosen.append(of_folds)
    rows = np.flatnonzero(np.isfinite(predicted).any(axis=1))
    return Fitted(
        plan=plan,
        rows=rows,
        fold=folds.fold[rows],
        cross=CrossFit(predicted[rows], None, chosen),
        seconds=time.perf_counter() - start,
        classes={},
    )


def _weigh_tiles(data: ExperimentData) -> Floats:
    """Return the weight of each tile: (n_tiles,)."""
    if data.settings.models.weights == "tile":
        return np.ones(len(data.tiles))
    area = np.unique(data.tiles.area, return_inverse=True)[1]
    return 1.0 / np.bincount(area)[area]
