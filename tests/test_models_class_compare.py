"""Models of classes, compared in pairs over the same resamples."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from models.data.classes import commonest
from models.evaluation.comparisons import compare_cells
from models.evaluation.evaluate import CellName, Evaluated, evaluate_level
from models.evaluation.levels import area_level
from models.evaluation.score_split import Labelled, score_split

N, N_CLASSES = 300, 4
AREA = np.arange(N) // 3
RNG = np.random.default_rng(0)
CODE = RNG.integers(0, N_CLASSES, AREA.max() + 1)[AREA]
NAMES = {
    "ridge": CellName("net/l:avg", "ridge"),
    "knn": CellName("net/l:avg", "knn"),
    "ridge@area": CellName("net/l:avg", "ridge@area"),
    "mean": CellName("none", "mean"),
}


def guess(right: float, seed: int) -> np.ndarray:
    """Return probabilities that find a share of the areas, the same on all tiles of an area."""
    rng = np.random.default_rng(seed)
    n_areas = AREA.max() + 1
    found = np.where(rng.random(n_areas) < right, CODE[::3], rng.integers(0, N_CLASSES, n_areas))
    return np.eye(N_CLASSES, dtype=np.float32)[found[AREA]]


def evaluate(*guesses: np.ndarray, names: list[str]) -> Evaluated:
    """Evaluate cells at areas."""
    labelled = Labelled(truth=CODE, area=AREA, unit=AREA)
    tiles = labelled.tiles(np.ones(N, dtype=bool), np.stack(guesses, axis=1))
    return evaluate_level(area_level(tiles), [NAMES[name] for name in names], seed=0)


def test_values_are_scikit_learns_at_both_levels() -> None:
    guesses = [guess(0.8, 1), guess(0.3, 2)]
    scored = score_split(
        Labelled(truth=CODE, area=AREA, unit=AREA),
        np.stack(guesses, axis=1),
        [NAMES["ridge"], NAMES["knn"]],
        seed=0,
    )
    for level, step in (("tile", 1), ("area", 3)):
        rows = [row for row in scored.scores if row["level"] == level]
        expected = [
            balanced_accuracy_score(CODE[::step], one[::step].argmax(axis=1)) for one in guesses
        ]
        assert [row["balanced_accuracy"] for row in rows] == pytest.approx(expected)
        assert {row["n"] for row in rows} == {N // step}


def test_replicates_lie_around_the_value() -> None:
    evaluated = evaluate(guess(0.8, 1), guess(0.3, 2), names=["ridge", "knn"])
    assert evaluated.n_units == 100
    assert evaluated.replicates.mean(axis=0) == pytest.approx(evaluated.values, abs=0.02)


def test_the_better_is_better_and_equals_are_not_told_apart() -> None:
    guesses = [guess(0.8, 1), guess(0.8, 3), guess(0.0, 4)]
    rows, (winner,) = compare_cells(evaluate(*guesses, names=["ridge", "knn", "mean"]))
    verdict = {row["model"]: row["verdict"] for row in rows if row["kind"] == "best against other"}
    assert sorted(verdict.values()) == ["better", "not distinguishable"]
    assert verdict["mean"] == "better"
    assert {row["score"] for row in [*rows, winner]} == {"balanced_accuracy"}
    assert winner["value_corrected"] == pytest.approx(winner["value"], abs=0.06)


def test_models_of_areas_are_compared_at_areas_alone() -> None:
    predicted = np.stack([guess(0.8, 1), guess(0.8, 2)], axis=1)
    labelled = Labelled(truth=CODE, area=AREA, unit=AREA)
    scored = score_split(labelled, predicted, [NAMES["ridge"], NAMES["ridge@area"]], seed=0)
    found = {(row["level"], row["model"]) for row in scored.scores}
    assert found == {("tile", "ridge"), ("area", "ridge"), ("area", "ridge@area")}


def test_cells_are_compared_on_the_tiles_that_all_predict() -> None:
    predicted = np.stack([guess(0.8, 1), guess(0.5, 2)], axis=1)
    predicted[:3, 1] = np.nan
    code = CODE.copy()
    code[3:6] = -1
    labelled = Labelled(truth=code, area=AREA, unit=AREA)
    scored = score_split(labelled, predicted, [NAMES["ridge"], NAMES["knn"]], seed=0)
    assert {row["n"] for row in scored.comparisons if row["level"] == "tile"} == {N - 3 - 3}
    assert {row["n"] for row in scored.comparisons if row["level"] == "area"} == {100 - 2}
    assert commonest(code[6:], AREA[6:] - 2).tolist() == CODE[6::3].tolist()
