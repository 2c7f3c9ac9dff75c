"""Scores refuse what NumPy would broadcast, and say how sure they are."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import r2_score

from models.bootstrap import bootstrap_intervals
from models.scores import score, score_levels

RNG = np.random.default_rng(1)
AREA = RNG.integers(0, 60, 500)


@pytest.mark.parametrize(("truth", "predicted", "text"), [
    (np.zeros(3), np.zeros((3, 1)), "same shape"), (np.zeros((3, 1)), np.zeros((3, 1)), "same shape"),
    (np.zeros(0), np.zeros(0), "at least one"), (np.array([1, np.nan]), np.zeros(2), "finite")])
def test_scores_refuse(truth: np.ndarray, predicted: np.ndarray, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        score(truth, predicted)


def test_scores_are_scikit_learns_and_a_constant_has_no_r2() -> None:
    truth = RNG.normal(size=50)
    predicted = truth + 0.5 * RNG.normal(size=50)
    assert score(truth, predicted)["r2"] == pytest.approx(r2_score(truth, predicted))
    constant = score_levels(np.full(9, 0.1), RNG.normal(size=9), np.arange(9) % 3)
    assert np.isnan([row["r2"] for row in constant]).all()


def test_intervals_hold_the_score_and_are_wider_for_fewer_areas() -> None:
    truth = RNG.normal(size=60)[AREA]
    predicted = truth + 0.5 * RNG.normal(size=60)[AREA]
    few = bootstrap_intervals(truth, predicted, AREA)
    many = bootstrap_intervals(truth, predicted, np.arange(500))
    assert few["r2_low"] < score(truth, predicted)["r2"] < few["r2_high"]
    assert few["r2_high"] - few["r2_low"] > many["r2_high"] - many["r2_low"]
