"""The report of a full-size grid beside its goals: seconds to build, bytes, seconds until it is usable: `make bench-report`.

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

BUILD_S, PAGE_MB, USABLE_S = 20.0, 8.0, 2.0
ROUNDS = 3
_BUILD = (
    "import sys, time; t = time.perf_counter(); from pathlib import Path; from extract.settings import read_settings; "
    "from reports.build import build_report; from reports.settings import Settings; "
    "build_report(read_settings(Path(sys.argv[1]), Settings)); print(time.perf_counter() - t)"
)


def measure_report(folder: Path, *, quick: bool) -> Iterator[Row]:
    """Build the page of a grid in a process of its own, weigh it, open it, print it."""
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
    for name in ("usable", "drawn"):
        seconds = (
            None
            if browser is None
            else statistics.median(time_page(page, browser, name) for _ in range(ROUNDS))
        )
        yield Row(
            f"open until {name}",
            "no Chromium here" if browser is None else f"Chromium, median of {ROUNDS}",
            seconds,
            at_most=USABLE_S if name == "usable" else None,
            unit="s",
        )
    start = time.perf_counter()
    if browser is not None:
        write_pdf(page, page.with_name("report.pdf"), browser)
        yield Row("report.pdf", "in Chromium", time.perf_counter() - start, unit="s")


def time_page(page: Path, browser: str, marker: str) -> float:
    """Seconds from the navigation until the page sets a marker on its body, in a new Chromium without a network."""
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
