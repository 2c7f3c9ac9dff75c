"""The command line of models: `fit`, `audit`, `scores` and `list`."""

from __future__ import annotations

from typing import Annotated

import pandas as pd
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from extract.console import Config, Traceback, err, guarded, out
from extract.settings import read_settings, suggest
from extract.tiles import read_tiles
from models.audit import check_fatal, gather_inputs, list_skipped, run_audit
from models.cells import plan_cells, tabulate_cells
from models.findings import Finding
from models.fit import fit_all, open_folds
from models.runs import join_cut, read_scores
from models.settings import Settings

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.command()
def fit(config: Config, traceback: Traceback = False) -> None:
    """Fit and score every model on every cut, and keep the best.

    Example: python -m models fit --config examples/london.toml
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with guarded(traceback=traceback, interrupted="stopped. Every finished run is kept; the same command goes on with the rest."):
        settings = read_settings(config, Settings)
        with Progress(*columns, console=err) as progress:
            task = progress.add_task("reading", total=None)
            scores = fit_all(settings, report=lambda what, done, of: progress.update(
                task, description=what, completed=done, total=of))
        _show_best(scores, settings)
        out.print(f"{settings.folder / 'scores.csv'}", soft_wrap=True, markup=False, highlight=False)


@app.command()
def audit(config: Config, traceback: Traceback = False) -> None:
    """Look for what would make the comparison lie: copies, overlaps, mixed codes, labels that do not belong.

    Works before there are features, and then says what it could not look for. Exit code 1 where a finding is fatal and
    `[models] accept` does not name it.

    Example: python -m models audit --config examples/london.toml
    """
    with guarded(traceback=traceback, interrupted="stopped."):
        settings = read_settings(config, Settings)
        tiles = read_tiles(settings)
        folds = {split: folds.fold for split, folds in open_folds(settings, tiles).items()}
        inputs = gather_inputs(settings, tiles, folds, buffer_m=settings.models.buffer_m)
        findings = run_audit(settings.folder, inputs, settings.models.accept)
        _show_findings(findings, settings.models.accept)
        for reason, codes in list_skipped(inputs).items():
            out.print(f"not looked for ({reason}): {', '.join(codes)}", markup=False, highlight=False, style="dim",
                      soft_wrap=True)
        if not findings:
            out.print(f"{len(inputs):,} tiles in {len(inputs.areas):,} areas: nothing found.", markup=False, highlight=False)
        check_fatal(findings, settings.models.accept)


def _show_findings(findings: list[Finding], accept: list[str]) -> None:
    styles = {"fatal": "bold red", "warning": "yellow", "note": "cyan"}
    for finding in findings:
        is_accepted = finding.severity == "fatal" and finding.code in accept
        out.print(f"{finding.severity}{' (accepted)' if is_accepted else ''}: {finding.code}", style=styles[finding.severity],
                  markup=False, highlight=False)
        for line in (finding.what, f"e.g. {'; '.join(finding.examples)}" if finding.examples else "", f"→ {finding.remedy}"):
            if line:
                out.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)


def _show_best(scores: pd.DataFrame, settings: Settings) -> None:
    table = Table("target", "cut", "model", "RMSE", "R²", "95 %", title=f"Best of each target, split {settings.models.strictest}")
    for target in settings.targets.columns:
        best = _ranked(scores[scores["split"] == settings.models.strictest], target).iloc[0]
        table.add_row(target, _cut(best), best["model"], *_numbers(best))
    out.print(table)


@app.command()
def scores(config: Config, target: Annotated[str, typer.Option(help="The target to rank models for.")],
           traceback: Traceback = False) -> None:
    """Rank the models of one target, best first, by split.

    Example: python -m models scores --config examples/london.toml --target income
    """
    with guarded(traceback=traceback, interrupted="stopped."):
        settings = read_settings(config, Settings)
        known = settings.targets.columns
        if target not in known:
            raise ValueError(f"target {target!r}: unknown; known: {', '.join(known)}.{suggest(target, known)}")
        table = Table("split", "cut", "model", "RMSE", "R²", "95 %", title=target)
        for split, part in read_scores(settings.folder).groupby("split"):
            for _, row in _ranked(part, target).iterrows():
                table.add_row(str(split), _cut(row), row["model"], *_numbers(row))
        out.print(table)


@app.command("list")
def list_(config: Config, traceback: Traceback = False) -> None:
    """List the runs that the settings ask for: how many of their targets are done, stale and missing.

    Example: python -m models list --config examples/london.toml
    """
    with guarded(traceback=traceback, interrupted="stopped."):
        settings = read_settings(config, Settings)
        tiles = read_tiles(settings)
        frame = tabulate_cells(plan_cells(settings, tiles, open_folds(settings, tiles)))
        table = Table(*frame.columns)
        for row in frame.astype(str).to_numpy().tolist():
            table.add_row(*row)
        out.print(table)


def _ranked(scores: pd.DataFrame, target: str) -> pd.DataFrame:
    part = scores[(scores["target"] == target) & (scores["level"] == "area")]
    return part.sort_values("rmse", kind="stable")


def _cut(row: pd.Series) -> str:
    return join_cut(row["backbone"], row["layer"], row["pooling"])


def _numbers(row: pd.Series) -> list[str]:
    return [f"{row['rmse']:.4g}", f"{row['r2']:.3f}", f"{row['r2_low']:.3f} … {row['r2_high']:.3f}"]


def main() -> None:
    """Run the command line."""
    app()
