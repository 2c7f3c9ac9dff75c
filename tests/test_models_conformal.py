"""Intervals hold areas that no model has seen as often as they say."""

from __future__ import annotations

import numpy as np
import pytest

from models.uncertainty.conformal import Errors, find_half_width, measure_coverage


def draw(rng: np.random.Generator, n_areas: int) -> Errors:
    """Errors that tiles of an area share in part; from 1 to 30 tiles an area."""
    n_tiles = rng.integers(1, 31, n_areas)
    area = np.repeat(np.arange(n_areas), n_tiles)
    size = np.abs(rng.normal(size=n_areas)[area] * 2 + rng.normal(size=len(area)))
    return Errors(size, area, area % 5)


@pytest.mark.parametrize("nominal", [0.8, 0.95])
def test_a_new_area_is_held_as_often_as_stated(nominal: float) -> None:
    rng, held = np.random.default_rng(0), []
    for _ in range(300):
        width = find_half_width(draw(rng, 100), nominal)
        new = draw(rng, 40)
        held.append(np.mean([(new.size[new.area == a] <= width).mean() for a in range(40)]))
    assert np.mean(held) == pytest.approx(nominal, abs=0.03)


@pytest.mark.parametrize("nominal", [0.8, 0.95])
def test_what_is_measured_fold_by_fold_is_what_a_new_area_meets(nominal: float) -> None:
    rng = np.random.default_rng(1)
    measured = [measure_coverage(draw(rng, 100), nominal) for _ in range(100)]
    assert np.mean([one.coverage for one in measured]) == pytest.approx(nominal, abs=0.03)
    assert measured[0].n_areas == 100


def test_one_score_an_area_is_split_conformal() -> None:
    size = np.arange(1.0, 20.0)  # 19 areas: the 16th of 20 places holds 80 %, the 19th 95 %
    errors = Errors(size, np.arange(19), np.zeros(19, np.int64))
    assert find_half_width(errors, 0.8) == 16
    assert find_half_width(errors, 0.95) == 19


def test_tiles_of_one_large_area_do_not_decide() -> None:
    size = np.r_[np.full(10_000, 100.0), np.ones(99)]
    errors = Errors(
        size, np.r_[np.zeros(10_000, np.int64), np.arange(1, 100)], np.zeros(10_099, np.int64)
    )
    assert find_half_width(errors, 0.95) == 1


def test_too_few_areas_give_no_interval() -> None:
    assert find_half_width(Errors(np.ones(3), np.arange(3), np.zeros(3, np.int64)), 0.95) == float(
        "inf"
    )
