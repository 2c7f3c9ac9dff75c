"""The commands of `python -m reports`."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
from rich import box
from rich.table import Table
from rich.text import Text

from extract.console import Config, Traceback, err, guarded, out
from extract.errors import PdfError
from extract.settings import read_settings
from extract.tables.tile_table import read_tiles
from models.store.runs import write_csv
from reports.build import build_report, print_report
from reports.data.boundaries import open_boundaries
from reports.data.formats import format_value
from reports.diff import compare_experiments
from reports.serve import open_server
from reports.settings import ReportSettings

Experiment = Annotated[Path, typer.Argument(help="Settings file, or folder of artifacts.")]
Csv = Annotated[Path | None, typer.Option("--csv", help="Write the table there as well.")]
Port = Annotated[int, typer.Option("--port", min=0, max=65535, help="Port; 0 for any free one.")]
Browser = Annotated[bool, typer.Option("--browser/--no-browser", help="Open a browser.")]

app = typer.Typer(
    rich_markup_mode="markdown",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Scores in, one page out.",
)


@app.command()
def check(config: Config, traceback: Traceback = False) -> None:
    """Check the whole settings file and the tile table before the extraction.

    Example: python -m reports check --config examples/london.toml
    """
    with guarded(traceback=traceback, interrupted="stopped."):
        settings = read_settings(config, ReportSettings)
        tiles = read_tiles(settings)
        asked = settings.models
        open_boundaries(settings, tiles)
        n_targets = len(settings.targets.names)
        n_cuts = len(settings.extract.cuts)
        out.print(
            f"settings: fine. {len(tiles)} tiles, {n_targets} targets, {n_cuts} cuts, "
            f"models {', '.join(settings.model_names)}, splits {', '.join(asked.splits)}",
            soft_wrap=True,
            highlight=False,
        )


@app.command()
def build(config: Config, traceback: Traceback = False) -> None:
    """Write report/: index.html, leaderboard, figures, report.json; report.pdf with a Chromium.

    Example: python -m reports build --config examples/london.toml
    """
    with guarded(traceback=traceback, interrupted="stopped; run it again to make the page."):
        page = build_report(read_settings(config, ReportSettings))
        try:
            out.print(print_report(page), soft_wrap=True, highlight=False, markup=False)
        except PdfError as error:
            err.print(str(error), soft_wrap=True, highlight=False, markup=False)
        out.print(f"report: {page}", soft_wrap=True, highlight=False, markup=False)


@app.command()
def diff(
    first: Experiment, second: Experiment, csv: Csv = None, traceback: Traceback = False
) -> None:
    """Compare two experiments on the same tiles and folds: what got better, in the same resamples.

    Example: python -m reports diff examples/london.toml artifacts/other
    """
    with guarded(traceback=traceback, interrupted="stopped."):
        rows = compare_experiments(first, second)
        if csv is not None:
            write_csv(csv, rows)
        out.print(render_diff(rows))


@app.command()
def serve(
    config: Config, port: Port = 8000, browser: Browser = True, traceback: Traceback = False
) -> None:
    """Show the report in a browser, from this machine alone; Ctrl-C ends it.

    Example: python -m reports serve --config examples/london.toml
    """
    with (
        guarded(traceback=traceback, interrupted="stopped."),
        open_server(
            (read_settings(config, ReportSettings).folder / "report").resolve(), port
        ) as server,
    ):
        address = f"http://127.0.0.1:{server.server_port}/"
        out.print(f"serving {address}; Ctrl-C ends it", soft_wrap=True, highlight=False)
        if browser:
            webbrowser.open(address)
        server.serve_forever()


def render_diff(rows: pd.DataFrame) -> Table:
    """Return a table of the best cells, and of the cells that differ by more than chance."""
    is_shown = (rows["what"] == "best of each") | rows["verdict"].isin(["better", "worse"])
    n_alike = int((~is_shown).sum())
    caption = f"{n_alike} cells of both do not differ by more than chance" if n_alike else None
    title = "R² of areas (of classes: balanced accuracy): the second less the first"
    drawn = Table(
        title=title,
        box=box.SIMPLE_HEAD,
        title_justify="left",
        caption=caption,
        caption_justify="left",
    )
    for name in ("target", "cell"):
        drawn.add_column(name, overflow="fold")
    for name in ("first", "second", "gain", "95 %"):
        drawn.add_column(name, justify="right", no_wrap=True)
    drawn.add_column("verdict")
    for row in rows[is_shown].to_dict("records"):
        cell = " → ".join(dict.fromkeys((row["first"], row["second"])))
        numbers = [
            format_value(float(row[name])) for name in ("value_first", "value_second", "difference")
        ]
        ends = f"{format_value(float(row['low']))} … {format_value(float(row['high']))}"
        drawn.add_row(
            Text(str(row["target"])),
            Text(cell),
            *numbers,
            ends,
            str(row["verdict"]),
            style="bold" if row["what"] == "best of each" else "",
        )
    return drawn


def main() -> None:
    """Run the command line."""
    app(prog_name="python -m reports")
