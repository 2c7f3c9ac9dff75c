from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[1]
MEASURE = """
import sys
from pathlib import Path
from extract.run import run_extraction
from extract.settings import ExtractSettings, read_settings
from extract.timing.clock import peak_rss_bytes
run_extraction(read_settings(Path(sys.argv[1]), ExtractSettings))
print(peak_rss_bytes() // 1024)
"""


def peak_kib(experiment, n_tiles: int) -> int:
    """Peak memory of one extraction by a small real network, in a process of its own [KiB]."""
    path = experiment(
        n=12,
        replace={
            '"mobilenetv2/block_1_expand_relu:avg", "mobilenetv2/block_3_expand_relu:map"': '"mobilenetv2/Conv1:avg", "mobilenetv2/Conv1:map"',
            "shard = 5": "shard = 500",
            "batch = 4": "batch = 50",
            'out = "out"': f'out = "out-{n_tiles}"',
            "{id}.png": "{file}.png",
        },
    )
    table = {
        "id": range(n_tiles),
        "file": np.arange(n_tiles) % 12,
        "area": "A",
        "x": 0.0,
        "y": 0.0,
        "income": 0.5,
    }
    pd.DataFrame(table).to_csv(path.parent / "tiles.csv", index=False)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_tiles(experiment):
    few, many = (peak_kib(experiment, n) for n in (1_500, 12_000))
    assert many <= 1.05 * few, f"{many} KiB at 12,000 tiles, {few} KiB at 1,500"
