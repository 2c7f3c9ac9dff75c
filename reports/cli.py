"""The commands of `python -m reports`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from extract.console import (
    Config,
    Traceback,
    err,
    guarded,
    make_app,
    out,
    print_next,
    print_note,
    run_app,
)

Experiment = Annotated[Path, typer.Argument(help="Settings file, or folder of artifacts.")]
Csv = Annotated[Path | None, typer.Option("--csv", help="Write the table there as well.")]
Port = Annotated[int, typer.Option("--port", min=0, max=65535, help="Port; 0 for any free one.")]
Browser = Annotated[bool, typer.Option("--browser/--no-browser", help="Open a browser.")]

# Each command imports what it runs: all together take over a second to load.
app = make_app("Scores in, one page out.")


@app.command()
def check(config: Config, traceback: Traceback = False) -> None:
    """Check settings, table, pictures, layers and splits before the extraction, in seconds.

    Example: roofline check --config examples/london.toml
    """
    from extract.settings import read_settings
    from extract.tables.tile_table import read_tiles
    from reports.checking import find_missing, list_notes
    from reports.data.boundaries import open_boundaries
    from reports.settings import ReportSettings

    with guarded(traceback=traceback, interrupted="stopped."):
        settings = read_settings(config, ReportSettings)
        tiles = read_tiles(settings)
        asked = settings.models
        open_boundaries(settings, tiles)
        for note in list_notes(settings, tiles):
            print_note(note)
        n_targets = len(settings.targets.names)
        n_cuts = len(settings.extract.cuts)
        out.print(
            f"settings: fine. {len(tiles)} tiles, {n_targets} targets, {n_cuts} cuts, "
            f"models {', '.join(settings.model_names)}, splits {', '.join(asked.splits)}",
            soft_wrap=True,
            highlight=False,
        )
        stage = "features" if find_missing(settings) else "models"
        print_next(f"roofline {stage} --config {config}")


@app.command()
def build(config: Config, traceback: Traceback = False) -> None:
    """Write report/: index.html, map, leaderboard, figures; report.pdf with a Chromium.

    Example: roofline report --config examples/london.toml
    """
    from extract.errors import PdfError
    from extract.settings import read_settings
    from reports.build import build_report, print_report
    from reports.settings import ReportSettings

    with guarded(traceback=traceback, interrupted="stopped; run it again to make the page."):
        page = build_report(read_settings(config, ReportSettings))
        try:
            out.print(print_report(page), soft_wrap=True, highlight=False, markup=False)
        except PdfError as error:
            err.print(str(error), soft_wrap=True, highlight=False, markup=False)
        out.print(f"report: {page}", soft_wrap=True, highlight=False, markup=False)
        print_next(f"roofline serve --config {config}")


@app.command()
def diff(
    first: Experiment, second: Experiment, csv: Csv = None, traceback: Traceback = False
) -> None:
    """Compare two experiments on the same tiles and folds: what got better, in the same resamples.

    In a pipe every cell of both is a line, with tabs between the columns.

    Example: roofline diff examples/london.toml artifacts/other
    """
    from models.store.score_tables import write_csv
    from reports.diff import compare_experiments
    from reports.page.diff_table import render_diff

    with guarded(traceback=traceback, interrupted="stopped."):
        rows = compare_experiments(first, second)
        if csv is not None:
            write_csv(csv, rows)
        if out.is_terminal:
            out.print(render_diff(rows))
        else:
            typer.echo(rows.to_csv(index=False, sep="\t"), nl=False)
        if second.is_file():
            print_next(f"roofline report --config {second}")


@app.command()
def serve(
    config: Config, port: Port = 8000, browser: Browser = True, traceback: Traceback = False
) -> None:
    """Show the report in a browser, from this machine alone; Ctrl-C ends it.

    Example: roofline serve --config examples/london.toml
    """
    from extract.settings import read_settings
    from reports.serve import open_server
    from reports.settings import ReportSettings

    with (
        guarded(traceback=traceback, interrupted="stopped."),
        open_server(
            (read_settings(config, ReportSettings).folder / "report").resolve(), port
        ) as server,
    ):
        address = f"http://127.0.0.1:{server.server_port}/"
        out.print(f"serving {address}; Ctrl-C ends it", soft_wrap=True, highlight=False)
        if browser:
            import webbrowser

            webbrowser.open(address)
        server.serve_forever()


def main() -> None:
    """Run the command line."""
    run_app(app, "python -m reports")
