"""Memory and book-keeping with a stub for the network: `python -m benchmarks.memory rss|ids N map|avg` is one measurement."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.rows import Row
from extract.run import run_extraction
from extract.settings import Settings, read_settings

_SETTINGS = """
name = "bench"
out = "out"
[tiles]
table = "tiles.csv"
images = "."
path = "{picture}.png"
area = "area"
[targets]
columns = ["income"]
[extract]
cuts = ["mobilenetv2/out_relu:POOLING"]
weights = "random:0"
size = 32
batch = 64
"""


@dataclass(frozen=True, slots=True)
class Pending:
    """A batch of the stub's rows."""

    rows: dict[str, NDArray[np.float16]]

    def result(self) -> dict[str, NDArray[np.float16]]:
        """Give them."""
        return self.rows


class Stub:
    """A network that costs nothing: every cut is full of each picture's first value."""

    precision, runtime, device, versions = "float32", "stub", "stub", "stub"
    note, weights, weights_sha256 = "", "random:0", "0" * 64

    def __init__(self, settings: Settings, backbone: str, *_: Any, **__: Any) -> None:
        cuts = settings.extract.cuts_of(backbone)
        self.shapes = {cut.dataset: (8, 8, 32) if cut.pooling == "map" else (64,) for cut in cuts}

    def submit(self, pictures: NDArray[np.uint8]) -> Pending:
        """Embed (n, size, size, 3) pictures."""
        first = pictures[:, 0, 0, 0].astype(np.float16)
        return Pending({name: np.broadcast_to(first.reshape(-1, *[1] * len(shape)), (len(first), *shape)).copy()
                        for name, shape in self.shapes.items()})


def measure_memory(_: Any, *, quick: bool) -> Iterator[Row]:
    """(6) Peak memory at ten times the tiles; start, resume and close at a million ids."""
    few, many, ids = (500, 5_000, 50_000) if quick else (2_000, 20_000, 1_000_000)
    for pooling in ("avg", "map"):
        peaks = {n: _child("rss", n, pooling)["peak_rss_bytes"] for n in (few, many)}
        yield Row(f"6 peak memory at {many} / {few} tiles", f"stub network, {pooling} cuts, {peaks[many] / 1e6:.0f} MB",
                  peaks[many] / peaks[few], at_most=1.05)
    small, large = (_child("ids", n, "avg") for n in (ids // 10, ids))
    for stage in ("start", "resume", "close"):
        growth = large[stage] / max(small[stage], 1e-3)
        yield Row(f"6 {stage}, {ids} ids", f"{growth:.1f} times that at {ids // 10}", large[stage], unit="s")


def _child(what: str, n_tiles: int, pooling: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.memory", what, str(n_tiles), pooling]
    return dict(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout))


def _write(folder: Path, n_tiles: int, pooling: str) -> Settings:
    cv2.imwrite(str(folder / "tile.png"), np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8))
    ids = np.arange(n_tiles)
    pd.DataFrame({"id": ids, "picture": "tile", "area": ids // 4, "income": 0.0}).to_csv(folder / "tiles.csv", index=False)
    (folder / "bench.toml").write_text(_SETTINGS.replace("POOLING", pooling))
    return read_settings(folder / "bench.toml", Settings)


def _run(settings: Settings) -> dict[str, float]:
    """Run once; seconds until the first tile is done, of the whole, and from the last tile to the end."""
    times: list[float] = []
    began = time.perf_counter()
    run_extraction(settings, open_forward=Stub, on_tiles=lambda *_: times.append(time.perf_counter()))
    ended = time.perf_counter()
    return {"start": times[0] - began if times else 0.0, "whole": ended - began, "close": ended - times[-1] if times else 0.0}


def read_peak() -> int:
    """Read this process's peak memory [bytes]; `getrusage` would count its parent's, which it keeps across `exec`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024


def main(what: str, n_tiles: int, pooling: str) -> None:
    """Print one measurement as JSON."""
    with tempfile.TemporaryDirectory() as folder:
        settings = _write(Path(folder), n_tiles, pooling)
        first = _run(settings)
        if what == "ids":
            print(json.dumps({**first, "resume": _run(settings)["whole"]}))
        else:
            print(json.dumps({"peak_rss_bytes": read_peak()}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
