"""The whole extraction, PNG files to closed HDF5, beside the bare network: `make bench`."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from extract.forward import open_forward
from extract.run import run_extraction
from extract.sample import write_city
from extract.settings import Settings, read_settings

CUTS = {"vgg16": ["block3_pool", "block5_pool"], "resnet50v2": ["conv3_block4_out", "post_relu"],
        "mobilenetv2": ["block_13_expand_relu", "out_relu"]}
N_TILES, ROUNDS = 192, 3


def measure(city: Path, backbone: str) -> dict[str, float | str]:
    """Alternate bare forward passes and whole runs; give the median rates [tiles/s] and their ratio."""
    path = city.parent / f"{backbone}.toml"
    cuts = json.dumps([f"{backbone}/{layer}:avg" for layer in CUTS[backbone]])
    lines = [line for line in city.read_text().splitlines() if not line.startswith(("cuts", "weights", "name ="))]
    text = "\n".join(lines).replace("[extract]", f'[extract]\ncuts = {cuts}\nweights = "random:0"')
    path.write_text(f'name = "bench"\nout = "out-{backbone}"\n{text}\n')
    settings = read_settings(path, Settings)
    pictures = np.random.default_rng(0).integers(0, 256, (32, 224, 224, 3), dtype=np.uint8)
    forward = open_forward(settings, backbone, pictures, allow_random=False)
    bare, whole = [], []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for _ in range(N_TILES // 32):
            forward(pictures)
        bare.append(N_TILES / (time.perf_counter() - start))
        summary = run_extraction(settings, fresh=True)
        whole.append(summary.stages[backbone]["tiles_per_second"])
    rates = statistics.median(bare), statistics.median(whole)
    return {"backbone": backbone, "precision": forward.precision, "bare_tiles_per_second": round(rates[0], 1),
            "whole_tiles_per_second": round(rates[1], 1), "ratio": round(rates[1] / rates[0], 3)}


def main() -> None:
    """Print a table and write `artifacts/bench-extract.json`."""
    with tempfile.TemporaryDirectory() as folder:
        city = write_city(Path(folder) / "city", n_tiles=N_TILES, n_areas=30)
        rows = [measure(city, backbone) for backbone in CUTS]
    for row in rows:
        print("  ".join(f"{key}: {value}" for key, value in row.items()))
    out = Path("artifacts/bench-extract.json")
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
