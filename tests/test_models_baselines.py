"""The mean, the region's mean, and the place: what each finds where it should, and nothing where it
should not.
"""

from __future__ import annotations

import numpy as np
import pytest

from models.data.features import Features
from models.data.fold_assignment import assign_folds
from models.data.folds import Folds, build_folds
from models.families.baselines import Location, Mean, Region, matern, spread_centres
from models.families.family import Family

RNG = np.random.default_rng(0)
N = 900
AREA = np.repeat(np.arange(180), 5)
XY = RNG.uniform(0, 10_000, (180, 2))[AREA] + RNG.uniform(0, 200, (N, 2))
FIELD = np.sin(XY[:, 0] / 700) + np.cos(XY[:, 1] / 800)
ONES = np.ones(N)


def folds_of(kind: str) -> Folds:
    fold = assign_folds(kind, area=AREA, xy=XY, targets=None, n_folds=4, seed=0, block_m=5000)
    return build_folds(kind, fold, area=AREA, xy=XY, block_m=5000, buffer_m=0)


def r2_of(model: Family, X: np.ndarray, y: np.ndarray, kind: str) -> float:
    predicted = model.cross_fit(
        Features(X), y[:, None], folds=folds_of(kind), weight=ONES
    ).predicted[:, 0]
    return 1 - ((predicted - y) ** 2).mean() / y.var()


def test_a_smooth_field_is_found_between_areas_and_not_across_blocks() -> None:
    y = FIELD + 0.2 * RNG.normal(size=N)
    assert r2_of(Location(n_centres=100), XY, y, "area") > 0.9
    assert r2_of(Location(n_centres=100), XY, y, "block") < 0.4


def test_noise_has_no_place() -> None:
    assert abs(r2_of(Location(n_centres=100), XY, RNG.normal(size=180)[AREA], "area")) < 0.1


def test_the_better_rule_is_chosen_for_each_target() -> None:
    smooth, rough = (
        np.sin(XY[:, 0] / 3000),
        RNG.normal(size=180)[AREA],
    )  # of areas: only their own tiles tell it
    labels = np.column_stack([smooth + 0.5 * RNG.normal(size=N), rough])
    model = Location(n_centres=60).fit(Features(XY), labels, folds=folds_of("random"), weight=ONES)
    assert [chosen["rule"] for chosen in model.chosen_] == ["field", "neighbours"]
    assert model.chosen_[0]["length_m"] >= model.spacing_


def test_a_field_through_all_places_is_the_gaussian_process() -> None:
    xy, y = XY[::5], FIELD[::5] - FIELD[::5].mean()
    folds = folds_of("area").take(np.arange(0, N, 5))
    model = Location(n_centres=180, lengths=(4.0,), noise=(0.1,)).fit(
        Features(xy), y[:, None], folds=folds, weight=np.ones(180)
    )
    model.chosen_ = [{"rule": "field", "length_m": 4.0 * model.spacing_}]
    seen = np.float64(np.float32(xy))
    K = matern(seen, seen, 4.0 * model.spacing_)
    centred = (
        np.eye(180) - 1 / 180
    )  # the mean is no part of the field: both are centred on the training rows
    dual = centred @ np.linalg.solve(centred @ K @ centred + 0.1 * np.eye(180), centred @ y)
    np.testing.assert_allclose(
        model.predict(Features(xy))[:, 0], (K - K.mean(axis=0)) @ dual + y.mean(), atol=1e-3
    )


def test_missing_labels_leave_the_other_target_alone() -> None:
    labels = np.column_stack([FIELD, FIELD])
    labels[:300, 1] = np.nan
    model = Location(n_centres=60).fit(Features(XY), labels, folds=folds_of("area"), weight=ONES)
    alone = Location(n_centres=60).fit(
        Features(XY), labels[:, :1], folds=folds_of("area"), weight=ONES
    )
    np.testing.assert_allclose(
        model.predict(Features(XY))[:, 0], alone.predict(Features(XY))[:, 0], atol=1e-8
    )
    assert np.isfinite(model.predict(Features(XY))).all()


def test_centres_cover_the_places_and_stop_when_there_are_no_more() -> None:
    centres, spacing = spread_centres(XY, 50)
    assert centres.shape == (50, 2)
    assert np.sqrt(((XY[:, None] - centres) ** 2).sum(axis=2).min(axis=1)).max() == pytest.approx(
        spacing
    )
    assert len(spread_centres(np.repeat(XY[:3], 4, axis=0), 50)[0]) == 3


def test_the_mean_is_weighted() -> None:
    weight = np.where(np.arange(N) < 450, 2.0, 0.0001)
    model = Mean().fit(Features(XY), FIELD[:, None], folds=folds_of("area"), weight=weight)
    np.testing.assert_allclose(model.predict(Features(XY))[0, 0], FIELD[:450].mean(), atol=1e-3)


def test_a_region_without_labels_is_given_the_mean_of_all() -> None:
    code, y = (AREA % 3)[:, None].astype(float), np.where(AREA % 3 == 0, np.nan, AREA % 3)[:, None]
    model = Region().fit(Features(code), y, folds=folds_of("area"), weight=ONES)
    np.testing.assert_allclose(
        model.predict(Features(np.array([[0.0], [1], [2], [9]])))[:, 0], [1.5, 1, 2, 1.5]
    )
