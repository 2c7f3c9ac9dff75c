"""The command `scores`, which ranks the models of a target."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from extract.console import Config, Traceback, guarded, out


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

    Example: python -m models scores --config examples/london.toml --target income
    """
    from extract.settings import read_settings
    from models.cli.targets import list_targets
    from models.evaluation.current import open_current
    from models.evaluation.standings import build_standings, render_standings
    from models.settings import FitSettings

    with guarded(traceback=traceback, interrupted="stopped."):
        settings = read_settings(config, FitSettings)
        list_targets(settings, target)
        with open_current(settings):
            table = build_standings(settings.folder, target, split=split, level=level.value)
            drawn = render_standings(table, settings.folder)
        if csv:
            typer.echo(table.to_csv(index=False), nl=False)
        else:
            out.print(drawn, width=max(out.width, 80), crop=False)
