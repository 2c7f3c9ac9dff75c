"""What the statistics say beside what is true, in simulations with known truth: `make
bench-statistics`.

Every row names its seeds: data set i of a study has the seed (study, i).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.ridge_rows import N_FOLDS, predict_out_of_fold
from benchmarks.rows import Row, save_rows
from benchmarks.split_statistics import study_blocks, study_cities
from extract.config.arrays import Array, Floats
from models.data.features import Features
from models.data.fold_assignment import assign_folds
from models.data.folds import build_folds
from models.data.model_names import parse_model
from models.evaluation.bootstrap import bootstrap_scores, draw_units, sum_units
from models.evaluation.comparisons import AGAINST_OTHERS, compare_cells
from models.evaluation.evaluate import CellName, Evaluated, evaluate_level
from models.evaluation.levels import tile_level
from models.evaluation.training_variance import TRAINING_VARIANCE, stretch, widen
from models.families.registry import build_model
from models.uncertainty.applicability import measure_applicability
from models.uncertainty.conformal import (
    Errors,
    choose_out_of_fold,
    find_half_width,
    measure_coverage,
)

N_TRAITS = 6
BOOTSTRAP_ALONE = 1.0  # as if the models were given


class Embeddings(NamedTuple):
    """Areas with a label, and some embeddings of them: y (n,), each X (n, n_columns)."""

    y: Floats
    X: list[Floats]


def draw_embeddings(
    rng: np.random.Generator, n: int, noises: list[float], *, n_columns: int = 256
) -> Embeddings:
    """Draw areas whose traits tell four fifths of the label, and embeddings that blur them."""
    traits = rng.standard_normal((n, N_TRAITS))
    signal = traits.sum(axis=1) / np.sqrt(N_TRAITS)
    y = np.sqrt(0.8) * signal + np.sqrt(0.2) * rng.standard_normal(n)
    shown = traits @ rng.standard_normal((N_TRAITS, n_columns)) / np.sqrt(N_TRAITS)
    blurred = [shown + noise * rng.standard_normal(shown.shape) for noise in noises]
    return Embeddings(y, blurred)


def evaluate_embeddings(seed: tuple[int, int], n: int, noises: list[float]) -> Evaluated:
    """Fit every embedding out of fold, and score it over areas of one tile."""
    rng = np.random.default_rng(seed)
    drawn = draw_embeddings(rng, n, noises)
    fold = rng.permutation(n) % N_FOLDS
    columns = [predict_out_of_fold(drawn.y, X, fold) for X in drawn.X]
    unit = np.arange(n)
    rows = tile_level(drawn.y, np.column_stack(columns), area=unit, unit=unit)
    cells = [CellName(f"net/layer{i}:avg", "ridge") for i in range(len(noises))]
    return evaluate_level(rows, cells, seed=0)


def share_better(evaluated: list[Evaluated], variance: float) -> float:
    """Return in what share of data sets the best cell is called better than some other."""
    found = []
    for one in evaluated:
        rows, _ = compare_cells(replace(one, training_variance=variance))
        verdicts = [row["verdict"] for row in rows if row["kind"] == AGAINST_OTHERS]
        found.append("better" in verdicts)
    return float(np.mean(found))


def study_better(n_sets: int) -> Iterator[Row]:
    """Compare embeddings that tell as much, and embeddings that do not."""
    cases = [(60, 2, 4.0), (200, 2, 4.0), (60, 6, 4.0), (200, 6, 4.0)]
    for n, n_cells, noise in cases:
        noises = [noise] * n_cells
        some = n_sets if n < 200 else n_sets // 3
        sets = [evaluate_embeddings((1, i), n, noises) for i in range(some)]
        what = f"{n_cells} equal embeddings, {n} areas, {some} sets, seeds (1, i)"
        before = share_better(sets, BOOTSTRAP_ALONE)
        yield Row("false better, bootstrap alone", what, before)
        after = share_better(sets, TRAINING_VARIANCE)
        yield Row("false better", what, after, at_most=0.07)
        if n_cells == 2:
            yield Row("variance beside the bootstrap's", what, _compare_variance(sets))
    for n, noises in ((60, [2.5, 2.9]), (200, [2.5, 2.9]), (200, [2.5, 4.5])):
        some = n_sets // 2 if n < 200 else n_sets // 6
        sets = [evaluate_embeddings((2, i), n, noises) for i in range(some)]
        r2 = np.array([one.values for one in sets]).mean(axis=0)
        what = f"true R² {r2[0]:.2f} and {r2[1]:.2f}, {n} areas, {some} sets, seeds (2, i)"
        power = share_better(sets, TRAINING_VARIANCE)
        yield Row("power", what, power)


def _compare_variance(sets: list[Evaluated]) -> float:
    """Return the variance of −log(1 − R²) differences over data sets, over the bootstrap's."""
    differences = []
    variances = []
    for one in sets:
        first, second = stretch(one.values, "r2")
        drawn = stretch(one.replicates, "r2")
        differences.append(first - second)
        variances.append(np.var(drawn[:, 0] - drawn[:, 1]))
    return float(np.var(differences) / np.mean(variances))


def study_r2(n_sets: int) -> Iterator[Row]:
    """Hold the interval of R² against its truth: with given predictions, and with fitting."""
    for n in (40, 200):
        for name in ("normal", "lognormal"):
            held = [_holds(np.random.default_rng((3, i)), n, name) for i in range(n_sets)]
            alone, widened = np.mean(held, axis=0)
            what = f"{name} labels, {n} areas, given predictions, {n_sets} sets, seeds (3, i)"
            yield Row("95 % interval of R², bootstrap alone", what, float(alone))
            yield Row("95 % interval of R²", what, float(widened), at_least=0.9)
    for n in (60, 200):
        some = n_sets // 2 if n < 200 else n_sets // 4
        sets = [evaluate_embeddings((4, i), n, [2.5]) for i in range(some)]
        truth = np.mean([one.values[0] for one in sets])
        ends = np.array([(one.scores["r2_low"][0], one.scores["r2_high"][0]) for one in sets])
        held = (ends[:, 0] <= truth) & (truth <= ends[:, 1])
        what = f"models fitted in every set, {n} areas, {some} sets, seeds (4, i)"
        yield Row("95 % interval of R²", what, float(held.mean()))


def _holds(rng: np.random.Generator, n: int, name: str) -> list[bool]:
    """Return whether the bootstrap's interval of a given rule of R² 0.45 holds it, and whether the
    widened one does.
    """
    label = rng.standard_normal(n)
    error = rng.standard_normal(n)
    if name == "lognormal":
        label = np.exp(label)
        label = (label - np.exp(0.5)) / np.sqrt((np.e - 1) * np.e)
    predicted = 0.5 * label + np.sqrt(0.3) * error
    sums = sum_units(label, predicted[:, None], np.arange(n))
    alone = bootstrap_scores(sums, draw_units(n, 0, 1000)).r2
    r2 = 1 - np.sum((label - predicted) ** 2) / np.sum((label - label.mean()) ** 2)
    widened = widen(alone, np.array([r2]), "r2")
    return [bool(one.low[0] <= 0.45 <= one.high[0]) for one in (alone, widened)]


def study_winner(n_sets: int) -> Iterator[Row]:
    """Hold what the best of 18 equal cells shows against what it keeps."""
    shown = []
    kept = []
    held = []
    for i in range(n_sets):
        rng = np.random.default_rng((5, i))
        truth = rng.standard_normal(100)
        errors = rng.standard_normal((100, 1)) + rng.standard_normal((100, 18))
        predicted = 0.5 * truth[:, None] + np.sqrt(0.15) * errors
        unit = np.arange(100)
        cells = [CellName(f"net/layer{j}:avg", "ridge") for j in range(18)]
        one = evaluate_level(tile_level(truth, predicted, area=unit, unit=unit), cells, seed=0)
        best = int(np.argmax(one.values))
        shown.append(one.values[best] - 0.45)
        kept.append(one.correct() - 0.45)
        held.append(one.scores["r2_low"][best] <= 0.45 <= one.scores["r2_high"][best])
    what = f"best of 18 equal cells of R² 0.45, 100 areas, {n_sets} sets, seeds (5, i)"
    yield Row("shown less true R²", what, float(np.mean(shown)))
    yield Row("where it was not chosen, less true R²", what, float(np.mean(kept)))
    yield Row("95 % interval of the winner", what, float(np.mean(held)))


def study_chosen_intervals(n_sets: int) -> Iterator[Row]:
    """Hold intervals of new areas, of the best of 18 models with correlated errors, 40 areas."""
    for nominal in (0.8, 0.95):
        naive = []
        honest = []
        seen = []
        for i in range(n_sets):
            rng = np.random.default_rng((6, i))
            shared = rng.standard_normal((440, 1))
            errors = np.sqrt(0.5) * (shared + rng.standard_normal((440, 18)))
            known = np.abs(errors[:40])
            fold = rng.permutation(40) % N_FOLDS
            candidates = [Errors(column, np.arange(40), fold) for column in known.T]
            best = int(np.argmin(np.mean(known**2, axis=0)))
            new = np.abs(errors[40:, best])
            naive.append(np.mean(new <= find_half_width(candidates[best], nominal)))
            chosen = choose_out_of_fold(candidates)
            honest.append(np.mean(new <= find_half_width(chosen, nominal)))
            seen.append(measure_coverage(chosen, nominal).coverage)
        what = f"nominal {nominal:.0%}, best of 18, 40 areas, {n_sets} sets, seeds (6, i)"
        yield Row("new areas held, errors of the chosen", what, float(np.mean(naive)))
        low, high = nominal - 0.02, nominal + 0.02
        mean = float(np.mean(honest))
        yield Row("new areas held", what, mean, at_least=low, at_most=high)
        yield Row("new areas held, by the self-check", what, float(np.mean(seen)))


def study_outside(n_sets: int) -> Iterator[Row]:
    """Count new areas of the same kind that are called outside."""
    for n in (30, 100, 400):
        shares = []
        for i in range(n_sets):
            rng = np.random.default_rng((7, i))
            X = rng.standard_normal((n + 200, 64)).astype(np.float32)
            fold = rng.permutation(n) % N_FOLDS
            known = measure_applicability(Features(X[:n]), fold, slopes=None, seed=0)
            if known is not None:
                value = known.measure(Features(X[n:])).value
                shares.append(np.mean(value > known.limit))
        what = f"{n} areas, {n_sets} sets, seeds (7, i)"
        yield Row("exchangeable areas called outside", what, float(np.mean(shares)), at_most=0.05)


def study_weights(n_sets: int) -> Iterator[Row]:
    """Fit tiles weighed by tile and by area, where the number of tiles follows the label."""
    for follows in (0.0, 0.5):
        r2: dict[str, list[float]] = {"tile": [], "area": []}
        for i in range(n_sets):
            rng = np.random.default_rng((8, i))
            for name, value in _fit_weighted(rng, follows).items():
                r2[name].append(value)
        for name, values in r2.items():
            what = f"log tile count moves by −{follows:g} a label's sd, {n_sets} sets, seeds (8, i)"
            yield Row(f"R² of areas, weights {name}", what, float(np.mean(values)))


def _fit_weighted(rng: np.random.Generator, follows: float) -> dict[str, float]:
    n_areas = 150
    drawn = draw_embeddings(rng, n_areas, [2.0], n_columns=64)
    rate = np.exp(1.8 - follows * drawn.y - follows**2 / 2)
    n_tiles = np.maximum(1, rng.poisson(rate))
    area = np.repeat(np.arange(n_areas), n_tiles)
    X = drawn.X[0][area] + 3 * rng.standard_normal((len(area), 64))
    y = drawn.y[area]
    options = {"area": area, "xy": None, "block_m": 1.0}
    fold = assign_folds("area", targets=None, n_folds=N_FOLDS, seed=0, **options)
    folds = build_folds("area", fold, buffer_m=0, **options)
    found = {}
    for name, weight in {"tile": np.ones(len(area)), "area": 1 / n_tiles[area]}.items():
        model = build_model(parse_model("ridge"), seed=0)
        features = Features(X.astype(np.float32))
        weight = weight / weight.mean()
        cross = model.cross_fit(features, y[:, None], folds=folds, weight=weight)
        mean = np.bincount(area, weights=cross.predicted[:, 0]) / n_tiles
        error: Array = drawn.y - mean
        found[name] = float(1 - np.mean(error**2) / drawn.y.var())
    return found


STUDIES: dict[str, tuple[Callable[[int], Iterator[Row]], int]] = {
    "better": (study_better, 200),
    "r2": (study_r2, 200),
    "winner": (study_winner, 60),
    "chosen": (study_chosen_intervals, 200),
    "outside": (study_outside, 20),
    "weights": (study_weights, 12),
    "blocks": (study_blocks, 200),
    "cities": (study_cities, 40),
}


def main() -> None:
    """Print the table, and write `artifacts/bench-statistics.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the data sets")
    parser.add_argument("--only", choices=STUDIES, help="one study")
    asked = parser.parse_args()
    rows = []
    with threadpool_limits(1):  # matrices as small as these only wait for a second
        for name, (study, n_sets) in STUDIES.items():
            if asked.only in (None, name):
                some = max(n_sets // 10, 6) if asked.quick else n_sets
                rows += study(some)
    print(save_rows(Path("artifacts/bench-statistics.json"), rows))


if __name__ == "__main__":
    main()
