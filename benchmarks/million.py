"""What a run costs besides its tiles, on a table of a million: start, resume and close, with a
network that does nothing.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pandas as pd

from extract.pictures.decode import PICTURE
from extract.run import run_extraction
from extract.settings import ExtractSettings, read_settings
from extract.store.backbone_shards import check_backbone_shards
from extract.tables.tile_table import read_tiles

SETTINGS = """
name = "million"
out = "out"
[tiles]
table = "tiles.csv"
images = "tiles"
path = "{file}.png"
area = "area"
x = "x"
y = "y"
[targets]
columns = ["income"]
[extract]
cuts = ["stub/layer:POOLING"]
weights = "random:0"
size = 32
"""


class StubNetwork:
    """Zeros for every picture.

    Parameters
    ----------
    shapes : shape of one row of every cut, by dataset name.
    """

    precision, runtime, device, note = "float32", "none", "none", ""
    float32_cuts = ""
    weights, weights_sha256, versions = "random:0", "0" * 64, "stub"

    def __init__(self, shapes: dict[str, tuple[int, ...]]) -> None:
        self.shapes = shapes

    def submit(self, pictures: Any) -> StubFlight:
        """Take a batch; several may be in flight."""
        return StubFlight({name: (len(pictures), *shape) for name, shape in self.shapes.items()})


class StubFlight(NamedTuple):
    """A batch whose zeros are made when they are asked for."""

    shapes: dict[str, tuple[int, ...]]

    def result(self) -> dict[str, Any]:
        """Return the zeros."""
        return {name: np.zeros(shape, np.float16) for name, shape in self.shapes.items()}


def open_stub(settings: ExtractSettings, backbone: str, *_: Any, **__: Any) -> StubNetwork:
    """Stand in for `extract.networks.forward.open_forward`: 64 zeros a picture; at `map` cuts for
    each of 64 places.
    """
    return StubNetwork(
        {
            cut.dataset: (8, 8, 64) if cut.pooling == "map" else (64,)
            for cut in settings.extract.cuts_of(backbone)
        }
    )


def write_table(folder: Path, n_tiles: int, *, pooling: str = "avg") -> ExtractSettings:
    """Write a table of many tiles that share twelve pictures."""
    (folder / "tiles").mkdir()
    for i in range(12):
        cv2.imwrite(str(folder / "tiles" / f"{i}.png"), np.full((32, 32, 3), 20 * i, np.uint8))
    rows = np.arange(n_tiles)
    table = {
        "id": rows,
        "file": rows % 12,
        "area": rows // 50,
        "x": rows * 200.0,
        "y": 0.0,
        "income": 0.5,
    }
    pd.DataFrame(table).to_csv(folder / "tiles.csv", index=False)
    (folder / "million.toml").write_text(SETTINGS.replace("POOLING", pooling))
    return read_settings(folder / "million.toml", ExtractSettings)


def measure(n_tiles: int) -> dict[str, float]:
    """Return seconds of each part, beside those of the table alone."""
    with tempfile.TemporaryDirectory() as folder:
        settings = write_table(Path(folder), n_tiles)
        seconds: dict[str, float] = {}
        start = time.perf_counter()
        tiles = read_tiles(settings)
        seconds["read_table"] = time.perf_counter() - start
        (job,) = check_backbone_shards(settings, tiles)
        seconds["check"] = time.perf_counter() - start - seconds["read_table"]
        network = open_stub(settings, "stub")
        for index in job.missing[:-1]:
            writer, n = job.open_shard(index, network), settings.extract.shard
            writer.append(
                {"layer:avg": np.zeros((n, 64), np.float16)}, [""] * n, np.zeros(n, PICTURE)
            )
            writer.close()
        seconds["write_shards"] = time.perf_counter() - start - sum(seconds.values())
        moments: list[float] = []
        start = time.perf_counter()
        run_extraction(
            settings,
            open_forward=open_stub,
            on_tiles=lambda *_: moments.append(time.perf_counter()),
        )
        seconds |= {
            "resume_to_first_batch": moments[0] - start,
            "close": time.perf_counter() - moments[-1],
        }
        start = time.perf_counter()
        run_extraction(settings, open_forward=open_stub)
        seconds["nothing_to_do"] = time.perf_counter() - start
        return {name: round(value, 2) for name, value in seconds.items()}


def main() -> None:
    """Print seconds at a tenth of the tiles and at all of them: linear is ten times."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tiles", type=int, default=1_000_000)
    parser.add_argument(
        "--write", type=Path, help="only write a table and settings into this folder"
    )
    parser.add_argument("--pooling", default="avg")
    options = parser.parse_args()
    n_tiles = options.tiles
    if options.write:
        write_table(options.write, n_tiles, pooling=options.pooling)
        return
    print(json.dumps({str(n): measure(n) for n in (n_tiles // 10, n_tiles)}, indent=2))


if __name__ == "__main__":
    main()
