"""Ridge equals scikit-learn's, however the work is shared, and says what it could not do."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from models.data.features import Features
from models.data.fold_assignment import assign_folds
from models.data.folds import Folds, build_folds
from models.families.linear import iterative_ridge
from models.families.linear.ridge import SharedRidge

RNG = np.random.default_rng(0)
N, ALPHAS = 240, (1.0, 30.0, 1000.0)
AREA = np.repeat(np.arange(60), 4)
XY = RNG.uniform(0, 8000, (60, 2))[AREA] + RNG.uniform(0, 200, (N, 2))
WEIGHT = RNG.uniform(0.2, 1.8, N)
WEIGHT /= WEIGHT.mean()
LIMITS = {"gram": 4096, "dual": 4096, "iterative": 4}


@pytest.fixture(autouse=True)
def _one_thread():
    with threadpool_limits(1):  # matrices as small as these only wait for a second
        yield


def folds_of(kind: str, buffer_m: float = 0, n_folds: int = 4) -> Folds:
    fold = assign_folds(kind, area=AREA, xy=XY, targets=None, n_folds=n_folds, seed=0, block_m=2000)
    return build_folds(kind, fold, area=AREA, xy=XY, block_m=2000, buffer_m=buffer_m)


def planted(n_features: int, *, missing: bool = False) -> tuple[np.ndarray, np.ndarray]:
    X = (RNG.normal(size=(N, n_features)) * RNG.uniform(0.1, 30, n_features) + 200).astype(
        np.float16
    )
    X[:, 0] = 0
    coef = (
        RNG.normal(size=(n_features, 3))
        / np.sqrt(n_features)
        / X.astype(float).std(axis=0).clip(1e-3)[:, None]
    )
    Y = X.astype(float) @ coef + RNG.normal(size=(N, 3)) + [0, 50, -3]
    if missing:
        Y[RNG.choice(N, 50, replace=False), 1] = np.nan
        Y[:20, 2] = np.nan
    return X, Y


def theirs(X: np.ndarray, y: np.ndarray, rows: np.ndarray, alpha: float):
    rows = rows[np.isfinite(y[rows])]
    model = make_pipeline(StandardScaler(), Ridge(alpha))
    weights = {"standardscaler__sample_weight": WEIGHT[rows], "ridge__sample_weight": WEIGHT[rows]}
    return model.fit(X[rows].astype(float), y[rows], **weights)


def choose(X: np.ndarray, y: np.ndarray, folds: Folds, outer: frozenset[int]) -> float:
    errors = np.zeros(len(ALPHAS))
    for p in set(folds.parts) - outer:
        asked = np.intersect1d(folds.held(frozenset({p})), folds.training(outer))
        asked = asked[np.isfinite(y[asked])]
        for i, alpha in enumerate(ALPHAS):
            predicted = theirs(X, y, folds.training(outer | {p}), alpha).predict(
                X[asked].astype(float)
            )
            errors[i] += WEIGHT[asked] @ (predicted - y[asked]) ** 2
    return ALPHAS[errors.argmin()]


@pytest.mark.parametrize(
    ("kind", "buffer_m", "n_folds", "missing"),
    [
        ("random", 0, 4, True),
        ("block", 300, 4, False),
        ("block", 300, 4, True),
        ("area", 0, 2, False),
    ],
)
@pytest.mark.parametrize(("solver", "n_features"), [("gram", 20), ("dual", 250), ("iterative", 40)])
def test_every_fold_and_choice_equals_a_loop_over_scikit_learn(
    solver: str, n_features: int, kind: str, buffer_m: float, n_folds: int, missing: bool
) -> None:
    X, Y = planted(n_features, missing=missing)
    folds = folds_of(kind, buffer_m, n_folds)
    ours = SharedRidge(ALPHAS, LIMITS[solver]).cross_fit(
        Features(X), Y, folds=folds, weight=WEIGHT, nested=n_folds > 2
    )
    for t in range(3):
        for f in folds.folds:
            outer, rows = folds.parts_of(f), folds.held(folds.parts_of(f))
            alpha = choose(X, Y[:, t], folds, outer)
            assert ours.chosen[t][str(f)] == {"alpha": alpha}
            expected = theirs(X, Y[:, t], folds.training(outer), alpha).predict(
                X[rows].astype(float)
            )
            np.testing.assert_allclose(ours.predicted[rows, t], expected, atol=1e-4)
    if ours.nested is not None:
        outer, rows = folds.parts_of(2, 1), folds.held(folds.parts_of(2))
        expected = theirs(
            X, Y[:, 0], folds.training(outer), choose(X, Y[:, 0], folds, outer)
        ).predict(X[rows].astype(float))
        np.testing.assert_allclose(ours.nested[rows, 0], expected, atol=1e-4)


@pytest.mark.parametrize("limit", [4096, 4])
def test_fit_alone_equals_scikit_learn(limit: int) -> None:
    X, Y = planted(20)
    model = SharedRidge((30.0,), limit).fit(Features(X), Y, folds=folds_of("area"), weight=WEIGHT)
    expected = theirs(X, Y[:, 1], np.arange(N), 30.0).predict(X.astype(float))
    np.testing.assert_allclose(model.predict(Features(X))[:, 1], expected, atol=1e-4)
    assert model.chosen_[1] == {"alpha": 30.0}


def test_a_value_unseen_in_training_changes_nothing() -> None:
    folds, (X, Y) = folds_of("area"), planted(5)
    rare = np.where(folds.fold == 1, 1.0, 0.0)[:, None] * (np.arange(N) % 7 == 0)[:, None]
    plain = SharedRidge(ALPHAS).cross_fit(Features(X), Y, folds=folds, weight=WEIGHT)
    beside = SharedRidge(ALPHAS).cross_fit(Features(X, beside=rare), Y, folds=folds, weight=WEIGHT)
    np.testing.assert_allclose(
        beside.predicted[folds.fold == 1], plain.predicted[folds.fold == 1], atol=1e-8
    )


def test_penalties_that_are_not_reached_are_said_and_not_chosen(
    caplog: pytest.LogCaptureFixture,
) -> None:
    X, Y = planted(60)
    X = (
        X.astype(float) @ np.diag(10.0 ** -np.linspace(0, 3, 60)) @ RNG.normal(size=(60, 60))
    ).astype(np.float32)
    with caplog.at_level(logging.WARNING):
        model = SharedRidge((1e-9, 1e4), 4).fit(
            Features(X), Y, folds=folds_of("area"), weight=WEIGHT
        )
    assert "penalties up to 1e-09" in caplog.text
    assert [c["alpha"] for c in model.chosen_] == [1e4] * 3
    with pytest.raises(ValueError, match=r"could be solved.*ridge\+pca"):
        SharedRidge((1e-9,), 4).fit(Features(X), Y, folds=folds_of("area"), weight=WEIGHT)


def test_one_fold_alone_takes_a_penalty_of_the_number_of_columns() -> None:
    X, Y = planted(20)
    folds = Folds(
        kind="area", part=np.zeros(N, dtype=np.int64), near=np.zeros((N, 0), dtype=np.bool_)
    )
    model = SharedRidge().fit(Features(X), Y, folds=folds, weight=WEIGHT)
    assert model.chosen_[0]["alpha"] == pytest.approx(10**1.5)


def test_iterating_ends_once_smaller_penalties_predict_worse(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (X, Y), folds, steps = planted(60), folds_of("area"), [0]
    product = iterative_ridge._TrainingSets.product

    def count(*args: np.ndarray) -> np.ndarray:
        steps[0] += 1
        return product(*args)

    monkeypatch.setattr(iterative_ridge._TrainingSets, "product", count)
    Y = Y + 20 * RNG.normal(size=Y.shape)  # noise asks for a large penalty
    early = SharedRidge(exact_limit=4).cross_fit(Features(X), Y, folds=folds, weight=WEIGHT)
    n_early, steps[0] = steps[0], 0
    monkeypatch.setattr("models.families.linear.ridge._is_past", lambda _: False)
    late = SharedRidge(exact_limit=4).cross_fit(Features(X), Y, folds=folds, weight=WEIGHT)
    exact = SharedRidge().cross_fit(Features(X), Y, folds=folds, weight=WEIGHT)
    assert early.chosen == late.chosen == exact.chosen
    np.testing.assert_allclose(early.predicted, exact.predicted, atol=1e-3)
    assert 2 * n_early < steps[0]
