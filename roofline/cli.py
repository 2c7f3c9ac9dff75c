"""The command `roofline`: the commands of extract, models and reports under one name."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from typing import Annotated

import typer

import extract.cli
import models.cli
import reports.cli
from extract.console import Config, Traceback, make_app, run_app

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
    for stage in ("check", "features", "models", "explain", "report"):
        command = [sys.executable, "-m", "roofline", stage, "--config", str(config)]
        if stage == "features" and allow_random_weights:
            command.append("--allow-random-weights")
        if traceback:
            command.append("--traceback")
        try:
            code = subprocess.run(command, check=False).returncode
        except KeyboardInterrupt:  # the stage got it too, and has said what is kept
            code = 130
        if code:
            raise typer.Exit(code)


app.command("all", rich_help_panel=_STAGES)(all_)
app.command("features", rich_help_panel=_STAGES)(extract.cli.run)
app.command("models", rich_help_panel=_STAGES)(models.cli.fit)
app.command("explain", rich_help_panel=_STAGES)(models.cli.explain_)
app.command("report", rich_help_panel=_STAGES)(reports.cli.build)

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
