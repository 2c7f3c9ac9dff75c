"""`python -m reports`: the page, from what the other rooms wrote."""

from __future__ import annotations

from pathlib import Path

import typer

from extract.console import Config, Traceback, guarded, out
from extract.settings import read_settings
from extract.tiles import read_tiles
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


@app.command()
def check(config: Config, traceback: Traceback = False) -> None:
    """Check the whole settings file and the tile table, before anybody pays for hours of a GPU.

    Example: python -m reports check --config examples/london.toml
    """
    with guarded(traceback=traceback, interrupted="stopped."):
        settings = read_settings(config, Settings)
        n_tiles, asked = len(read_tiles(settings)), settings.models
        out.print(f"settings: fine. {n_tiles} tiles, {len(settings.targets.columns)} targets, {len(settings.extract.cuts)} cuts, "
                  f"models {', '.join(settings.model_names)}, splits {', '.join(asked.splits)}", soft_wrap=True, highlight=False)


@app.command()
def build(config: Config, traceback: Traceback = False) -> None:
    """Write report/index.html, the leaderboard and the figures.

    Example: python -m reports build --config examples/london.toml
    """
    with guarded(traceback=traceback, interrupted="stopped; run it again to make the page."):
        page = build_report(read_settings(config, Settings))
        out.print(f"report: {page}", soft_wrap=True, highlight=False, markup=False)


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
