"""The command `roofline`: the commands of extract, models and reports under one name."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

import extract.cli
import models.cli
import reports.cli
from extract.console import (
    STAGE,
    UNCHANGED,
    Config,
    Traceback,
    err,
    guarded,
    make_app,
    print_line,
    print_next,
    print_note,
    run_app,
)

_ALL = ("check", "features", "models", "explain", "report")
_STAGES = "The way from tiles to a report"
_BEFORE = "Before you start"
_AFTER = "Afterwards"

app = make_app(
    "Image tiles of places in; embeddings, an honest comparison of models, and one page out.",
    add_completion=True,
)


def _print_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(version("roofline"))
        raise typer.Exit


@app.callback()
def roofline(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Take the options that stand before a command."""


def all_(
    config: Config,
    allow_random_weights: Annotated[bool, typer.Option(help="As for `features`.")] = False,
    traceback: Traceback = False,
) -> None:
    """Run check, features, models, explain and report one after the other.

    Each has a process of its own, so that no memory of one is held while the next runs. A second
    call does only what is missing.

    Example: roofline all --config examples/london.toml
    """
    environment = {**os.environ, STAGE: "1"}
    for number, stage in enumerate(_ALL, 1):
        print_line(f"{number}/{len(_ALL)} roofline {stage}", console=err, style="bold")
        command = [sys.executable, "-m", "roofline", stage, "--config", str(config)]
        if stage == "features" and allow_random_weights:
            command.append("--allow-random-weights")
        if traceback:
            command.append("--traceback")
        try:
            code = subprocess.run(command, check=False, env=environment).returncode
        except KeyboardInterrupt:  # the stage got it too, and has said what is kept
            code = 130
        if code:
            raise typer.Exit(code)
    print_next(f"roofline serve --config {config}")


def init(
    tiles: Annotated[Path, typer.Option(help="Folder of pictures, or a .tar or .zip of them.")],
    table: Annotated[Path, typer.Option(help="CSV or Parquet table, one row a tile.")],
    out: Annotated[Path, typer.Option(help="Settings file to write.")] = Path("town.toml"),
    traceback: Traceback = False,
) -> None:
    """Look at pictures and a table, and write a settings file with what they seem to mean.

    Example: roofline init --tiles tiles --table tiles.csv
    """
    with guarded(traceback=traceback, interrupted=UNCHANGED):
        from roofline.init_settings import write_settings

        guess = write_settings(out, tiles=tiles, table=table)
        print_line(f"pictures: {guess.path}, {guess.n_found} of {guess.n_rows} rows have one")
        print_line(f"id: {guess.id}; area: {guess.area}")
        print_line(f"coordinates: {', '.join(guess.places) or 'none'}")
        print_line(f"targets: {', '.join(guess.targets) or 'none: name them in [targets]'}")
        print_line(f"groups: {', '.join(guess.groups) or 'none'}")
        for note in guess.notes:
            print_note(note)
        print_line(f"settings: {out}")
        print_next(f"look at {out}, then roofline check --config {out}")


app.command("all", rich_help_panel=_STAGES)(all_)
app.command("features", rich_help_panel=_STAGES)(extract.cli.run)
app.command("models", rich_help_panel=_STAGES)(models.cli.fit)
app.command("explain", rich_help_panel=_STAGES)(models.cli.explain_)
app.command("report", rich_help_panel=_STAGES)(reports.cli.build)

app.command("init", rich_help_panel=_BEFORE)(init)
app.command("sample", rich_help_panel=_BEFORE)(extract.cli.sample)
app.command("tiles", rich_help_panel=_BEFORE)(extract.cli.tiles)
app.command("import", rich_help_panel=_BEFORE)(extract.cli.import_)
app.command("raster", rich_help_panel=_BEFORE)(extract.cli.raster)
app.command("layers", rich_help_panel=_BEFORE)(extract.cli.layers)
app.command("check", rich_help_panel=_BEFORE)(reports.cli.check)
app.command("doctor", rich_help_panel=_BEFORE)(extract.cli.doctor)
app.command("plan", rich_help_panel=_BEFORE)(extract.cli.plan)
app.command("audit", rich_help_panel=_BEFORE)(models.cli.audit)

app.command("scores", rich_help_panel=_AFTER)(models.cli.scores)
app.command("list", rich_help_panel=_AFTER)(models.cli.list_)
app.command("predict", rich_help_panel=_AFTER)(models.cli.predict)
app.command("diff", rich_help_panel=_AFTER)(reports.cli.diff)
app.command("serve", rich_help_panel=_AFTER)(reports.cli.serve)
app.command("verify", rich_help_panel=_AFTER)(extract.cli.verify)


def main() -> None:
    """Run the command line."""
    run_app(app, "roofline")
