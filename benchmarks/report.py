"""Measure the report of a full-size grid: seconds to build, bytes, seconds until it is usable.

Run by `make bench-report`.

Example: python -m benchmarks.report --keep /tmp/grid
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.grid import score_grid, write_grid
from benchmarks.rows import Row, save_rows
from reports.pdf import find_browser, write_pdf

BUILD_S = 20.0
PAGE_MB = 8.0
USABLE_S = 2.0
ROUNDS = 3
_BUILD = """
import sys, time
start = time.perf_counter()
from pathlib import Path
from extract.settings import read_settings
from reports.build import build_report
from reports.settings import ReportSettings
build_report(read_settings(Path(sys.argv[1]), ReportSettings))
print(time.perf_counter() - start)
"""


def measure_report(folder: Path, *, quick: bool) -> Iterator[Row]:
    """Build the page of a grid in a process of its own; measure, open and print it."""
    small = {"n_tiles": 2_000, "n_areas": 300, "n_cuts": 2} if quick else {}
    settings = write_grid(folder, **small)
    score_grid(settings)
    what = f"{settings.name}, {'small' if quick else 'full size'}"
    done = subprocess.run(
        [sys.executable, "-c", _BUILD, str(folder / "grid.toml")],
        check=True,
        capture_output=True,
        text=True,
    )
    yield Row(
        "build, without PDF",
        f"{what}; imports included",
        float(done.stdout),
        at_most=BUILD_S,
        unit="s",
    )
    page = settings.folder.resolve() / "report" / "index.html"
    yield Row("index.html", what, page.stat().st_size / 1e6, at_most=PAGE_MB, unit="MB")
    browser = find_browser()
    if browser is None:
        yield Row("open the page", "no Chromium here", None, at_most=USABLE_S, unit="s")
        return
    for name, goal in (("usable", USABLE_S), ("drawn", None)):
        seconds = statistics.median(time_page(page, browser, name) for _ in range(ROUNDS))
        how = f"Chromium, median of {ROUNDS}"
        yield Row(f"open until {name}", how, seconds, at_most=goal, unit="s")
    start = time.perf_counter()
    write_pdf(page, page.with_name("report.pdf"), browser)
    yield Row("report.pdf", "in Chromium", time.perf_counter() - start, unit="s")


def time_page(page: Path, browser: str, marker: str) -> float:
    """Return the seconds until the page sets a marker on its body, in a new Chromium offline."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        running = driver.chromium.launch(
            executable_path=browser, args=["--no-sandbox", "--disable-gpu"]
        )
        tab = running.new_context(offline=True, viewport={"width": 1280, "height": 800}).new_page()
        tab.goto("about:blank")
        start = time.perf_counter()
        tab.goto(page.as_uri(), wait_until="commit")
        tab.wait_for_selector(f"body[data-{marker}]", timeout=120_000)
        seconds = time.perf_counter() - start
        running.close()
    return seconds


def main() -> None:
    """Measure, print the table with the goals beside, and write `artifacts/bench-report.json`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="a small grid: whether it runs, not how fast"
    )
    parser.add_argument(
        "--keep", type=Path, help="folder of the grid, used again where it is whole"
    )
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        rows = list(measure_report(asked.keep or Path(temporary), quick=asked.quick))
    print(save_rows(Path("artifacts/bench-report.json"), rows))


if __name__ == "__main__":
    main()
