"""The command line of models: `fit`, `scores` and `list`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import pandas as pd
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from extract.console import Config, Traceback, err, guarded, out
from extract.settings import read_settings, suggest
from extract.tiles import read_tiles
from models.cells import plan_cells, tabulate_cells
from models.fit import fit_all, open_folds
from models.runs import join_cut
from models.settings import Settings
from models.standings import build_standings, render_standings


class Level(StrEnum):
    """What a score counts."""

    AREA = "area"
    TILE = "tile"


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


def _show_best(scores: pd.DataFrame, settings: Settings) -> None:
    table = Table("target", "cut", "model", "RMSE", "R²", "95 %", title=f"Best of each target, split {settings.models.strictest}")
    for target in settings.targets.columns:
        best = _ranked(scores[scores["split"] == settings.models.strictest], target).iloc[0]
        table.add_row(target, _cut(best), best["model"], *_numbers(best))
    out.print(table)


@app.command()
def scores(config: Config, target: Annotated[str, typer.Option(help="The target to rank models for.")],
           split: Annotated[str | None, typer.Option(help="Split that ranks: random, area or block; the strictest else.")] = None,
           level: Annotated[Level, typer.Option(help="What is scored: areas, or single tiles.")] = Level.AREA,
           csv: Annotated[bool, typer.Option("--csv", help="Print the table as CSV.")] = False,
           traceback: Traceback = False) -> None:
    """Rank the models of one target, best first: R² by split, intervals, verdicts, and how to read them.

    Whatever is not distinguishable from the best may be as good; whatever is not better than the baselines, which see no
    picture, shows nothing that pictures add.

    Example: python -m models scores --config examples/london.toml --target income
    """
    with guarded(traceback=traceback, interrupted="stopped."):
        settings = read_settings(config, Settings)
        known = settings.targets.columns
        if target not in known:
            raise ValueError(f"target {target!r}: unknown; known: {', '.join(known)}.{suggest(target, known)}")
        table = build_standings(settings.folder, target, split=split, level=level.value)
        if csv:
            typer.echo(table.to_csv(index=False), nl=False)
        else:
            out.print(render_standings(table, settings.folder))


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
