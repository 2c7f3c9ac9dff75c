"""The area of applicability is that of Meyer and Pebesma 2021, as CAST computes it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from extract.config.arrays import Floats
from models.data.features import Features
from models.families.linear.ridge import SharedRidge
from models.families.pca import Reduced
from models.uncertainty.applicability import (
    Applicability,
    measure_applicability,
    read_applicability,
)

# elevation, wetness index and NDRE of the 30 training points of CAST's own tests (cookfarm data:
# Gasch et al. 2015, Spatial Statistics 14:70), whose results CAST publishes in tests/test-aoa.R
COOKFARM = np.array(
    [
        [788.19061, 0.25068989, 4.3042583],
        [788.38135, 0.17546231, 3.8636053],
        [790.52435, 0.22257845, 3.9474876],
        [775.7229, 0.20998451, 5.3957863],
        [796.76184, 0.20026456, 3.5348225],
        [795.83704, 0.21806057, 3.815516],
        [792.73871, 0.33022359, 3.8386574],
        [796.30054, 0.33750296, 4.4172902],
        [804.9502, 0.31636813, 3.7407997],
        [793.09698, 0.21289465, 3.2931051],
        [797.79736, 0.1598898, 3.3906605],
        [774.49786, 0.25695729, 5.8445101],
        [811.68866, 0.41260946, 3.8399599],
        [781.71045, 0.25923058, 4.2746582],
        [785.73065, 0.20196608, 3.8477113],
        [790.78021, 0.15657979, 3.6436048],
        [795.53662, 0.2714276, 3.4812748],
        [805.87317, 0.29698864, 4.3731565],
        [810.93109, 0.26942104, 3.9698389],
        [800.29333, 0.31045514, 3.7119172],
        [813.02368, 0.33225432, 3.8437583],
        [812.26093, 0.30703235, 4.0196934],
        [779.64728, 0.15113619, 6.1365013],
        [784.85376, 0.26106945, 4.2440376],
        [790.16913, 0.1820816, 3.9794691],
        [804.57269, 0.25883493, 3.6891725],
        [809.85712, 0.38481781, 3.4899962],
        [790.69897, 0.25214115, 3.6505766],
        [798.28186, 0.12821652, 3.463331],
        [802.5697, 0.4045954, 3.7887764],
    ]
)
CAST_THRESHOLD = 0.52872
CAST_DENSITY = [7, 9, 12, 1, 12, 12, 4, 2, 8, 10, 6, 1, 3, 4, 11]
CAST_DENSITY += [9, 9, 7, 5, 5, 6, 5, 0, 5, 9, 8, 4, 11, 3, 2]


def measure(X: Floats, fold: Floats, **options: Floats | int) -> Applicability:
    measured = measure_applicability(Features(X.astype(np.float32)), fold, **options)
    assert measured is not None
    return measured


def test_threshold_and_density_are_those_that_cast_publishes() -> None:
    measured = measure(COOKFARM, np.arange(30))
    assert measured.limit == pytest.approx(CAST_THRESHOLD, abs=5e-6)
    found = measured.measure(Features(COOKFARM.astype(np.float32)))
    assert found.value == pytest.approx(np.zeros(30), abs=1e-4)
    assert (found.density - 1).tolist() == CAST_DENSITY  # CAST leaves the point itself out


def test_dissimilarity_is_the_nearest_distance_over_the_mean_distance() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 5)) * [1, 2, 3, 4, 5]
    new = rng.normal(size=(7, 5)) * 4
    slopes = np.array([0.5, -1, 0, 2, 0.1])
    measured = measure(X, np.arange(40) % 5, slopes=slopes)
    A, B = X * np.abs(slopes), new * np.abs(slopes)
    between = np.linalg.norm(A[:, None] - A[None], axis=2)
    mean_distance = between.sum() / (40 * 39)
    expected = np.linalg.norm(B[:, None] - A[None], axis=2).min(axis=1) / mean_distance
    assert measured.measure(Features(new.astype(np.float32))).value == pytest.approx(
        expected, rel=1e-4
    )
    is_other = (np.arange(40) % 5)[:, None] != (np.arange(40) % 5)[None]
    training = np.where(is_other, between, np.inf).min(axis=1) / mean_distance
    lower, upper = np.quantile(training, [0.25, 0.75])
    assert measured.limit == pytest.approx(
        min(upper + 1.5 * (upper - lower), training.max()), rel=1e-4
    )


@pytest.mark.parametrize("n_areas", [30, 120])
@pytest.mark.parametrize("n_features", [24, 400])
def test_new_areas_of_the_same_kind_are_rarely_outside(n_areas: int, n_features: int) -> None:
    rng = np.random.default_rng(1)
    loads = rng.normal(size=(6, n_features))
    shares = []
    for seed in range(5):

        def draw(n: int) -> Floats:
            area = np.repeat(rng.normal(size=(n, 6)), 4, axis=0)
            tile = rng.normal(size=(4 * n, 6))
            return (area + tile) @ loads + rng.normal(size=(4 * n, n_features))

        fold = np.repeat(rng.permutation(n_areas) % 5, 4)
        measured = measure(draw(n_areas), fold, seed=seed)
        new = measured.measure(Features(draw(60).astype(np.float32)))
        far = measured.measure(Features((draw(5) * 4).astype(np.float32)))
        shares.append(np.mean(new.value > measured.limit))
        assert np.mean(far.value > measured.limit) > 0.9
    assert np.mean(shares) < 0.05


def test_a_column_that_the_model_does_not_use_moves_nothing() -> None:
    rng = np.random.default_rng(2)
    X = rng.normal(size=(50, 3))
    measured = measure(X, np.arange(50) % 5, slopes=np.array([1.0, 1.0, 0.0]))
    moved = X + np.array([0, 0, 1000])
    assert measured.measure(Features(moved.astype(np.float32))).value.max() < 1e-3


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    X = np.random.default_rng(3).normal(size=(30, 300))
    measured = measure(X, np.arange(30) % 5)
    measured.save(tmp_path)
    again = read_applicability(tmp_path)
    assert again is not None
    asked = Features(X[::3].astype(np.float32) + 1)
    assert (again.measure(asked).value == measured.measure(asked).value).all()
    assert again.limit == measured.limit


@pytest.mark.parametrize(
    ("X", "fold"),
    [
        (np.ones((10, 3)), np.arange(10) % 5),
        (np.zeros((10, 0)), np.arange(10) % 5),
        (np.arange(30.0).reshape(10, 3), np.zeros(10, np.int64)),
    ],
)
def test_nothing_to_measure_is_none(X: Floats, fold: Floats) -> None:
    assert measure_applicability(Features(X.astype(np.float32)), fold) is None


def test_slopes_of_ridge_are_what_a_unit_moves() -> None:
    rng = np.random.default_rng(4)
    model = SharedRidge()
    model.coef_ = rng.normal(size=(6, 1))
    assert model.slopes() == pytest.approx(np.abs(model.coef_[:, 0]))
    reduced = Reduced(model, 6)
    axes = np.linalg.qr(rng.normal(size=(9, 6)))[0]
    reduced.axes_ = type("Axes", (), {"axes": axes})
    reduced.fitted_ = model
    moved = reduced.slopes()
    assert moved is not None
    assert (np.abs(axes @ model.coef_)[:, 0] <= moved + 1e-9).all()
