"""Build the whole report: the page, and the files beside it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from extract.files.atomic import name_place, write_atomically
from extract.tables.spreadsheets import quote_formulas
from models.evaluation.current import open_current
from reports.data.collect import Collected, collect
from reports.data.places import Places, build_places
from reports.page.figures import build_figures, name_target_file, write_figures
from reports.page.leaderboard import build_class_leaderboard, build_leaderboard, write_leaderboard
from reports.page.map_package import can_package, write_package
from reports.page.map_page import render_map
from reports.page.page import Link, PageContent, render_page
from reports.page.summary_json import build_document
from reports.pdf import find_browser, write_pdf
from reports.sections.error_equity import COLUMNS, build_group_errors
from reports.sections.maps import build_maps
from reports.settings import ReportSettings

MAP = "map.html"
PACKAGE = "map.gpkg"
LINKS = (
    Link("leaderboard.csv", "every score"),
    Link("errors.csv", "errors by group"),
    Link("report.json", "the numbers of the sentences, to cite"),
)


def build_report(settings: ReportSettings) -> Path:
    """Write everything under `<folder>/report/`, the page last; return its absolute path."""
    with open_current(settings):
        collected = collect(settings)
    folder = (settings.folder / "report").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    content = build_content(collected)
    write_leaderboard(content.board, folder)
    if len(collected.class_scores):
        classes = build_class_leaderboard(collected)
        _write_text(folder / "leaderboard_classes.csv", quote_formulas(classes).to_csv(index=False))
    write_figures(content.figures, folder)
    _write_maps(content, folder)
    tables = [errors.table for errors in content.group_errors.values()]
    errors = pd.concat([pd.DataFrame(columns=COLUMNS), *tables])
    _write_text(folder / "errors.csv", quote_formulas(errors).to_csv(index=False))
    _write_text(folder / "report.json", build_document(content))
    if content.places is not None:
        _write_shared_map(content.places, collected, folder)
    _write_text(folder / "index.html", render_page(content))
    return folder / "index.html"


def build_content(collected: Collected) -> PageContent:
    """Return what the page shows; a target without data has no map and no errors."""
    targets = collected.targets
    maps = {target: build_maps(collected, target) for target in targets}
    group_errors = {target: build_group_errors(collected, target) for target in targets}
    links = []
    places = build_places(collected)
    if places is not None:
        links.append(Link(MAP, f"every {places.kind} on a map"))
        if can_package(places):
            links.append(Link(PACKAGE, "that map for QGIS"))
    links += LINKS
    if find_browser() is not None:
        links.append(Link("report.pdf", "this page on paper"))
    return PageContent(
        collected=collected,
        board=build_leaderboard(collected),
        figures=build_figures(collected),
        maps={target: one for target, one in maps.items() if one is not None},
        group_errors={target: one for target, one in group_errors.items() if one is not None},
        links=links,
        places=places,
    )


def print_report(page: Path) -> str:
    """Write `report.pdf` beside the page where there is a Chromium; return a line about it.

    Raises
    ------
    PdfError : Chromium is there, and did not print.
    """
    browser = find_browser()
    if browser is None:
        return "pdf: none, as no Chromium was found; print the page from a browser"
    path = page.with_name("report.pdf")
    write_pdf(page, path, browser)
    return f"pdf: {path}"


def _write_maps(content: PageContent, folder: Path) -> None:
    for i, target in enumerate(content.collected.targets):
        maps = content.maps.get(target)
        if maps is None:
            continue
        name = name_target_file(i, target)
        pictures = {
            "truth": maps.truth,
            "prediction": maps.prediction,
            "residual": maps.residual,
        }
        table = folder / f"map-{name}.csv"
        with name_place(table):
            for what, png in pictures.items():
                (folder / f"map-{what}-{name}.png").write_bytes(png)
            quote_formulas(maps.table.round(6)).to_csv(table, index=False)


def _write_shared_map(places: Places, collected: Collected, folder: Path) -> None:
    _write_text(folder / MAP, render_map(collected, places))
    package = folder / PACKAGE
    package.unlink(missing_ok=True)
    if can_package(places):
        write_package(places, package)


def _write_text(path: Path, text: str) -> None:
    with write_atomically(path) as partial:
        partial.write_text(text, encoding="utf-8")
