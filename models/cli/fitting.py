"""The commands that fit models and say what was fitted: `fit`, `audit` and `list`."""

from __future__ import annotations

from typing import Annotated

import typer

from extract.console import Config, Traceback, err, guarded, print_line, print_next

# Each command imports what it runs: all together take over a second to load.


def fit(
    config: Config,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be fitted, and fit nothing.")
    ] = False,
    traceback: Traceback = False,
) -> None:
    """Fit and score every model on every cut, and keep the best.

    A second call does only what is missing or stale.

    Example: roofline models --config examples/london.toml
    """
    from extract.settings import read_settings
    from models import cli_output
    from models.execution.fit_progress import FitDisplay, FitProgress
    from models.fit import fit_all, plan_all
    from models.settings import FitSettings

    kept = "stopped. Every finished run is kept; the same command goes on with the rest."
    with guarded(traceback=traceback, interrupted=kept):
        settings = read_settings(config, FitSettings)
        if dry_run:
            progress = FitProgress()
            _, planned = plan_all(settings, progress, is_read_only=True)
            cli_output.print_plan(planned, progress)
            print_next(f"roofline models --config {config}")
            return
        with FitDisplay(err, settings.models.farthest) as display:
            scores = fit_all(settings, display)
        cli_output.print_best(scores, settings)
        seconds = [f"{stage} {seconds:.1f} s" for stage, seconds in display.seconds.items()]
        print_line(", ".join(seconds), console=err)
        print_line(str(settings.folder / "scores.csv"))
        print_next(f"roofline report --config {config}")


def audit(config: Config, traceback: Traceback = False) -> None:
    """Look for copies, overlaps, mixed codes and labels that would make the comparison lie.

    Works before there are features, and then says what it could not look for. Exit code 1 where a
    finding is fatal and `[models] accept` does not name it.

    Example: roofline audit --config examples/london.toml
    """
    from extract.settings import read_settings
    from extract.tables.tile_table import read_tiles
    from models import cli_output
    from models.auditing.audit import check_fatal, gather_inputs, list_skipped, run_audit
    from models.data.fold_file import open_folds
    from models.settings import FitSettings

    with guarded(traceback=traceback, interrupted="stopped."):
        settings = read_settings(config, FitSettings)
        asked = settings.models
        tiles = read_tiles(settings)
        opened = open_folds(settings.folder, tiles, asked.fold_options)
        folds = {split: folds.fold for split, folds in opened.folds.items()}
        inputs = gather_inputs(
            settings, tiles, folds, block_m=asked.block_m, buffer_m=asked.buffer_m
        )
        findings = run_audit(settings.folder, inputs, asked.accept)
        cli_output.print_findings(findings, asked.accept)
        for reason, codes in list_skipped(inputs).items():
            print_line(f"not looked for ({reason}): {', '.join(codes)}", style="dim")
        if not findings:
            n_areas = len(inputs.areas)
            print_line(f"{len(inputs):,} tiles in {n_areas:,} areas: nothing found.")
        check_fatal(findings, asked.accept)
        print_next(f"roofline models --config {config}")


def list_(config: Config, traceback: Traceback = False) -> None:
    """List how many targets of each run are done, stale (and why) and missing, and the seconds.

    In a pipe the columns have tabs between them.

    Example: roofline list --config examples/london.toml
    """
    from extract.settings import read_settings
    from models import cli_output
    from models.execution.fit_progress import FitProgress
    from models.fit import plan_all
    from models.settings import FitSettings

    with guarded(traceback=traceback, interrupted="stopped."):
        settings = read_settings(config, FitSettings)
        progress = FitProgress()
        _, planned = plan_all(settings, progress, is_read_only=True)
        for note in progress.notes:
            print_line(note, console=err)
        cli_output.print_grid(planned)
        is_done = not any(one.missing for one in planned)
        print_next(f"roofline {'report' if is_done else 'models'} --config {config}")
