"""`python -m reports`: the page, from what the other rooms wrote."""

from __future__ import annotations

import typer

from extract.console import Config, Traceback, err, guarded, out
from extract.settings import read_settings
from extract.tiles import read_tiles
from reports.build import build_report, print_report
from reports.pdf import PdfError
from reports.settings import Settings

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
    """Write report/index.html and what stands beside it: leaderboard, figures, report.json, and report.pdf with a Chromium.

    Example: python -m reports build --config examples/london.toml
    """
    with guarded(traceback=traceback, interrupted="stopped; run it again to make the page."):
        page = build_report(read_settings(config, Settings))
        try:
            out.print(print_report(page), soft_wrap=True, highlight=False, markup=False)
        except PdfError as error:
            err.print(str(error), soft_wrap=True, highlight=False, markup=False)
        out.print(f"report: {page}", soft_wrap=True, highlight=False, markup=False)


def main() -> None:
    """Run the command line."""
    app(prog_name="python -m reports")
