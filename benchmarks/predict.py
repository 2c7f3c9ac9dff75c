"""Rate and peak memory of predicting features; `python -m benchmarks.predict N` prints tiles/s and the peak [bytes]."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.memory import read_peak
from extract.embeddings import ShardWriter, write_virtual
from extract.settings import read_settings
from models.fit import fit_all
from models.predict import predict_place
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


def main(n_tiles: int) -> None:
    """Fit a ridge on some tiles, predict many, and print the rate and the peak."""
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
        print(round(n_tiles / (time.perf_counter() - start)), read_peak())


if __name__ == "__main__":
    main(int(sys.argv[1]))
