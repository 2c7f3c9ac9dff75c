"""Rate and peak memory of predicting features, for few tiles and for many: `make bench-predict`."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.memory import read_peak
from benchmarks.rows import Row, save_rows
from extract.embeddings import ShardWriter, write_virtual
from extract.settings import read_settings
from models.fit import fit_all
from models.predicting.predict import predict_place
from models.settings import Settings

_WIDTH, _SHARD, _TRAIN = 64, 8192, 2000
_TEXT = """name = "made"
out = "out"
[tiles]
table = "t.csv"
images = "."
area = "area"
[targets]
columns = ["index"]
[extract]
cuts = ["net/last:avg"]
[models]
names = ["ridge"]
"""


def write_made(features: Path, n_tiles: int) -> None:
    """Write made features, shard by shard."""
    rng, shards = np.random.default_rng(0), []
    (features / "net").mkdir(parents=True)
    for start in range(0, n_tiles, _SHARD):
        ids = pd.Series(np.arange(start, min(start + _SHARD, n_tiles)))
        shards.append(features / f"net/part-{len(shards):05d}.h5")
        writer = ShardWriter(shards[-1], ids, {"last:avg": (_WIDTH,)}, dtype="float16",
                             attributes={"weights": "random:0", "weights_sha256": "w"})
        writer.append({"last:avg": rng.normal(size=(len(ids), _WIDTH))}, [""] * len(ids))
        writer.close()
    write_virtual(features / "net.h5", shards)


def measure_once(n_tiles: int) -> tuple[float, int]:
    """Fit a ridge on some tiles and predict many, in this process: tiles a second, and the peak [bytes]."""
    with tempfile.TemporaryDirectory() as name:
        folder, rng = Path(name), np.random.default_rng(1)
        area = np.arange(_TRAIN) // 10
        pd.DataFrame({"id": range(_TRAIN), "area": area, "index": rng.normal(size=_TRAIN // 10)[area]}).to_csv(
            folder / "t.csv", index=False)
        (folder / "s.toml").write_text(_TEXT)
        write_made(folder / "out/features", _TRAIN)
        write_made(folder / "new", n_tiles)
        settings = read_settings(folder / "s.toml", Settings)
        fit_all(settings)
        start = time.perf_counter()
        predict_place(settings, folder / "new", "index", folder / "predicted")
        return n_tiles / (time.perf_counter() - start), read_peak()


def measure(few: int, many: int) -> Iterator[Row]:
    """Predict few and many tiles, each in a process of its own, so that each has its own peak."""
    peaks = {}
    for n_tiles in (few, many):
        command = [sys.executable, "-m", "benchmarks.predict", "--once", str(n_tiles)]
        rate, peaks[n_tiles] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        what = f"{n_tiles} tiles, ridge on {_WIDTH} numbers a tile, features alone"
        yield Row("tiles/s", what, rate, digits=0)
        yield Row("peak", what, peaks[n_tiles] / 2**20, unit="MiB")
    yield Row("peak, many ÷ few", f"{many} and {few} tiles", peaks[many] / peaks[few])


def main() -> None:
    """Measure, print the table, and keep it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--once", type=int, metavar="N", help="predict N tiles; print tiles/s and the peak [bytes] as JSON")
    parser.add_argument("--quick", action="store_true", help="fewer tiles")
    parser.add_argument("--out", type=Path, default=Path("artifacts/bench-predict.json"))
    asked = parser.parse_args()
    if asked.once:
        print(json.dumps(measure_once(asked.once)))
    else:
        print(save_rows(asked.out, measure(*(1_000, 10_000) if asked.quick else (100_000, 1_000_000))))


if __name__ == "__main__":
    main()
