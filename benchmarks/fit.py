"""The fitting beside the loop that a careful user writes, and its other goals: `make bench-fit`.

Example: python -m benchmarks.fit --quick
         python -m benchmarks.fit --only loop --only targets
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import joblib
import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler
from xgboost import XGBRegressor

from benchmarks import wide
from benchmarks.planted import N_TARGETS, Planted, plant
from benchmarks.rows import Row, save_rows
from models.data.features import Features
from models.data.fold_assignment import assign_folds
from models.data.folds import Folds, build_folds
from models.data.model_names import parse_model
from models.families.fit_results import CrossFit
from models.families.linear.ridge import ALPHAS
from models.families.neighbour_search import N_NEIGHBORS, WEIGHTS
from models.families.registry import build_model
from models.families.trees.boosting import Boosting

FAMILIES = ("ridge", "knn", "xgboost", "forest", "extratrees")
SHARED = ("ridge", "knn", "xgboost")  # families whose folds and targets share work
FASTER = 8.0  # of these together
FASTER_TREES = {"forest": 1.0, "extratrees": 3.5}  # forest is scikit-learn's own
LOST = 0.005
TARGETS_GOAL = {
    "ridge": 1.1,
    "knn": 1.1,
    "xgboost": 5.0,
    "forest": 7.0,
    "extratrees": 7.0,
}  # seven targets, in times of one
SECOND_RUN_S = 5.0
_SHORT_S = 20.0  # what takes less is measured three times


class Size(NamedTuple):
    """How much is measured: tiles, features, folds, and how many (target, fold) pairs of the
    careful user's loop.
    """

    tiles: int = 12_000
    features: int = 512
    folds: int = 5
    pairs: int = 5


QUICK = Size(tiles=2_000, features=128, folds=4, pairs=2)


class Bench(NamedTuple):
    """The planted data and its folds."""

    size: Size
    data: Planted
    folds: Folds

    def fit(self, family: str, columns: list[int]) -> tuple[CrossFit, float]:
        """Cross-fit one family on some targets; give it and the seconds."""
        start = time.perf_counter()
        model, weight = build_model(parse_model(family), seed=0), np.ones(len(self.data.X))
        fitted = model.cross_fit(
            Features(self.data.X), self.data.Y[:, columns], folds=self.folds, weight=weight
        )
        return fitted, time.perf_counter() - start


@lru_cache(maxsize=2)
def prepare(size: Size) -> Bench:
    """Plant the data, and deal whole areas into folds."""
    data = plant(size.tiles, size.features)
    fold = assign_folds(
        "area", area=data.area, xy=None, targets=data.Y, n_folds=size.folds, seed=0, block_m=1
    )
    return Bench(
        size, data, build_folds("area", fold, area=data.area, xy=None, block_m=1, buffer_m=0)
    )


@lru_cache(maxsize=len(FAMILIES))
def fit_all(size: Size, family: str) -> tuple[CrossFit, float]:
    """Cross-fit one family on all targets, once for every part that asks; warm, so that it loads no
    library.
    """
    prepare(QUICK).fit(family, [0])
    return prepare(size).fit(family, list(range(N_TARGETS)))


def careful(family: str, inner: int) -> Any:
    """What a careful user writes, with the choices and the settings that ours has."""

    def search(model: Any, grid: dict[str, list[Any]]) -> GridSearchCV:
        return GridSearchCV(
            model, grid, cv=GroupKFold(inner), scoring="neg_mean_squared_error", n_jobs=-1
        )

    if family == "ridge":
        return search(make_pipeline(StandardScaler(), Ridge()), {"ridge__alpha": list(ALPHAS)})
    if family == "knn":
        model = make_pipeline(StandardScaler(), Normalizer(), KNeighborsRegressor())
        grid = {"n_neighbors": list(N_NEIGHBORS), "weights": list(WEIGHTS)}
        return search(
            model, {f"kneighborsregressor__{name}": choices for name, choices in grid.items()}
        )
    if family in ("forest", "extratrees"):
        return RandomForestRegressor(
            100, max_features=1 / 3, min_samples_leaf=3, random_state=0, n_jobs=-1
        )
    ours = Boosting()
    model = XGBRegressor(
        max_depth=ours.max_depth,
        learning_rate=ours.learning_rate,
        colsample_bytree=ours.colsample_bytree,
        colsample_bynode=ours.colsample_bynode,
        subsample=ours.subsample,
        min_child_weight=ours.min_child_weight,
        max_bin=ours.max_bin,
        random_state=0,
        n_jobs=1,
    )
    return search(model, {"n_estimators": [50, 100, 200, 400]})


def run_careful(
    bench: Bench, family: str, pairs: list[tuple[int, int]]
) -> tuple[list[NDArray[np.float64]], float]:
    """Do some (target, fold) steps of the careful user's loop; give their predictions and the
    seconds.
    """
    X, predicted, start = bench.data.X.astype(np.float32), [], time.perf_counter()
    for target, fold in pairs:
        train, held = (bench.folds.fold != fold), (bench.folds.fold == fold)
        model = careful(family, bench.size.folds - 1)
        groups = {"groups": bench.data.area[train]} if isinstance(model, GridSearchCV) else {}
        predicted.append(
            model.fit(X[train], bench.data.Y[train, target], **groups).predict(X[held])
        )
    return predicted, time.perf_counter() - start


def loop_rows(size: Size, families: Sequence[str]) -> Iterator[Row]:
    """Number 1: the grid beside the careful user's loop, of which random (target, fold) steps stand
    for all.
    """
    bench = prepare(size)
    joblib.Parallel(n_jobs=-1)(
        joblib.delayed(time.sleep)(0.5) for _ in range(2 * joblib.cpu_count())
    )  # their workers are up
    every = [(t, f) for t in range(N_TARGETS) for f in bench.folds.folds]
    seconds = np.zeros(2)
    for family in families:
        picked = np.random.default_rng(0).choice(len(every), size.pairs, replace=False)
        pairs = [every[i] for i in picked]
        fitted, ours = fit_all(size, family)
        predicted, part = run_careful(bench, family, pairs)
        theirs = part * len(every) / len(pairs)
        held = [
            (bench.data.Y[bench.folds.fold == f, t], fitted.predicted[bench.folds.fold == f, t])
            for t, f in pairs
        ]
        r2 = np.mean(
            [
                [_r2(truth, own), _r2(truth, other)]
                for (truth, own), other in zip(held, predicted, strict=True)
            ],
            axis=0,
        )
        measured = (
            f"{ours:.1f} s beside {theirs:.0f} s ({len(pairs)} of {len(every)} steps took "
            f"{part:.0f} s)"
        )
        goal = FASTER_TREES.get(family)
        yield Row(f"{family}: times faster", measured, theirs / ours, at_least=goal)
        note = f"{r2[0]:.4f} beside {r2[1]:.4f} on those steps"
        yield Row(f"{family}: R² lost", note, float(r2[1] - r2[0]), at_most=LOST, digits=4)
        if family in SHARED:
            seconds += ours, theirs
    note = f"{seconds[0]:.0f} s beside {seconds[1]:.0f} s"
    if set(SHARED) <= set(families):
        together = float(seconds[1] / seconds[0])
        yield Row(f"{', '.join(SHARED)}: times faster", note, together, at_least=FASTER)


def target_rows(size: Size, families: Sequence[str]) -> Iterator[Row]:
    """Number 2: what seven targets cost, in times of one."""
    bench = prepare(size)
    for family in families:
        times = [fit_all(size, family)[1]]
        if times[0] < _SHORT_S:
            times += [bench.fit(family, list(range(N_TARGETS)))[1] for _ in range(2)]
        seven, one = (
            float(np.median(times)),
            float(np.median([bench.fit(family, [t])[1] for t in range(3)])),
        )
        yield Row(
            f"{family}: seven targets",
            f"{seven:.1f} s, one {one:.1f} s (medians of {len(times)} and 3)",
            seven / one,
            at_most=TARGETS_GOAL[family],
        )


def again_rows(size: Size, families: Sequence[str]) -> Iterator[Row]:  # noqa: ARG001
    """Number 5: a second `models fit` with nothing changed, on the full-size grid."""
    from benchmarks.grid import write_grid

    with tempfile.TemporaryDirectory() as folder:
        small = {"n_tiles": 2_000, "n_areas": 300, "n_cuts": 2} if size == QUICK else {}
        write_grid(Path(folder), **small)
        command, seconds = (
            [sys.executable, "-m", "models", "fit", "--config", str(Path(folder) / "grid.toml")],
            [],
        )
        for _ in range(2):
            start = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            seconds.append(time.perf_counter() - start)
    note = f"scoring the made grid took {seconds[0]:.0f} s"
    yield Row("nothing changed", note, seconds[1], at_most=SECOND_RUN_S, unit="s")


def memory_rows(size: Size, families: Sequence[str]) -> Iterator[Row]:  # noqa: ARG001
    """Number 3: peak memory on a flat cut, and at a million tiles."""
    cases = [*wide.WIDE, *wide.MILLION]
    yield from wide.memory_rows([_shrink(case) for case in cases] if size is QUICK else cases)


def _shrink(case: wide.Case) -> wide.Case:
    """Few tiles, and fewer columns: XGBoost's histograms of 25,088 columns take long whatever the
    rows are.
    """
    return case._replace(n_tiles=case.n_tiles // 100, n_features=max(32, case.n_features // 16))


def scaling_rows(size: Size, families: Sequence[str]) -> Iterator[Row]:  # noqa: ARG001
    """Number 4: how time grows with the number of tiles."""
    yield from wide.scaling_rows([n // 10 for n in wide.SIZES] if size is QUICK else wide.SIZES)


PARTS: dict[str, Callable[[Size, Sequence[str]], Iterator[Row]]] = {
    "loop": loop_rows,
    "targets": target_rows,
    "memory": memory_rows,
    "scaling": scaling_rows,
    "again": again_rows,
}


def _r2(truth: NDArray[np.float64], predicted: NDArray[np.float64]) -> float:
    return float(1 - np.mean((truth - predicted) ** 2) / truth.var())


def main() -> None:
    """Measure, print a table with the goals beside, and write `artifacts/bench-fit.json`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="small data: whether it runs, not how fast"
    )
    parser.add_argument(
        "--only", action="append", choices=PARTS, help="one part; may be given again"
    )
    parser.add_argument(
        "--family",
        action="append",
        choices=FAMILIES,
        help="one of `loop` and `targets`; may be given again",
    )
    parser.add_argument(
        "--pairs", type=int, help="(target, fold) steps of the careful user's loop that are run"
    )
    asked = parser.parse_args()
    size = QUICK if asked.quick else Size()
    size = size if asked.pairs is None else size._replace(pairs=asked.pairs)
    warnings.filterwarnings("ignore", category=RuntimeWarning, module="joblib")
    rows: list[Row] = []
    for part in asked.only or PARTS:
        for row in PARTS[part](size, asked.family or FAMILIES):
            rows.append(row)
            print(" | ".join(row.cells), flush=True)
    print(save_rows(Path("artifacts/bench-fit.json"), rows))


if __name__ == "__main__":
    main()
