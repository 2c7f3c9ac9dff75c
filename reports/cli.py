"""`python -m reports`: the page, from what the other rooms wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from extract.settings import read_settings
from reports.collect import collect
from reports.figures import build_figures, write_figures
from reports.page import render_page
from reports.settings import Settings
from reports.tables import build_leaderboard, write_leaderboard

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Scores in, one page out.",
)


@app.callback()
def _room() -> None:
    """Scores in, one page out."""


@app.command()
def build(
    config: Annotated[Path, typer.Option("--config", "-c", help="The settings file (TOML).")],
    traceback: Annotated[bool, typer.Option("--traceback", help="Show the whole error.")] = False,
) -> None:
    """Write report/index.html, the leaderboard and the figures.

    Example: python -m reports build --config examples/london.toml
    """
    try:
        page = build_report(read_settings(config, Settings))
    except (ValueError, OSError) as error:
        if traceback:
            raise
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    typer.echo(f"report: {page}")


def build_report(settings: Settings) -> Path:
    """Write everything under `<folder>/report/`; give the page's absolute path; it is written last."""
    collected = collect(settings)
    folder = (settings.folder / "report").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    board, figures = build_leaderboard(collected), build_figures(collected)
    write_leaderboard(board, folder)
    write_figures(collected, figures, folder)
    partial = folder / "index.html.partial"
    partial.write_text(render_page(collected, board, figures), encoding="utf-8")
    return partial.replace(folder / "index.html")


def main() -> None:
    """Run the command line."""
    app(prog_name="python -m reports")
