"""The command `scores`, which ranks the models of a target."""

from __future__ import annotations

import shlex
from enum import StrEnum
from typing import Annotated

import typer

from extract.console import Config, Traceback, err, guarded, out, print_line, print_next

_NARROWEST = 80  # columns that the numbers of the table need


class Level(StrEnum):
    """What a score counts."""

    AREA = "area"
    TILE = "tile"


def scores(
    config: Config,
    target: Annotated[str, typer.Option(help="The target to rank models for.")],
    split: Annotated[
        str | None,
        typer.Option(help="Split that ranks, as area; else the one held out farthest."),
    ] = None,
    level: Annotated[
        Level, typer.Option(help="What is scored: areas, or single tiles.")
    ] = Level.AREA,
    csv: Annotated[bool, typer.Option("--csv", help="Print the table as CSV.")] = False,
    traceback: Traceback = False,
) -> None:
    """Rank the models of one target: R² by split, intervals, verdicts, and how to read them.

    Whatever is not distinguishable from the best may be as good; whatever is not better than the
    baselines, which see no picture, shows nothing that pictures add.

    In a pipe the columns have tabs between them; how to read them stands on standard error.

    Example: roofline scores --config examples/london.toml --target income
    """
    from rich.text import Text

    from extract.settings import read_settings
    from models.cli.targets import list_targets
    from models.evaluation.current import open_current
    from models.evaluation.render_standings import explain_standings, render_standings
    from models.evaluation.standings import build_standings
    from models.settings import FitSettings

    with guarded(traceback=traceback, interrupted="stopped."):
        settings = read_settings(config, FitSettings)
        list_targets(settings, target)
        with open_current(settings):
            table = build_standings(settings.folder, target, split=split, level=level.value)
            reading = explain_standings(table, settings.folder)
        if csv:
            typer.echo(table.to_csv(index=False), nl=False)
            return
        if out.is_terminal:
            drawn = [render_standings(table), *map(Text, reading)]
            out.print(*drawn, sep="\n", width=max(out.width, _NARROWEST), crop=False)
        else:
            typer.echo(table.to_csv(index=False, sep="\t"), nl=False)
            for line in reading:
                print_line(line, console=err)
        print_next(f"roofline explain --config {config} --target {shlex.quote(target)}")
