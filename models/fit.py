"""Fit every model on every cut and split, score them, and keep the best of each target."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from extract.config.cuts import ALL_CUTS
from extract.errors import FitError
from extract.files.locks import locked
from extract.store.recipes import check_recipes
from extract.tables.tile_table import read_tiles
from models.auditing.audit import check_fatal, gather_inputs, run_audit
from models.data.cut_data import features_path
from models.data.fold_file import open_folds
from models.data.model_names import parse_model
from models.evaluation.score_runs import build_labels, score_runs
from models.execution.engine import read_engine
from models.execution.experiment_data import ExperimentData
from models.execution.fit_progress import FitProgress
from models.execution.forecast import forecast
from models.execution.keep_models import choose_kept, keep_model, list_stale, remove_unkept
from models.families.networks.checkpoints import remove_checkpoints
from models.settings import FitSettings
from models.store.cells import Planned, list_cells, plan_cells, stack_members
from models.store.fitted import Fitted
from models.store.kept_models import list_kept
from models.store.runs import mend_run, move_run, run_folder
from models.store.staleness import count_reasons
from models.store.write_run import write_fitted
from models.uncertainty.coverage import write_coverage


def fit_all(settings: FitSettings, progress: FitProgress | None = None) -> pd.DataFrame:
    """Fit and score every cell that is not done, write `scores.csv`, and keep the best models.

    Returns
    -------
    The scores, one row a cell and level.

    Raises
    ------
    ValueError : settings, table, embeddings or folds that cannot be used; the text says what to do.
    LockError : another process fits in this folder.
    """
    progress = progress or FitProgress()
    folder = settings.folder
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder) as warning:
        if warning:
            progress.note(warning)
        with progress.stage("plan"):
            data, planned = plan_all(settings, progress)
        with progress.stage("audit"):
            _audit(data, progress)
        with progress.stage("fit"):
            for fitted in _fit_missing(data, planned):
                progress.finish(fitted, write_fitted(settings, data.tiles, fitted))
                remove_checkpoints(folder, fitted.plan.keys.values())
        with progress.stage("score"):
            scores = _score(data, planned, progress)
        with progress.stage("keep"):
            _keep_models(data, scores, planned, progress)
        remove_checkpoints(folder)
    return scores


def plan_all(
    settings: FitSettings, progress: FitProgress, *, is_read_only: bool = False
) -> tuple[ExperimentData, list[Planned]]:
    """Return the data of the experiment, and every run with what it lacks.

    Parameters
    ----------
    is_read_only : write nothing, for a plan that is not carried out.

    Raises
    ------
    ValueError : as `fit_all`.
    """
    check_recipes(settings)
    folder = settings.folder
    if not settings.targets.names:
        raise ValueError(
            "[targets] columns: nothing to predict; name at least one column in columns or classes"
        )
    for backbone in settings.extract.backbones:
        features_path(folder, backbone)
    if not is_read_only:
        for cell in list_cells(settings):
            move_run(folder, *cell.names)
            mend_run(run_folder(folder, *cell.names))
    check_estimators(settings)
    tiles = read_tiles(settings)
    options = settings.models.fold_options
    folds, notes = open_folds(folder, tiles, options, is_read_only=is_read_only)
    planned = plan_cells(settings, tiles, folds)
    stale: list[list[str]] = []
    for p in planned:
        stale += p.stale.values()
    if stale:
        notes.append(f"{len(stale)} cells stale: {count_reasons(stale)}")
    for note in notes:
        progress.note(note)
    engine = read_engine(settings.models)
    progress.plan(planned, forecast(planned), engine.workers)
    return ExperimentData(settings, tiles, folds), planned


def check_estimators(settings: FitSettings) -> None:
    """Check that the estimators that [models] names asks for are installed, and take what they get.

    Raises
    ------
    FitError : names the section, what is wrong, and the remedy.
    """
    asked = settings.models
    for model in settings.model_names:
        spec = parse_model(model)
        section = asked.estimators.get(spec.family)
        if section is None:
            continue
        is_weighted = asked.weights == "area" and not spec.area
        try:
            section.check_installed(is_weighted=is_weighted)
        except ValueError as error:
            raise FitError(f"[models.estimators.{spec.family}] {error}") from error


def _audit(data: ExperimentData, progress: FitProgress) -> None:
    """Look for what would make the comparison lie; a fatal finding ends the fit."""
    asked = data.settings.models
    folds = {split: one.fold for split, one in data.folds.items()}
    inputs = gather_inputs(
        data.settings, data.tiles, folds, block_m=asked.block_m, buffer_m=asked.buffer_m
    )
    findings = run_audit(data.settings.folder, inputs, asked.accept)
    check_fatal(findings, asked.accept)
    for finding in findings:
        if finding.severity == "fatal":
            progress.note(f"audit: {finding.code} (accepted): {finding.what}")
        elif finding.severity == "warning":
            progress.note(f"audit: {finding.code}: {finding.what}")


def _fit_missing(data: ExperimentData, planned: list[Planned]) -> Iterator[Fitted]:
    """Fit what is missing; stacks last, since they learn from what the others predicted."""
    asked = data.settings.models
    engine = read_engine(asked)
    cells = [p.cell for p in planned if p.has_numbers]
    members = {str(split): stack_members(cells, split) for split in asked.splits}
    others: list[Planned] = []
    stacks: list[Planned] = []
    for p in planned:
        if not p.missing:
            continue
        kind = stacks if p.cell.cut is ALL_CUTS else others
        kind.append(p)
    for plans in (others, stacks):
        if plans:
            yield from engine.run(data, plans, members)


def _score(data: ExperimentData, planned: list[Planned], progress: FitProgress) -> pd.DataFrame:
    asked = data.settings.models
    labels = build_labels(data.tiles, dict(data.folds), asked.fold_options)
    runs = [p.cell.names for p in planned]
    return score_runs(data.settings.folder, runs, labels, seed=asked.seed, report=progress.progress)


def _keep_models(
    data: ExperimentData, scores: pd.DataFrame, planned: list[Planned], progress: FitProgress
) -> None:
    settings = data.settings
    kept = choose_kept(settings, scores)
    remove_unkept(settings, kept)
    stale = list(list_stale(settings, kept, planned))
    for done, (one, key) in enumerate(stale, 1):
        is_on_disk = keep_model(data, one, key)
        remark = "" if is_on_disk else "; no file can hold it, so it is fitted again when asked for"
        progress.note(f"kept: {one.target}, {one.cell}{remark}")
        progress.progress(done, len(stale))
    facts = []
    for target in settings.targets.names:
        facts += [model.facts for model in list_kept(settings.folder, target)]
    write_coverage(settings.folder, facts)
