"""Scoring every cell of a city from its predictions on disk, beside the goal: `make bench-scores`."""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from models.family import Ints
from models.runs import run_folder, write_run
from models.scoring import Labels, Run, score_runs

N_TILES, N_AREAS, N_BLOCKS, N_TARGETS = 36_723, 4_835, 400, 7
SPLITS = ("random", "area", "block")
CUTS = [f"net/layer{i}:avg" for i in range(8)]
MODELS = ["ridge", "ridge@area", "ridge+groups", "knn", "forest", "xgboost", "head", "head@area"]
BASELINES = ["mean", "location"]
GOAL_SECONDS = 60


def make_labels(rng: np.random.Generator) -> Labels:
    """Give labels that tiles of an area share, skewed as real indices are."""
    area = np.concatenate([np.arange(N_AREAS), rng.integers(0, N_AREAS, N_TILES - N_AREAS)])
    targets = pd.DataFrame({f"target{t}": np.exp(0.5 * rng.normal(size=N_AREAS))[area] for t in range(N_TARGETS)})
    units: dict[str, Ints] = dict.fromkeys(SPLITS, area) | {"block": (area * N_BLOCKS) // N_AREAS}
    means = np.broadcast_to(targets.to_numpy().mean(axis=0), targets.shape)
    return Labels(ids=np.arange(N_TILES), targets=targets, area=area, units=units,
                  training_means=dict.fromkeys(SPLITS, means))


def write_predictions(folder: Path, labels: Labels, rng: np.random.Generator) -> list[Run]:
    """Write a run of every cell: the labels, shrunk to their mean by its own share, under noise of the area and the tile."""
    runs = [*((split, cut, model) for split in SPLITS for cut in CUTS for model in MODELS),
            *((split, "none", model) for split in SPLITS for model in BASELINES)]
    for run in runs:
        noise = rng.normal(scale=0.4, size=(N_AREAS, N_TARGETS))[labels.area]
        truth, skill = labels.targets.to_numpy(), rng.uniform(0.3, 0.6)
        values = truth.mean(axis=0) + skill * (truth - truth.mean(axis=0)) + noise + rng.normal(scale=0.3, size=noise.shape)
        frames = [pd.DataFrame({"id": labels.ids, "fold": labels.ids % 5, "target": target, "truth": labels.targets[target],
                                "prediction": values[:, t]}) for t, target in enumerate(labels.targets)]
        write_run(run_folder(folder, *run), pd.concat(frames, ignore_index=True), None, {})
    return runs


def main() -> None:
    """Print the seconds, and write `artifacts/bench-scores.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", type=Path, help="folder for the predictions, used again where it has them")
    rng, keep = np.random.default_rng(0), parser.parse_args().keep
    with tempfile.TemporaryDirectory() as temporary:
        folder = keep or Path(temporary)
        labels, known = make_labels(rng), sorted(folder.glob("runs/**/run.json"))
        runs = [_run_of(folder, path) for path in known] or write_predictions(folder, labels, rng)
        (folder / "scores.json").unlink(missing_ok=True)
        start, cpu = time.perf_counter(), time.process_time()
        scores = score_runs(folder, runs, labels, seed=0)
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        start = time.perf_counter()
        score_runs(folder, runs, labels, seed=0)
        again = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    row = {"tiles": N_TILES, "areas": N_AREAS, "runs": len(runs), "targets": N_TARGETS, "score_rows": len(scores),
           "seconds": round(seconds, 1), "cpu_seconds": round(cpu, 1), "goal_seconds": GOAL_SECONDS,
           "seconds_when_nothing_changed": round(again, 2), "peak_rss_mb": round(peak / 2**20)}
    print("  ".join(f"{key}: {value}" for key, value in row.items()))
    out = Path("artifacts/bench-scores.json")
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(row, indent=2) + "\n")


def _run_of(folder: Path, path: Path) -> Run:
    split, *cut, model = path.parent.relative_to(folder / "runs").parts
    return split, "/".join(cut), model


if __name__ == "__main__":
    main()
