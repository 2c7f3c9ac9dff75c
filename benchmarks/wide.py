"""Peak memory on a flat cut and at a million tiles, and how time grows with the number of tiles;
called by `benchmarks.fit`.

Example: python -m benchmarks.wide                     (all tables)
         python -m benchmarks.wide --only million      (one of them)
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from benchmarks.planted import plant
from benchmarks.rows import Row, render_table
from extract.store.shards import ShardWriter, write_virtual
from extract.timing.clock import peak_rss_bytes
from models.data.features import Features, open_features
from models.data.fold_assignment import assign_folds
from models.data.folds import Folds, build_folds
from models.data.model_names import parse_model
from models.families.fit_results import CrossFit
from models.families.registry import build_model

GIB = 1 << 30
CUT = "block5_pool:flat"
PEAK_GIB = 8.0
SIZES = (3_000, 6_000, 12_000, 24_000)
SLOPES = {"ridge": 1.1, "knn": 2.0, "xgboost": 1.1}
_SHARD = 1024


class Case(NamedTuple):
    """A model and the cut that its memory is measured on."""

    model: str
    n_tiles: int
    n_features: int
    n_targets: int  # memory does not grow with them; where one is enough, time is saved
    n_rounds: int = 0  # of boosting at most, likewise; 0 for as many as it chooses


WIDE = [
    Case("ridge", 36_723, 25_088, 7),
    Case("knn+pca:256", 36_723, 25_088, 7),
    Case("xgboost", 36_723, 25_088, 1, 10),
]
MILLION = [Case("ridge", 1_000_000, 512, 7), Case("xgboost", 1_000_000, 512, 1, 10)]


def memory_rows(cases: Sequence[Case]) -> Iterator[Row]:
    """Peak memory of all folds, each model in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        for case in cases:
            ensure_written(
                case, Path(folder)
            )  # here, so that the memory of writing is not the model's
            command = [
                sys.executable,
                "-m",
                "benchmarks.wide",
                "--folder",
                folder,
                "--case",
                *map(str, case),
            ]
            said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            found = json.loads(said.splitlines()[-1])
            targets = f", {case.n_targets} target{'s' if case.n_targets > 1 else ''}"
            targets += f", {case.n_rounds} rounds" if case.n_rounds else ""
            what = (
                f"{case.n_tiles} × {case.n_features}{targets}: {found['seconds']:.0f} s, mean R² "
                f"{found['r2']:.3f}"
            )
            yield Row(
                f"{case.model}: peak memory", what, found["peak_gib"], at_most=PEAK_GIB, unit="GiB"
            )


def ensure_written(case: Case, folder: Path) -> Path:
    """Return the folder of a case's cut and labels; they are written where they are not yet
    there.
    """
    mine = folder / f"{case.n_tiles}x{case.n_features}"
    if not (mine / "labels.npz").is_file():
        write_wide(mine, case.n_tiles, case.n_features)
    return mine


def write_wide(folder: Path, n_tiles: int, n_features: int) -> None:
    """Write a planted cut as the extraction does, shard by shard, and its labels and areas
    beside.
    """
    (folder / "net").mkdir(parents=True, exist_ok=True)
    narrow, rng, shards = plant(n_tiles, 64), np.random.default_rng(1), []
    mix = rng.normal(size=(64, n_features)).astype(np.float32) / 8
    for start in range(0, n_tiles, _SHARD):
        part = narrow.X[start : start + _SHARD].astype(np.float32)
        shards.append(folder / "net" / f"part-{len(shards):05d}.h5")
        writer = ShardWriter(
            shards[-1],
            pd.Series(np.arange(start, start + len(part))),
            {CUT: (n_features,)},
            dtype="float16",
            attributes={"weights_sha256": "made"},
        )
        writer.append(
            {
                CUT: np.maximum(
                    part @ mix + rng.standard_normal((len(part), n_features), np.float32), 0
                )
            },
            [""] * len(part),
        )
        writer.close()
    write_virtual(folder / "net.h5", shards)
    np.savez(folder / "labels.npz", Y=narrow.Y, area=narrow.area)


def measure_case(case: Case, folder: Path) -> dict[str, float]:
    """Cross-fit one model on its cut, in this process."""
    folder = ensure_written(case, folder)
    with np.load(folder / "labels.npz") as labels:
        Y, area = labels["Y"][:, : case.n_targets], labels["area"]
    X = open_features([(folder / "net.h5", CUT)], np.arange(len(Y)), memory=None)
    seconds, fitted = _cross_fit(
        case.model, X, Y, _folds(area), **({"n_estimators": case.n_rounds} if case.n_rounds else {})
    )
    r2 = 1 - ((fitted.predicted - Y) ** 2).mean(axis=0) / Y.var(axis=0)
    peak = peak_rss_bytes() / GIB
    return {"peak_gib": peak, "seconds": seconds, "r2": float(r2.mean())}


def scaling_rows(sizes: Sequence[int] = SIZES, *, n_features: int = 512) -> Iterator[Row]:
    """Slope of log time over log tiles, all folds and seven targets; boosting stops later where
    there is more to learn.
    """
    largest = plant(max(sizes), n_features)
    for model, goal in SLOPES.items():
        seconds, rounds = [], []
        for n in sizes:
            data = largest._replace(X=largest.X[:n], Y=largest.Y[:n], area=largest.area[:n])
            took, fitted = _cross_fit(model, Features(data.X), data.Y, _folds(data.area))
            seconds.append(took)
            rounds.append(
                np.mean(
                    [
                        chosen.get("rounds", 1)
                        for target in fitted.chosen
                        for chosen in target.values()
                    ]
                )
            )
        at, slope = f"at {', '.join(map(str, sizes))} tiles", _slope(sizes, seconds)
        yield Row(
            f"{model}: slope of time in tiles",
            f"{_list(seconds, ' s')} {at}",
            slope,
            at_most=goal,
            digits=2,
        )
        if max(rounds) > 1:
            a_round = np.divide(seconds, rounds)
            yield Row(
                f"{model}: slope of time a round",
                f"{_list(rounds, '')} rounds {at}",
                _slope(sizes, a_round),
                digits=2,
            )


def _slope(sizes: Sequence[int], values: Sequence[float] | np.ndarray) -> float:
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def _list(values: Sequence[float], unit: str) -> str:
    return ", ".join(f"{value:.1f}{unit}" for value in values)


def _folds(area: np.ndarray) -> Folds:
    fold = assign_folds("area", area=area, xy=None, targets=None, n_folds=5, seed=0, block_m=1)
    return build_folds("area", fold, area=area, xy=None, block_m=1, buffer_m=0)


def _cross_fit(
    model: str, X: Features, Y: np.ndarray, folds: Folds, **params: int
) -> tuple[float, CrossFit]:
    family, start = build_model(parse_model(model), seed=0, params=params), time.perf_counter()
    fitted = family.cross_fit(X, Y, folds=folds, weight=np.ones(len(Y)))
    return time.perf_counter() - start, fitted


TABLES: dict[str, Callable[[], Iterator[Row]]] = {
    "memory": lambda: memory_rows(WIDE),
    "million": lambda: memory_rows(MILLION),
    "scaling": scaling_rows,
}


def main() -> None:
    """Print the tables, or one case as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=list(TABLES), help="one table")
    parser.add_argument(
        "--case",
        nargs=5,
        metavar=("MODEL", "TILES", "FEATURES", "TARGETS", "ROUNDS"),
        help="one model's memory, as JSON",
    )
    parser.add_argument(
        "--folder", type=Path, help="where the cut of the case lies, or is to be written"
    )
    asked = parser.parse_args()
    if asked.case:
        if asked.folder is None:
            parser.error("--case needs --folder")
        case = Case(asked.case[0], *map(int, asked.case[1:]))
        print(json.dumps(measure_case(case, asked.folder)))
        return
    print(
        render_table(
            [row for name in ([asked.only] if asked.only else TABLES) for row in TABLES[name]()]
        )
    )


if __name__ == "__main__":
    main()
