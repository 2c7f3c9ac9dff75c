"""Memory and book-keeping with a stub for the network; `python -m benchmarks.memory N avg|map`
prints one peak [bytes].
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.million import open_stub
from benchmarks.peak import read_peak
from benchmarks.rows import Row
from extract.run import run_extraction
from extract.settings import ExtractSettings, read_settings


def measure_memory(_: Any, *, quick: bool) -> Iterator[Row]:
    """(6) Peak memory at ten times the tiles; start, resume and close at a million ids."""
    few, many, ids = (500, 5_000, 50_000) if quick else (2_000, 20_000, 1_000_000)
    for pooling in ("avg", "map"):
        peaks = {n: int(_child("benchmarks.memory", str(n), pooling)) for n in (few, many)}
        yield Row(
            f"6 peak memory, {many} / {few} tiles",
            f"stub network, {pooling} cut, {peaks[many] / 1e6:.0f} MB",
            peaks[many] / peaks[few],
            at_most=1.05,
        )
    seconds = json.loads(_child("benchmarks.million", "--tiles", str(ids)))
    small, large = seconds[str(ids // 10)], seconds[str(ids)]
    for stage in ("read_table", "resume_to_first_batch", "close", "nothing_to_do"):
        growth = large[stage] / max(small[stage], 0.01)
        yield Row(
            f"6 {stage.replace('_', ' ')}",
            f"{ids} ids; {growth:.1f} times that of {ids // 10}",
            large[stage],
            unit="s",
        )


def _child(*command: str) -> str:
    return subprocess.run(
        [sys.executable, "-m", *command], check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def main(n_tiles: int, pooling: str) -> None:
    """Run once and print the peak; the table is written by another process, as a user's is."""
    with tempfile.TemporaryDirectory() as folder:
        _child(
            "benchmarks.million", "--tiles", str(n_tiles), "--write", folder, "--pooling", pooling
        )
        run_extraction(
            read_settings(Path(folder) / "million.toml", ExtractSettings), open_forward=open_stub
        )
    print(read_peak())


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
