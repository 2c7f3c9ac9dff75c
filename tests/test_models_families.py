"""Every family meets one contract, finds a planted truth, and finds nothing where nothing is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_families import is_network, learning, mark_networks, quick
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from models.data.features import Features
from models.data.fold_assignment import assign_folds
from models.data.folds import build_folds
from models.data.model_names import BASELINE_FEEDS, FAMILY_NAMES, check_model, parse_model
from models.families.estimator_settings import EstimatorSection
from models.families.family import Family
from models.families.linear.ridge import SharedRidge
from models.families.networks.head import Head
from models.families.registry import BASELINES, FAMILIES, build_model
from models.store.kept_models import load_model, save_model

LEARNERS = [
    name for name in FAMILIES if name not in ("cnn", "tail", "finetune", "logistic")
]  # fed maps: they have tests of their own
# a Gaussian process says so of the target that is constant
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
ESTIMATORS = {
    "svr": EstimatorSection(
        estimator="sklearn.svm.SVR", scale=True, params={"C": 10.0}, grid={"gamma": [0.01, 0.05]}
    ),
    "gp": EstimatorSection(
        estimator="sklearn.gaussian_process.GaussianProcessRegressor",
        params={"normalize_y": True, "alpha": 0.1},
    ),
    "hist": EstimatorSection(
        estimator="sklearn.ensemble.HistGradientBoostingRegressor", params={"max_iter": 40}
    ),
    "gbm": EstimatorSection(
        estimator="lightgbm.LGBMRegressor",
        params={"n_estimators": 40, "min_child_samples": 10},
        grid={"num_leaves": [4, 15]},
    ),
    "xgb": EstimatorSection(estimator="xgboost.XGBRegressor", params={"n_estimators": 40}),
}
SEEING = [*LEARNERS, *ESTIMATORS]
NAMES = [*BASELINES, *SEEING]
RNG = np.random.default_rng(0)
N = 300
AREA = np.repeat(np.arange(60), 5)
XY = RNG.uniform(0, 1e4, (N, 2))
SIGNAL = RNG.normal(size=N)
X = np.column_stack(
    [np.tile(SIGNAL[:, None], 8) + 0.5 * RNG.normal(size=(N, 8)), RNG.normal(size=(N, 12))]
).astype(np.float32)
Y = np.column_stack([SIGNAL + 0.3 * RNG.normal(size=N), 5 - 2 * SIGNAL, RNG.permutation(SIGNAL)])
GIVEN = {"region": (AREA % 7)[:, None].astype(float), "location": XY}
FOLDS = build_folds(
    "area",
    assign_folds("area", area=AREA, xy=XY, targets=None, n_folds=4, seed=0, block_m=1),
    area=AREA,
    xy=XY,
    block_m=1,
    buffer_m=0,
)
TRAIN, TEST = np.arange(200), np.arange(200, N)


def feed(name: str) -> Features:
    return Features(GIVEN.get(name, X))


def fit(model: Family, name: str, labels: np.ndarray, rows: np.ndarray = TRAIN) -> Family:
    return model.fit(
        feed(name).rows(rows), labels[rows], folds=FOLDS.take(rows), weight=np.ones(len(rows))
    )


def build(name: str, params: dict[str, Any]) -> Family:
    if name in ESTIMATORS:
        return ESTIMATORS[name].build(seed=3, task="number")
    return build_model(parse_model(name), seed=3, params=params)


@pytest.mark.parametrize("name", mark_networks(NAMES))
def test_contract(name: str, tmp_path: Path) -> None:
    labels = Y.copy()
    labels[:20, 1], labels[:, 2] = np.nan, 4.0
    model = fit(build(name, quick(name)), name, labels)
    asked = feed(name).rows(TEST)
    predicted = model.predict(asked)
    assert predicted.shape == (100, 3)
    assert predicted.dtype == np.float64
    assert np.isfinite(predicted).all()
    np.testing.assert_allclose(predicted[:, 2], 4.0, atol=1e-3)
    assert len(model.chosen_) == 3
    np.testing.assert_array_equal(fit(clone(model), name, labels).predict(asked), predicted)
    save_model(tmp_path / "kept", name, model, {})
    loaded = load_model(tmp_path / "kept", ESTIMATORS)
    np.testing.assert_array_equal(loaded.predict(asked), predicted)


@pytest.mark.parametrize("name", mark_networks(SEEING))
def test_planted_truth_is_found_and_noise_is_not(name: str) -> None:
    model = fit(build(name, learning(name)), name, Y)
    predicted = model.predict(feed(name).rows(TEST))
    truth = Y[TEST]
    r2 = 1 - ((predicted - truth) ** 2).mean(axis=0) / truth.var(axis=0)
    assert (r2[:2] > 0.5).all(), r2
    assert r2[2] < 0.1, r2


def test_ridge_equals_scikit_learn() -> None:
    for rows in (TRAIN, np.arange(15)):
        model = fit(SharedRidge(alphas=(3.0,)), "ridge", Y, rows)
        scaler = StandardScaler().fit(X[rows])
        theirs = Ridge(alpha=3.0).fit(scaler.transform(X[rows]), Y[rows])
        np.testing.assert_allclose(
            model.predict(Features(X)), theirs.predict(scaler.transform(X)), atol=1e-4
        )


@pytest.mark.slow
def test_each_target_stops_by_itself() -> None:
    model = fit(Head(epochs=60, seed=1), "head", Y, np.arange(N))
    epochs = [model.chosen_[t]["epochs"] for t in range(3)]
    assert epochs[2] < epochs[0]


@pytest.mark.parametrize(
    "name", mark_networks(name for name in NAMES if name != "gp")
)  # slow: it searches a kernel
def test_every_row_is_predicted_by_a_model_that_has_not_seen_its_fold(name: str) -> None:
    """Neither labels nor features of the fold and of its buffer have a part in it, not in a choice,
    a scale or a round.
    """
    folds = build_folds("block", FOLDS.fold, area=AREA, xy=XY, block_m=1, buffer_m=300)
    mine, seen = np.flatnonzero(folds.fold == 2), folds.training(folds.parts_of(2))
    near = np.setdiff1d(np.setdiff1d(np.arange(N), seen), mine)
    assert len(near) > 20
    moved = np.concatenate(
        [mine[::2], near]
    )  # of these features are changed, of the fold's other rows labels alone
    known = Y[:, :1] if is_network(name) else Y  # one target is one network
    given, labels = GIVEN.get(name, X).copy(), known.copy()
    given[moved] = given[moved[::-1]] if name in GIVEN else 20 * given[moved]
    labels[np.concatenate([mine, near])] += 100
    model = build(name, quick(name))
    fit = model.cross_fit(feed(name), known, folds=folds, weight=np.ones(N), nested=True)
    again = model.cross_fit(Features(given), labels, folds=folds, weight=np.ones(N), nested=True)
    rows = mine[1::2]
    np.testing.assert_allclose(again.predicted[rows], fit.predicted[rows], atol=1e-6)
    assert np.abs(again.predicted[seen] - fit.predicted[seen]).max() > 1
    nested = np.concatenate(
        [rows, np.setdiff1d(np.flatnonzero(folds.fold == 3), near)]
    )  # the fold after has not seen it either
    np.testing.assert_allclose(again.nested[nested], fit.nested[nested], atol=1e-6)
    assert np.isfinite(fit.nested).all()
    assert [sorted(one) for one in fit.chosen] == [["0", "1", "2", "3"]] * known.shape[1]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("rigde", "Did you mean 'ridge'"),
        ("ridge@areas", "expected '<family>"),
        ("mean@area", "takes neither"),
        ("ridge+pca:0", "expected"),
    ],
)
def test_unknown_models_say_what_is_known(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_model(name)


def test_every_name_has_a_class() -> None:
    assert set(BASELINE_FEEDS) == set(BASELINES)
    assert set(FAMILY_NAMES) == set(FAMILIES)


def test_names_come_back_as_they_were_written() -> None:
    for name in ("ridge", "ridge@area", "knn+pca:256+groups@area", "stack", "region"):
        assert str(parse_model(name)) == name


def test_help_is_there_before_any_table_or_network_is_loaded() -> None:
    slow = {"pandas", "scipy", "h5py", "vl_convert", "keras"}
    code = (
        "import extract.cli, models.cli, reports.cli, sys; "
        f"found = {slow} & set(sys.modules); assert not found, found"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_importing_models_loads_no_library_that_a_run_with_nothing_to_do_could_do_without() -> None:
    slow = {
        "keras",
        "tensorflow",
        "xgboost",
        "sklearn",
        "scipy.stats",
        "scipy.optimize",
        "scipy.linalg",
        "skops",
        "distributed",
    }
    code = (
        "import models.cli, models.cli_output, models.fit, models.settings, sys; "
        f"found = {slow} & set(sys.modules); assert not found, found"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
