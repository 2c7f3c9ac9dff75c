"""The loop: every model on every cut and split, out of fold; then the scores, and the best of each target on all tiles."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from extract.config.cuts import ALL_CUTS
from extract.files.locks import locked
from extract.tables.tile_table import Tiles, read_tiles
from models.auditing.audit import check_fatal, gather_inputs, run_audit
from models.data.design import features_path
from models.data.fold_file import open_folds
from models.evaluation.score_runs import build_labels, score_runs
from models.execution.engine import read_engine
from models.execution.fit_cell import Inputs, hold_inputs, open_inputs
from models.execution.forecast import forecast
from models.execution.keep_models import choose_kept, keep_model, list_stale, remove_unkept
from models.execution.progress import Watch
from models.families.networks.checkpoints import remove_checkpoints
from models.settings import FitSettings
from models.store.cells import Planned, list_cells, plan_cells, stack_members
from models.store.fitted import Fitted
from models.store.kept_models import list_kept
from models.store.runs import mend_run, run_folder
from models.store.staleness import count_reasons
from models.store.write_run import write_fitted
from models.uncertainty.coverage import write_coverage


def fit_all(settings: FitSettings, watch: Watch | None = None) -> pd.DataFrame:
    """Fit and score every cell that is not done, write `scores.csv`, and keep the best models.

    Returns
    -------
    The scores, one row a cell and level.

    Raises
    ------
    ValueError : settings, table, embeddings or folds that cannot be used; the text says what to do.
    LockError : another process fits in this folder.
    """
    watch = watch or Watch()
    folder = settings.folder
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder) as warning:
        if warning:
            watch.note(warning)
        with watch.stage("plan"):
            tiles, planned = plan_all(settings, watch)
        with watch.stage("audit"):
            _audit(settings, tiles, watch)
        with watch.stage("fit"):
            for fitted in _fit_missing(settings, planned):
                watch.finish(fitted, write_fitted(settings, tiles, fitted))
                remove_checkpoints(folder, fitted.plan.keys.values())
        with watch.stage("score"):
            labels = build_labels(
                tiles, open_inputs(settings).folds, block_m=settings.models.block_m
            )
            scores = score_runs(
                folder,
                [p.cell.names for p in planned],
                labels,
                seed=settings.models.seed,
                report=watch.progress,
            )
        with watch.stage("keep"):
            _keep_models(settings, scores, planned, watch)
        remove_checkpoints(folder)
    return scores


def plan_all(
    settings: FitSettings, watch: Watch, *, is_read_only: bool = False
) -> tuple[Tiles, list[Planned]]:
    """Return the tile table, and every run with what it lacks; tell why. Read-only for a plan that is not carried out.

    Raises
    ------
    ValueError : as `fit_all`.
    """
    if not settings.targets.names:
        raise ValueError(
            "[targets] columns: nothing to predict; name at least one column in columns or classes"
        )
    for backbone in settings.extract.backbones:
        features_path(settings.folder, backbone)
    if not is_read_only:
        for cell in list_cells(settings):
            mend_run(run_folder(settings.folder, *cell))
    tiles = read_tiles(settings)
    folds = open_folds(
        settings.folder, tiles, settings.models.fold_options, is_read_only=is_read_only
    )
    hold_inputs(Inputs(settings, tiles, folds.folds))
    planned = plan_cells(settings, tiles, folds.folds)
    stale = [reasons for p in planned for reasons in p.stale.values()]
    for note in [
        *folds.notes,
        *([f"{len(stale)} cells stale: {count_reasons(stale)}"] if stale else []),
    ]:
        watch.note(note)
    engine = read_engine(settings.models)
    watch.plan(planned, forecast(settings, tiles, planned, threads=engine.threads), engine.workers)
    return tiles, planned


def _audit(settings: FitSettings, tiles: Tiles, watch: Watch) -> None:
    """Look for what would make the comparison lie; a fatal finding that is not accepted ends the fit."""
    folds = {split: one.fold for split, one in open_inputs(settings).folds.items()}
    asked = settings.models
    findings = run_audit(
        settings.folder,
        gather_inputs(settings, tiles, folds, buffer_m=asked.buffer_m),
        asked.accept,
    )
    check_fatal(findings, asked.accept)
    for finding in findings:
        if finding.severity != "note":
            watch.note(
                f"audit: {finding.code}{' (accepted)' * (finding.severity == 'fatal')}: {finding.what}"
            )


def _fit_missing(settings: FitSettings, planned: list[Planned]) -> Iterator[Fitted]:
    """Fit what is missing, in two waves: a stack learns from what the others predicted, and is written after them."""
    engine = read_engine(settings.models)
    members = {
        str(split): stack_members([p.cell for p in planned], split)
        for split in settings.models.splits
    }
    todo = [p for p in planned if p.missing]
    for wave in (
        [p for p in todo if p.cell.cut is not ALL_CUTS],
        [p for p in todo if p.cell.cut is ALL_CUTS],
    ):
        yield from engine.run(settings, wave, members) if wave else ()


def _keep_models(
    settings: FitSettings, scores: pd.DataFrame, planned: list[Planned], watch: Watch
) -> None:
    kept = choose_kept(settings, scores)
    remove_unkept(settings, kept)
    stale = list(list_stale(settings, kept, planned))
    for done, (one, key) in enumerate(stale, 1):
        keep_model(open_inputs(settings), one, key)
        watch.note(f"kept: {one.target}, {one.cell}")
        watch.progress(done, len(stale))
    write_coverage(
        settings.folder,
        [
            kept_model.facts
            for target in settings.targets.names
            for kept_model in list_kept(settings.folder, target)
        ],
    )
