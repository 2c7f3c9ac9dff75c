"""Intervals hold the truth when areas are drawn, and do not when tiles are; ranks need no ranking
anew.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import rankdata, spearmanr
from threadpoolctl import threadpool_limits

from models.evaluation.bootstrap import bootstrap_scores, draw_units, sum_draws, sum_units
from models.evaluation.ranks import rank_column, rank_influence

TILES = 5  # of each area, in the simulated sets


@pytest.fixture(autouse=True)
def _one_thread():
    with threadpool_limits(1):  # matrices as small as these only wait for a second
        yield


def simulate(n_areas: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return labels, predictions and areas of the tiles of one data set.

    A fixed rule predicts half the label, plus an error of the area and one of the tile, each of
    variance a quarter. Over all areas that could be drawn, its R² is 1 − (1/4 + 1/4 + 1/4) of
    tiles, and 1 − (1/4 + 1/4 + 1/20) of areas of five."""
    rng = np.random.default_rng(seed)
    label, error = rng.normal(size=n_areas), 0.5 * rng.normal(size=n_areas)
    area = np.repeat(np.arange(n_areas), TILES)
    return label[area], (0.5 * label + error)[area] + 0.5 * rng.normal(size=len(area)), area


def holds(truth: np.ndarray, predicted: np.ndarray, unit: np.ndarray, r2: float) -> bool:
    sums = sum_units(truth, predicted[:, None], unit)
    low, high = bootstrap_scores(sums, draw_units(len(sums.n), 0, 500)).r2
    return bool(low[0] <= r2 <= high[0])


def average(values: np.ndarray) -> np.ndarray:
    return values.reshape(-1, TILES).mean(axis=1)


@pytest.mark.parametrize("n_areas", [40, 100])
def test_intervals_of_areas_hold_the_truth(n_areas: int) -> None:
    at_areas, at_tiles = [], []
    for seed in range(200):
        truth, predicted, area = simulate(n_areas, seed)
        at_areas.append(holds(average(truth), average(predicted), np.arange(n_areas), 0.45))
        at_tiles.append(holds(truth, predicted, area, 0.25))
    assert 0.90 <= np.mean(at_areas) <= 0.99
    assert 0.90 <= np.mean(at_tiles) <= 0.99


def test_intervals_of_tiles_drawn_as_if_they_were_independent_do_not_hold_the_truth() -> None:
    """Neither of the tiles' R², nor of the areas' R² when the drawn tiles are averaged by area."""
    at_tiles, at_areas = [], []
    counts = draw_units(100 * TILES, 0, 500).astype(float).reshape(500, 100, TILES)
    n = counts.sum(axis=2)
    for seed in range(200):
        truth, predicted, _ = simulate(100, seed)
        at_tiles.append(holds(truth, predicted, np.arange(len(truth)), 0.25))
        mean = np.einsum("rat,at->ra", counts, predicted.reshape(100, TILES)) / np.where(
            n > 0, n, np.nan
        )
        label = np.where(n > 0, average(truth), np.nan)
        r2 = 1 - np.nanmean((label - mean) ** 2, axis=1) / np.nanvar(label, axis=1)
        low, high = np.quantile(r2, [0.025, 0.975])
        at_areas.append(low <= 0.45 <= high)
    assert np.mean(at_tiles) < 0.75
    assert np.mean(at_areas) < 0.75


@pytest.mark.parametrize("step", [0, 0.5])
@pytest.mark.parametrize("noise", [0.6, 3])
def test_ranks_to_first_order_are_those_of_ranking_every_resample(
    step: float, noise: float
) -> None:
    rng = np.random.default_rng(3)
    area = np.unique(rng.integers(0, 80, 300), return_inverse=True)[1]
    truth = rng.normal(size=area.max() + 1)[area]
    predicted = truth + noise * rng.normal(size=300)
    predicted = np.round(predicted / step) * step if step else predicted
    sums, counts = sum_units(truth, predicted[:, None], area), draw_units(int(area.max()) + 1, 0)
    exact = []
    for c in counts:
        rows = np.repeat(np.arange(300), c[area])
        exact.append(np.corrcoef(rankdata(truth[rows]), rankdata(predicted[rows]))[0, 1])
    moved = sum_draws(counts, sums.influence) / sum_draws(counts, sums.n[:, None])
    assert moved.std() == pytest.approx(np.std(exact), rel=0.1)
    ends = np.concatenate(bootstrap_scores(sums, counts).spearman)
    np.testing.assert_allclose(ends, np.quantile(exact, [0.025, 0.975]), atol=0.02)
    assert sums.rho[0] == pytest.approx(spearmanr(truth, predicted).statistic)


def test_influence_is_the_derivative_by_a_rows_weight() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 30, 400), rng.integers(0, 30, 400)
    rho, influence = rank_influence(rank_column(x), rank_column(y))
    rows = np.append(np.arange(400), 7)
    again = rank_influence(rank_column(x[rows]), rank_column(y[rows]))[0]
    assert (again - rho) * 401 == pytest.approx(influence[7], abs=0.02 * np.abs(influence).max())


def test_r2_replicates_are_those_of_scoring_every_resample() -> None:
    truth, predicted, area = simulate(30, 1)
    counts = draw_units(30, 0, 50)
    drawn = bootstrap_scores(sum_units(truth, predicted[:, None], area), counts).r2_replicates[:, 0]
    for c, r2 in zip(counts, drawn, strict=True):
        t, p = np.repeat(truth, c[area]), np.repeat(predicted, c[area])
        assert r2 == pytest.approx(1 - np.mean((t - p) ** 2) / t.var())


def test_intervals_hold_the_score_and_are_wider_for_fewer_units() -> None:
    truth, predicted, area = simulate(60, 5)
    few = bootstrap_scores(sum_units(truth, predicted[:, None], area // 4), draw_units(15, 0))
    many = bootstrap_scores(sum_units(truth, predicted[:, None], area), draw_units(60, 0))
    rmse = np.sqrt(np.mean((truth - predicted) ** 2))
    assert few.rmse.low[0] < rmse < few.rmse.high[0]
    assert few.r2.low[0] < many.r2.low[0] < many.r2.high[0] < few.r2.high[0]


def test_a_constant_truth_and_a_single_unit_have_no_interval_of_r2() -> None:
    predicted = np.random.default_rng(0).normal(size=(12, 1))
    for truth, unit in (
        (np.full(12, 0.1), np.arange(12)),
        (np.full(12, 0.1), np.zeros(12, dtype=int)),
    ):
        drawn = bootstrap_scores(
            sum_units(truth, predicted, unit), draw_units(int(unit.max()) + 1, 0)
        )
        assert np.isnan([*drawn.r2, *drawn.spearman]).all()
