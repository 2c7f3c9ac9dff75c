"""Models of classes, compared in pairs over the same resamples."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from models.evaluation.class_compare import Guess, Truth, measure_guesses
from models.evaluation.evaluate import CellName
from models.evaluation.verdicts import Measured, compare_cells

N, N_CLASSES = 300, 4
AREA = np.arange(N) // 3
RNG = np.random.default_rng(0)
CODE = RNG.integers(0, N_CLASSES, AREA.max() + 1)[AREA]


def guess(model: str, right: float, seed: int) -> Guess:
    """Return a cell that finds a share of the areas, and the same class on all their tiles."""
    rng, n_areas = np.random.default_rng(seed), AREA.max() + 1
    found = np.where(rng.random(n_areas) < right, CODE[::3], rng.integers(0, N_CLASSES, n_areas))
    return Guess(CellName("none" if model == "mean" else "net/l:avg", model), found[AREA], found)


def measure(*guesses: Guess, code: np.ndarray = CODE) -> dict[str, Measured]:
    return {m.level: m for m in measure_guesses(list(guesses), Truth(code, AREA, AREA), seed=0)}


def test_values_are_scikit_learns_at_both_levels() -> None:
    one, other = guess("ridge", 0.8, 1), guess("knn", 0.3, 2)
    measured = measure(one, other)
    assert measured["tile"].values == pytest.approx(
        [balanced_accuracy_score(CODE, g.tile) for g in (one, other)]
    )
    assert measured["area"].values == pytest.approx(
        [balanced_accuracy_score(CODE[::3], g.area) for g in (one, other)]
    )
    assert (measured["area"].n, measured["area"].n_units) == (100, 100)
    assert measured["area"].replicates.mean(axis=0) == pytest.approx(
        measured["area"].values, abs=0.02
    )


def test_the_better_is_better_and_equals_are_not_told_apart() -> None:
    rows, (winner,) = compare_cells(
        measure(guess("ridge", 0.8, 1), guess("knn", 0.8, 3), guess("mean", 0.0, 4))["area"]
    )
    verdict = {row["model"]: row["verdict"] for row in rows if row["kind"] == "best against other"}
    assert sorted(verdict.values()) == ["better", "not distinguishable"]
    assert verdict["mean"] == "better"
    assert {row["score"] for row in [*rows, winner]} == {"balanced_accuracy"}
    assert winner["value_corrected"] == pytest.approx(winner["value"], abs=0.06)


def test_models_of_areas_are_compared_at_areas_alone() -> None:
    measured = measure(guess("ridge", 0.8, 1), guess("ridge@area", 0.8, 2))
    assert [cell.model for cell in measured["tile"].cells] == ["ridge"]
    assert [cell.model for cell in measured["area"].cells] == ["ridge", "ridge@area"]


def test_areas_of_which_cells_saw_other_tiles_are_left_out() -> None:
    some = guess("knn", 0.5, 2)
    some.tile[:2], code = -1, CODE.copy()
    code[3:6] = -1
    measured = measure(guess("ridge", 0.8, 1), some, code=code)
    assert (measured["tile"].n, measured["area"].n) == (N - 2 - 3, 100 - 2)
