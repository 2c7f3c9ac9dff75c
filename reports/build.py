"""The whole report, from what the other rooms wrote to the files beside the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from extract.files.atomic import publish
from reports.data.collect import Collected, collect
from reports.data.galleries import Galleries
from reports.page.figures import build_figures, slug, write_figures
from reports.page.leaderboard import build_class_leaderboard, build_leaderboard, write_leaderboard
from reports.page.page import Parts, render_page
from reports.page.summary_json import build_document
from reports.pdf import find_browser, write_pdf
from reports.sections.error_equity import COLUMNS, build_group_errors
from reports.sections.explain import list_rows
from reports.sections.maps import Maps, build_maps
from reports.settings import ReportSettings


def build_report(settings: ReportSettings) -> Path:
    """Write everything under `<folder>/report/`; give the page's absolute path; it is written last."""
    collected = collect(settings)
    folder = (settings.folder / "report").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    parts = build_parts(collected)
    write_leaderboard(parts.board, folder)
    if len(collected.class_scores):
        _publish(
            folder / "leaderboard_classes.csv",
            build_class_leaderboard(collected).to_csv(index=False),
        )
    write_figures(collected, parts.figures, folder)
    _write_maps(collected, parts.maps, folder)
    burden = (
        pd.concat([b.table for b in parts.group_errors.values()])
        if parts.group_errors
        else pd.DataFrame(columns=COLUMNS)
    )
    _publish(folder / "errors.csv", burden.to_csv(index=False))
    _publish(folder / "report.json", build_document(collected, _more(parts, collected.galleries)))
    _publish(folder / "index.html", render_page(collected, parts))
    return folder / "index.html"


def build_parts(collected: Collected) -> Parts:
    """Return leaderboard, figures, maps and errors; a target without data has no map and no errors."""
    maps = {t: build_maps(collected, t) for t in collected.targets}
    group_errors = {t: build_group_errors(collected, t) for t in collected.targets}
    return Parts(
        board=build_leaderboard(collected),
        figures=build_figures(collected),
        maps={t: m for t, m in maps.items() if m is not None},
        group_errors={t: b for t, b in group_errors.items() if b is not None},
    )


def print_report(page: Path) -> str:
    """Write `report.pdf` beside the page where there is a Chromium; say what was done.

    Raises
    ------
    PdfError : Chromium is there, and did not print.
    """
    browser = find_browser()
    if browser is None:
        return "pdf: none, as no Chromium was found; print the page from a browser"
    write_pdf(page, page.with_name("report.pdf"), browser)
    return f"pdf: {page.with_name('report.pdf')}"


def _write_maps(collected: Collected, maps: dict[str, Maps], folder: Path) -> None:
    for i, target in enumerate(collected.targets):
        if target in maps:
            one = maps[target]
            name = f"{i + 1:02d}-{slug(target)}"
            for kind, png in (
                ("truth", one.truth),
                ("prediction", one.prediction),
                ("residual", one.residual),
            ):
                (folder / f"map-{kind}-{name}.png").write_bytes(png)
            one.table.round(6).to_csv(folder / f"map-{name}.csv", index=False)


def _more(parts: Parts, galleries: Galleries) -> dict[str, list[dict[str, Any]]]:
    moran = [{"target": t, "moran": m.moran, "p": m.p} for t, m in parts.maps.items()]
    errors = [{"target": t, "sentence": b.sentence} for t, b in parts.group_errors.items()]
    return {"galleries": list_rows(galleries), "residuals": moran, "errors": errors}


def _publish(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    publish(partial, path)
