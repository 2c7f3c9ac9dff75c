"""Scoring every cell of a full-size grid from its predictions on disk, beside the goals: `make
bench-scores`.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.grid import score_grid, write_grid
from benchmarks.rows import Row, save_rows
from extract.timing.clock import peak_rss_bytes

GOAL_S = 60.0


def measure_scores(folder: Path) -> Iterator[Row]:
    """Score a grid, and again where nothing changed."""
    settings = write_grid(folder)
    (settings.folder / "scores.json").unlink(missing_ok=True)
    start, cpu = time.perf_counter(), time.process_time()
    n_scores = len(score_grid(settings))
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    start = time.perf_counter()
    score_grid(settings)
    again = time.perf_counter() - start
    n_runs = len(list(settings.folder.glob("runs/**/run.json")))
    what = f"{n_runs} runs, {n_scores} scores; reading the table and planning included"
    yield Row("score", f"{what}; {cpu:.0f} s of processor", seconds, at_most=GOAL_S, unit="s")
    yield Row("score again, nothing changed", what, again, unit="s")
    peak = peak_rss_bytes() / 2**20
    yield Row("peak memory", "writing the grid included where it was not there", peak, unit="MiB")


def main() -> None:
    """Print the table, and write `artifacts/bench-scores.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--keep", type=Path, help="folder of the grid, used again where it is whole"
    )
    keep = parser.parse_args().keep
    with tempfile.TemporaryDirectory() as temporary:
        rows = list(measure_scores(keep or Path(temporary)))
    print(save_rows(Path("artifacts/bench-scores.json"), rows))


if __name__ == "__main__":
    main()
