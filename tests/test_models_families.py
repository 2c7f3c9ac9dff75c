"""Every family meets one contract, finds a planted truth, and finds nothing where nothing is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from models.family import Family
from models.folds import make_folds
from models.head import Head
from models.keep import load_model, save_model
from models.registry import BLIND, NAMES, build_model
from models.ridge import SharedRidge

LEARNERS = [name for name in NAMES if name not in BLIND]
RNG = np.random.default_rng(0)
N = 300
AREA = np.repeat(np.arange(60), 5)
XY = RNG.uniform(0, 1e4, (N, 2))
SIGNAL = RNG.normal(size=N)
X = np.column_stack([np.tile(SIGNAL[:, None], 8) + 0.5 * RNG.normal(size=(N, 8)), RNG.normal(size=(N, 12))]).astype(np.float32)
Y = np.column_stack([SIGNAL + 0.3 * RNG.normal(size=N), 5 - 2 * SIGNAL, RNG.permutation(SIGNAL)])
INNER = make_folds("area", area=AREA, xy=XY, n_folds=4, seed=0, block_m=1)


def fitted(name: str, labels: np.ndarray = Y) -> Family:
    return build_model(name, seed=3).fit(X[:200], labels[:200], inner=INNER[:200], xy=XY[:200])


@pytest.mark.parametrize("name", NAMES)
def test_contract(name: str, tmp_path: Path) -> None:
    labels = Y.copy()
    labels[:20, 1], labels[:, 2] = np.nan, 4.0
    model = fitted(name, labels)
    predicted = model.predict(X[200:], XY[200:])
    assert predicted.shape == (100, 3)
    assert predicted.dtype == np.float64
    assert np.isfinite(predicted).all()
    np.testing.assert_allclose(predicted[:, 2], 4.0, atol=1e-3)
    assert set(model.chosen_) == {0, 1, 2}
    again = clone(model).fit(X[:200], labels[:200], inner=INNER[:200], xy=XY[:200])
    np.testing.assert_array_equal(again.predict(X[200:], XY[200:]), predicted)
    save_model(tmp_path / "kept", name, model, {})
    np.testing.assert_array_equal(load_model(tmp_path / "kept").predict(X[200:], XY[200:]), predicted)


@pytest.mark.parametrize("name", LEARNERS)
def test_planted_truth_is_found_and_noise_is_not(name: str) -> None:
    predicted, truth = fitted(name).predict(X[200:]), Y[200:]
    r2 = 1 - ((predicted - truth) ** 2).mean(axis=0) / truth.var(axis=0)
    assert (r2[:2] > 0.5).all(), r2
    assert r2[2] < 0.1, r2


def test_ridge_equals_scikit_learn() -> None:
    for part in (slice(0, 200), slice(0, 15)):
        model = SharedRidge(alphas=(3.0,)).fit(X[part], Y[part], inner=INNER[part])
        scaler = StandardScaler().fit(X[part])
        theirs = Ridge(alpha=3.0).fit(scaler.transform(X[part]), Y[part])
        np.testing.assert_allclose(model.predict(X), theirs.predict(scaler.transform(X)), atol=1e-4)


def test_towers_do_not_depend_on_each_other_stopping() -> None:
    model = Head(epochs=60, seed=1).fit(X, Y, inner=INNER)
    epochs = [model.chosen_[t]["epochs"] for t in range(3)]
    assert epochs[2] < epochs[0]
    assert model.weights_[0].shape == (3, 20, 64)


def test_location_without_coordinates_says_what_to_do() -> None:
    with pytest.raises(ValueError, match="set x and y"):
        build_model("location", seed=0).fit(X, Y, inner=INNER)


def test_unknown_model_gives_the_nearest() -> None:
    with pytest.raises(ValueError, match="Did you mean 'ridge'"):
        build_model("rigde", seed=0)


def test_importing_models_loads_no_network_library() -> None:
    code = "import models.cli, sys; assert not {'keras', 'tensorflow'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
