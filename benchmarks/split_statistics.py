"""What splits say beside what is true: few blocks, and places of another kind."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from benchmarks.ridge_rows import N_FOLDS, predict_new, predict_out_of_fold
from benchmarks.rows import Row
from extract.config.arrays import Floats, Ints
from models.data.fold_assignment import assign_folds
from models.evaluation.evaluate import CellName, Evaluated, evaluate_level
from models.evaluation.levels import tile_level

_CELL = [CellName("net/layer:avg", "ridge")]
_N_COLUMNS = 64


def study_blocks(n_sets: int) -> Iterator[Row]:
    """Hold the interval of R² on the split `block` against its truth, with few blocks."""
    for n_blocks, n_areas in ((5, 24), (9, 13), (20, 6), (40, 3)):
        weights = np.random.default_rng(9).standard_normal(_N_COLUMNS) / 8
        sets = [_fit_blocks((9, i), n_blocks, n_areas, weights) for i in range(n_sets)]
        truth = np.median([one.values[0] for one in sets])
        low = np.array([one.scores["r2_low"][0] for one in sets])
        high = np.array([one.scores["r2_high"][0] for one in sets])
        held = (low <= truth) & (truth <= high)
        what = f"{n_blocks} blocks of {n_areas} areas, fitted, {n_sets} sets, seeds (9, i)"
        yield Row("95 % interval of R² on blocks", what, float(held.mean()), at_least=0.9)


def _fit_blocks(seed: tuple[int, int], n_blocks: int, n_areas: int, weights: Floats) -> Evaluated:
    """Fit areas whose columns and errors are half their block's, out of whole blocks."""
    rng = np.random.default_rng(seed)
    block = np.repeat(np.arange(n_blocks), n_areas)
    drawn = _draw_correlated(rng, block, _N_COLUMNS + 1)
    X = drawn[:, :-1]
    y = X @ weights + drawn[:, -1]
    fold = rng.permutation(n_blocks)[block] % N_FOLDS
    predicted = predict_out_of_fold(y, X, fold)
    area = np.arange(len(y))
    rows = tile_level(y, predicted[:, None], area=area, unit=block)
    return evaluate_level(rows, _CELL, seed=0)


def _draw_correlated(rng: np.random.Generator, group: Ints, n_columns: int) -> Floats:
    """Draw columns of variance 1, half of which is shared in a group: (n, n_columns)."""
    n_groups = int(group.max()) + 1
    shared = rng.standard_normal((n_groups, n_columns))[group]
    own = rng.standard_normal((len(group), n_columns))
    return np.sqrt(0.5) * (shared + own)


def study_cities(n_sets: int) -> Iterator[Row]:
    """Hold R² of the splits `area` and `group` against R² in cities that were never seen."""
    scores: dict[str, list[float]] = {"area": [], "group": [], "another city": []}
    for i in range(n_sets):
        for name, r2 in _score_cities(np.random.default_rng((10, i))).items():
            scores[name].append(r2)
    for name, values in scores.items():
        where = "in another city" if name == "another city" else f"on the split {name!r}"
        what = f"8 cities of 40 areas, {n_sets} sets, seeds (10, i)"
        yield Row(f"mean R² {where}", what, float(np.mean(values)))


def _score_cities(rng: np.random.Generator) -> dict[str, float]:
    """Score by each split, and in eight further cities, whose columns mean something else too."""
    city = np.repeat(np.arange(16), 40)
    common = rng.standard_normal(_N_COLUMNS) / 8
    of_city = rng.standard_normal((16, _N_COLUMNS)) / 8
    X = rng.standard_normal((len(city), _N_COLUMNS))
    X += rng.standard_normal((16, _N_COLUMNS))[city]
    signal = X @ common + 0.5 * np.sum(X * of_city[city], axis=1)
    y = signal + 0.5 * rng.standard_normal(len(city))
    is_known = city < 8
    known = city[is_known]
    found = {}
    for split in ("area", "group"):
        fold = assign_folds(
            split,
            area=np.arange(len(known)),
            group=known,
            xy=None,
            targets=None,
            n_folds=8,
            seed=0,
            block_m=1.0,
        )
        predicted = predict_out_of_fold(y[is_known], X[is_known], fold)
        found[split] = _score(y[is_known], predicted)
    predicted = predict_new(y[is_known], X[is_known], X[~is_known])
    found["another city"] = _score(y[~is_known], predicted)
    return found


def _score(y: Floats, predicted: Floats) -> float:
    """Compute R² over the areas of all cities: what is explained of their spread."""
    error = np.sum((y - predicted) ** 2)
    return float(1 - error / np.sum((y - y.mean()) ** 2))
