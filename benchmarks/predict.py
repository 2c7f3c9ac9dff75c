"""Rate and peak memory of predicting a place, for few tiles and for many: `make bench-predict`."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.rows import Row, save_rows
from extract.settings import read_settings
from extract.store.shards import ShardWriter, write_virtual
from models.fit import fit_all
from models.settings import FitSettings

_WIDTH, _SHARD, _TRAIN, _AREAS = 32, 8192, 2000, 5000
_WAYS = (("features", "ridge"), ("parquet", "ridge"), ("csv", "ridge"), ("parquet", "ridge@area"))
_TILES = '[tiles]\ntable = "{table}"\nimages = "."\narea = "area"\nx = "x"\ny = "y"\n'
_TEXT = (
    'name = "made"\nout = "out"\n[targets]\ncolumns = ["index"]\n[extract]\ncuts = '
    '["net/last:avg"]\n'
    '[models]\nnames = ["ridge", "ridge@area"]\nkeep = "all"\n'
)


def write_made(features: Path, n_tiles: int) -> None:
    """Write made features, shard by shard."""
    rng, shards = np.random.default_rng(0), []
    (features / "net").mkdir(parents=True)
    for start in range(0, n_tiles, _SHARD):
        ids = pd.Series(np.arange(start, min(start + _SHARD, n_tiles)))
        shards.append(features / f"net/part-{len(shards):05d}.h5")
        writer = ShardWriter(
            shards[-1],
            ids,
            {"last:avg": (_WIDTH,)},
            dtype="float16",
            attributes={"weights": "random:0", "weights_sha256": "w"},
        )
        writer.append({"last:avg": rng.normal(size=(len(ids), _WIDTH))}, [""] * len(ids))
        writer.close()
    write_virtual(features / "net.h5", shards)


def write_tables(folder: Path, n_tiles: int) -> None:
    """Write the same table as CSV and as Parquet of one row group, with settings that name them."""
    rows = np.arange(n_tiles)
    area = np.char.add("E", (rows * _AREAS // n_tiles + 1_000_000).astype(str))
    table = pa.table(
        {"id": rows, "area": area, "x": rows % 3000 * 200.0, "y": rows // 3000 * 200.0}
    )
    pq.write_table(table, folder / "new.parquet", row_group_size=n_tiles)
    table.to_pandas().to_csv(folder / "new.csv", index=False)
    for kind in ("csv", "parquet"):
        (folder / f"{kind}.toml").write_text(
            f'name = "new"\nout = "new"\n{_TILES.format(table=f"new.{kind}")}'
        )


def fit_made(folder: Path) -> None:
    """Fit on some tiles that have labels."""
    rng, area = np.random.default_rng(1), np.arange(_TRAIN) // 10
    pd.DataFrame(
        {
            "id": range(_TRAIN),
            "area": area,
            "x": np.arange(_TRAIN) * 200.0,
            "y": 0.0,
            "index": rng.normal(size=_TRAIN // 10)[area],
        }
    ).to_csv(folder / "t.csv", index=False)
    (folder / "s.toml").write_text(_TEXT + _TILES.format(table="t.csv"))
    write_made(folder / "out/features", _TRAIN)
    fit_all(read_settings(folder / "s.toml", FitSettings))


def measure(few: int, many: int) -> Iterator[Row]:
    """Predict few and many tiles in each way, each in a process of its own, so that each has its
    own peak.
    """
    peaks: dict[tuple[str, str, int], int] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fit_made(folder)
        for n_tiles in (few, many):
            shutil.rmtree(folder / "new", ignore_errors=True)
            write_made(folder / "new/features", n_tiles)
            write_tables(folder, n_tiles)
            for source, model in _WAYS:
                command = [
                    sys.executable,
                    "-m",
                    "benchmarks.predict_once",
                    str(folder),
                    source,
                    model,
                ]
                printed = subprocess.run(
                    command, check=True, stdout=subprocess.PIPE, text=True
                ).stdout
                shutil.rmtree(folder / "predicted")
                seconds, peaks[source, model, n_tiles] = json.loads(printed)
                what = f"{n_tiles} tiles, {model} on {_WIDTH} numbers a tile, {source}"
                yield Row("tiles/s", what, n_tiles / seconds, digits=0)
                yield Row("peak", what, peaks[source, model, n_tiles] / 2**20, unit="MiB")
    for source, model in _WAYS:
        low, high = peaks[source, model, few], peaks[source, model, many]
        what = (
            f"{model}, {source}, {few} and {many} tiles: {(high - low) / (many - few):.0f} bytes a "
            "tile"
        )
        yield Row("peak, many ÷ few", what, high / low)


def main() -> None:
    """Measure, print the table, and keep it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer tiles")
    parser.add_argument(
        "--tiles", type=int, nargs=2, metavar=("FEW", "MANY"), default=(100_000, 1_000_000)
    )
    parser.add_argument("--out", type=Path, default=Path("artifacts/bench-predict.json"))
    asked = parser.parse_args()
    print(save_rows(asked.out, measure(*(1_000, 10_000) if asked.quick else asked.tiles)))


if __name__ == "__main__":
    main()
