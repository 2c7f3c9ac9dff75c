"""Scores refuse what NumPy would broadcast, and are scikit-learn's where it has them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn import metrics

from models.evaluation.bootstrap import draw_units
from models.evaluation.class_scores import CLASS_GREATER_IS_BETTER, score_classes, sum_classes
from models.evaluation.scores import GREATER_IS_BETTER, score

RNG = np.random.default_rng(1)
TRUTH = RNG.normal(size=50)
PREDICTED = np.round(2 * TRUTH + RNG.normal(size=50), 1)


@pytest.mark.parametrize(
    ("truth", "predicted", "text"),
    [
        (np.zeros(3), np.zeros((3, 1)), "same shape"),
        (np.zeros((3, 1)), np.zeros((3, 1)), "same shape"),
        (np.zeros(0), np.zeros(0), "at least one"),
        (np.array([1, np.nan]), np.zeros(2), "finite"),
        (np.zeros(2), np.array([1, np.inf]), "1 NaN or infinite in the prediction"),
    ],
)
def test_scores_refuse(truth: np.ndarray, predicted: np.ndarray, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        score(truth, predicted)


def test_scores_are_those_of_scikit_learn_and_scipy() -> None:
    scores = score(TRUTH, PREDICTED, training_mean=np.full(50, 0.3))
    assert scores["r2"] == pytest.approx(metrics.r2_score(TRUTH, PREDICTED))
    assert scores["mse"] == pytest.approx(metrics.mean_squared_error(TRUTH, PREDICTED))
    assert scores["mae"] == pytest.approx(metrics.mean_absolute_error(TRUTH, PREDICTED))
    assert scores["nrmse"] == pytest.approx(scores["rmse"] / (TRUTH.max() - TRUTH.min()))
    assert scores["spearman"] == pytest.approx(spearmanr(TRUTH, PREDICTED).statistic)
    assert scores["calibration_slope"] == pytest.approx(np.polyfit(PREDICTED, TRUTH, 1)[0])
    assert scores["r2_training_mean"] == pytest.approx(
        1 - scores["mse"] / np.mean((TRUTH - 0.3) ** 2)
    )
    assert list(scores) == list(GREATER_IS_BETTER)


def test_guessing_the_training_mean_is_worth_nothing_against_it_and_less_against_the_test_mean() -> (
    None
):
    scores = score(TRUTH, np.full(50, 0.3), training_mean=np.full(50, 0.3))
    assert scores["r2_training_mean"] == 0
    assert scores["r2"] < 0
    assert np.isnan(scores["spearman"])
    assert np.isnan(scores["calibration_slope"])


def test_a_constant_truth_has_no_r2() -> None:
    scores = score(np.full(9, 0.1), RNG.normal(size=9))
    assert np.isnan([scores[name] for name in ("r2", "nrmse", "spearman")]).all()
    assert np.isfinite(scores["rmse"])


def test_every_score_says_which_end_is_better() -> None:
    assert set(GREATER_IS_BETTER.values()) == {True, False, None}
    assert GREATER_IS_BETTER["r2"]
    assert not GREATER_IS_BETTER["mae"]
    assert not CLASS_GREATER_IS_BETTER["log_loss"]


def make_classes(n: int = 200) -> tuple[np.ndarray, np.ndarray]:
    truth = RNG.choice(4, size=n, p=[0.6, 0.2, 0.2, 0])
    weights = RNG.uniform(size=(n, 4)) + 0.5 * np.eye(4)[truth]
    return truth, weights / weights.sum(axis=1, keepdims=True)


def test_class_scores_are_those_of_scikit_learn() -> None:
    truth, probability = make_classes()
    likeliest, scores = probability.argmax(axis=1), score_classes(truth, probability)
    assert scores["accuracy"] == pytest.approx(metrics.accuracy_score(truth, likeliest))
    assert scores["f1_macro"] == pytest.approx(
        metrics.f1_score(truth, likeliest, average="macro", zero_division=0)
    )
    assert scores["log_loss"] == pytest.approx(
        metrics.log_loss(truth, probability, labels=range(4))
    )
    recalls = metrics.recall_score(truth, likeliest, labels=[0, 1, 2], average="macro")
    assert scores["balanced_accuracy"] == pytest.approx(recalls)


def test_class_intervals_are_those_of_scoring_every_resample() -> None:
    truth, probability = make_classes()
    unit = np.arange(200) // 5
    counts = draw_units(40, 0, 200)
    drawn = [
        score_classes(np.repeat(truth, c[unit]), np.repeat(probability, c[unit], axis=0))
        for c in counts
    ]
    replicates = sum_classes(truth, probability, unit).draw(counts).scores()
    for name in CLASS_GREATER_IS_BETTER:
        np.testing.assert_allclose(replicates[name], [one[name] for one in drawn])


@pytest.mark.parametrize(
    ("truth", "probability", "text"),
    [
        (np.zeros(3, int), np.zeros(3), "n_classes"),
        (np.zeros(2, int), np.full((2, 2), 0.4), "2 rows that do not"),
        (np.array([0, 2]), np.full((2, 2), 0.5), "from 0 to 1"),
        (np.zeros(0, int), np.zeros((0, 2)), "at least one"),
        (np.zeros(1, int), np.array([[np.nan, 1]]), "1 rows"),
        (np.array([0.0]), np.array([[0.5, 0.5]]), "whole numbers"),
    ],
)
def test_class_scores_refuse(truth: np.ndarray, probability: np.ndarray, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        score_classes(truth, probability)
