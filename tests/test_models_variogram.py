"""The range of autocorrelation is found where there is one, and none is claimed elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from models.auditing.places import round_up
from models.auditing.variogram import fit_variogram, spherical


def draw_field(seed: int, range_m: float, n: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Draw places in a square of 20 km, and a Gaussian field with a spherical covariance."""
    rng = np.random.default_rng(seed)
    xy = rng.uniform(0, 20_000, (n, 2))
    covariance = 1 - spherical(cdist(xy, xy), 0.2, 0.8, range_m)
    np.fill_diagonal(covariance, 1.0)
    return xy, np.linalg.cholesky(covariance) @ rng.standard_normal(n)


@pytest.mark.parametrize("range_m", [2_000, 4_000])
def test_the_range_of_a_known_field_is_found_within_a_fifth(range_m: float) -> None:
    fitted = [fit_variogram(*draw_field(seed, range_m)) for seed in range(9)]
    found = [one.range_m for one in fitted if one is not None and one.is_clear]
    assert len(found) >= 7
    assert np.median(found) == pytest.approx(range_m, rel=0.2)


def test_no_range_is_claimed_of_labels_that_lie_anywhere() -> None:
    rng = np.random.default_rng(0)
    fitted = [fit_variogram(rng.uniform(0, 2e4, (300, 2)), rng.normal(size=300)) for _ in range(9)]
    assert sum(one is not None and one.is_clear for one in fitted) <= 1


def test_few_areas_equal_labels_and_one_place_have_no_variogram() -> None:
    xy, values = draw_field(0, 3_000)
    assert fit_variogram(xy[:20], values[:20]) is None
    assert fit_variogram(xy, np.zeros(300)) is None
    assert fit_variogram(np.zeros((300, 2)), values) is None


def test_missing_labels_are_left_out() -> None:
    xy, values = draw_field(0, 3_000)
    some = np.append(values, np.nan)
    places = np.vstack([xy, [[0.0, 0.0]]])
    first = fit_variogram(xy, values)
    second = fit_variogram(places, some)
    assert first is not None
    assert second is not None
    assert first.range_m == second.range_m


def test_metres_are_rounded_up_to_two_figures() -> None:
    assert [round_up(m) for m in (0.4, 87.2, 2_341.0, 12_000.0)] == [1, 88, 2400, 12000]
