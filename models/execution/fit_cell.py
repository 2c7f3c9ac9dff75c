"""One unit of work: one model on one cut and split, for the targets that it lacks. Nothing is written here."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from extract.config.cuts import ALL_CUTS, CellCut
from extract.errors import FitError
from extract.tables.tile_table import Tiles, read_tiles
from extract.timing.clock import peak_rss_bytes
from models.data.arrays import Floats
from models.data.classes import list_classes, spread_classes
from models.data.design import CutData, Design, build_design, read_cut
from models.data.fold_file import hash_folds, open_folds
from models.data.folds import Folds, unit_numbers
from models.evaluation.out_of_fold import read_predicted
from models.families.family import CrossFit, Family, Where
from models.families.stack import stack_folds
from models.settings import FitSettings
from models.store.cells import Cell, Planned, hash_labels
from models.store.fitted import ClassFit, Fitted
from models.store.network_origin import find_origin

_HELD: dict[str, Inputs] = {}  # of this process, at most one


class Inputs(NamedTuple):
    """What every unit of an experiment reads, once a process."""

    settings: FitSettings
    tiles: Tiles
    folds: dict[str, Folds]


def open_inputs(settings: FitSettings) -> Inputs:
    """Return the tile table and the folds: those held in this process, or read anew where a file has changed since."""
    held = _HELD.get(_stamp(settings))
    if held is None:
        tiles = read_tiles(settings)
        held = hold_inputs(
            Inputs(
                settings,
                tiles,
                open_folds(
                    settings.folder, tiles, settings.models.fold_options, is_read_only=True
                ).folds,
            )
        )
    return held


def hold_inputs(inputs: Inputs) -> Inputs:
    """Hold what every unit reads for the next ones of this process, instead of what was held before."""
    _HELD.clear()
    _HELD[_stamp(inputs.settings)] = inputs
    return inputs


def _stamp(settings: FitSettings) -> str:
    files = (settings.tiles.table, settings.folder / "folds.parquet")
    return settings.model_dump_json() + str(
        [path.stat().st_mtime_ns for path in files if path is not None and path.is_file()]
    )


@lru_cache(maxsize=1)
def _cut(settings_json: str, source: str, cut: CellCut) -> CutData:  # noqa: ARG001
    inputs = open_inputs(FitSettings.model_validate_json(settings_json))
    return read_cut(
        inputs.settings.folder,
        inputs.tiles,
        cut,
        inputs.settings.extract.backbones,
        memory=inputs.settings.models.memory_bytes,
    )


def fit_unit(settings: FitSettings, plan: Planned, members: list[Cell], threads: int) -> Fitted:
    """Predict every tile out of fold for the targets that a run lacks.

    Parameters
    ----------
    members : what a stack combines; read from their runs.
    threads : how many the fit may use.

    Raises
    ------
    FitError : the unit cannot be fitted, or the table, the folds or the features are no longer those of the plan.
    """
    inputs = open_inputs(settings)
    _check_unchanged(inputs, plan)
    try:
        with threadpool_limits(threads):
            fitted = (
                _fit_stack(inputs, plan, members)
                if plan.cell.cut is ALL_CUTS
                else _fit_model(inputs, plan, threads)
            )
        return fitted._replace(peak_rss_bytes=peak_rss_bytes())
    except ValueError as error:
        raise FitError(f"{plan.cell}: {error}") from error


def _check_unchanged(inputs: Inputs, plan: Planned) -> None:
    labels = hash_labels(inputs.tiles)
    is_same = plan.cell.cut is ALL_CUTS or (
        plan.inputs["folds_sha256"]
        == hash_folds(inputs.tiles.id.to_numpy(), inputs.folds[plan.cell.split])
        and all(labels[t] == more["labels_sha256"] for t, more in plan.depends.items())
    )
    if not is_same:
        raise FitError(
            f"{plan.cell}: the tile table or the folds have changed since the run was planned, or this machine sees "
            "others. Run the same command again."
        )


def _fit_model(inputs: Inputs, plan: Planned, threads: int) -> Fitted:
    design = open_design(inputs, plan.cell, plan.inputs)
    start = time.perf_counter()
    row = design.row_of_tile
    tiles = inputs.tiles
    asked = inputs.settings.models
    if len(design.folds.folds) < asked.folds:
        raise FitError(
            f"expected usable tiles in {asked.folds} folds, got them in {len(design.folds.folds)}: every tile of a "
            "fold was rejected (features/rejects.csv). Mend those pictures, or lower folds in [models]."
        )
    columns = [i for i, t in enumerate(tiles.targets) if t in plan.missing]
    _check_labels(
        design,
        {str(tiles.targets.columns[i]): ~np.isnan(design.Y[:, i]) for i in columns},
        is_nested=plan.is_nested,
    )
    _check_labels(
        design,
        {t: design.codes[t] >= 0 for t in plan.missing if t in tiles.classes},
        is_nested=False,
    )
    cross = CrossFit(np.zeros((len(row), 0)), None, [])
    if columns:
        model = told_threads(asked.build(plan.cell.spec), threads)
        model.where = _where(
            inputs, plan, tuple(t for t in map(str, tiles.targets) if t in plan.missing)
        )
        cross = model.cross_fit(
            design.X,
            design.Y[:, columns],
            folds=design.folds,
            weight=design.weight,
            nested=plan.is_nested,
        )
        cross = cross._replace(
            predicted=cross.predicted[row],
            nested=None if cross.nested is None else cross.nested[row],
        )
    model = told_threads(asked.build(plan.cell.spec, "class"), threads)
    classes = {}
    for target in (t for t in plan.missing if t in tiles.classes):
        model.where = _where(inputs, plan, (target,))
        classes[target] = _fit_classes(model, design, target, list_classes(tiles.classes[target]))
    return Fitted(
        plan, design.tiles, design.folds.fold[row], cross, time.perf_counter() - start, classes
    )


def _check_labels(
    design: Design, is_labelled: dict[str, NDArray[np.bool_]], *, is_nested: bool
) -> None:
    """Refuse a target of which some fold would leave no label to learn from: is_labelled has (n_rows,) of each."""
    folds = design.folds
    for held in [(f,) for f in folds.folds] + [
        (f, folds.before(f)) for f in folds.folds if is_nested
    ]:
        rows = folds.training(folds.parts_of(*held))
        lost = [target for target, known in is_labelled.items() if not known[rows].any()]
        if lost:
            raise FitError(
                f"target {lost[0]!r}: without fold{'s' * (len(held) > 1)} {' and '.join(map(str, sorted(held)))} no "
                "label is left to learn from. Fill in labels, take it out of [targets], or lower folds or buffer_m"
                f" in [models]{', or take stack out of names' * is_nested}."
            )


def _where(inputs: Inputs, plan: Planned, targets: tuple[str, ...]) -> Where:
    return Where(
        cell=str(plan.cell),
        targets=targets,
        folder=inputs.settings.folder,
        keys=tuple(plan.keys[t] for t in targets),
    )


def _fit_classes(model: Family, design: Design, target: str, names: list[str]) -> ClassFit:
    start = time.perf_counter()
    Y = spread_classes(design.codes[target], len(names))
    cross = model.cross_fit(design.X, Y, folds=design.folds, weight=design.weight)
    return ClassFit(
        names,
        cross.predicted[design.row_of_tile],
        cross.chosen[0],
        time.perf_counter() - start,
        cross.curves[0] if cross.curves else {},
    )


def open_design(inputs: Inputs, cell: Cell, source: dict[str, Any]) -> Design:
    """Read a cut, or take the one read last, and make what a model is fed.

    Parameters
    ----------
    source : the run's inputs, among them the hash of the features that were planned for.
    """
    settings = inputs.settings
    data = _cut(
        settings.model_dump_json(),
        str(source.get("features_sha256", source["usable_sha256"])),
        cell.cut,
    )
    found = data.source
    changed = [name for name, value in found.items() if source.get(name, value) != value]
    if changed:
        raise FitError(
            f"the features have changed since the run was planned ({', '.join(changed)}). "
            "Run the same command again."
        )
    design = build_design(
        data,
        inputs.tiles,
        cell.spec,
        folds=inputs.folds[cell.split],
        region=settings.models.region,
        weights=settings.models.weights,
    )
    return replace(design, X=design.X.from_network(find_origin(settings, cell.spec, cell.cut)))


def told_threads(model: Family, threads: int) -> Family:
    """Return the model, told how many threads it may use."""
    if "tensorflow" not in sys.modules:  # read once, when it is loaded
        os.environ["TF_NUM_INTRAOP_THREADS"] = os.environ["TF_NUM_INTEROP_THREADS"] = str(threads)
    told: Family = model.set_params(
        **{name: threads for name in model.get_params() if name.endswith("n_jobs")}
    )
    return told


def _fit_stack(inputs: Inputs, plan: Planned, members: list[Cell]) -> Fitted:
    start = time.perf_counter()
    settings = inputs.settings
    tiles = inputs.tiles
    folds = inputs.folds[plan.cell.split]
    names = [str(m) for m in members]
    outer, inner = (
        read_predicted(
            settings.folder,
            [m.names for m in members],
            tiles.id.to_numpy(),
            plan.missing,
            is_nested=is_nested,
        )
        for is_nested in (False, True)
    )
    unit = unit_numbers(plan.cell.split, tiles.area.to_numpy(), tiles.xy, settings.models.block_m)
    predicted = np.full((len(tiles), len(plan.missing)), np.nan)
    chosen = []
    for i, target in enumerate(plan.missing):
        predicted[:, i], learned = stack_folds(
            tiles.targets[target].to_numpy(np.float64),
            outer[i].astype(np.float64),
            inner[i].astype(np.float64),
            folds=folds,
            unit=unit,
            weight=_tile_weights(inputs),
        )
        chosen.append(
            {
                f: {
                    "penalty": w.penalty,
                    "weights": dict(zip(names, w.weights.round(6).tolist(), strict=True)),
                }
                for f, w in learned.items()
            }
        )
    rows = np.flatnonzero(np.isfinite(predicted).any(axis=1))
    return Fitted(
        plan,
        rows,
        folds.fold[rows],
        CrossFit(predicted[rows], None, chosen),
        time.perf_counter() - start,
        {},
    )


def _tile_weights(inputs: Inputs) -> Floats:
    if inputs.settings.models.weights == "tile":
        return np.ones(len(inputs.tiles))
    _, area, n = np.unique(inputs.tiles.area, return_inverse=True, return_counts=True)
    return 1.0 / n[area]
