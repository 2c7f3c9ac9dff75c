"""Forests: a planted truth is found, nothing is found in noise, labels and weights count as they
should.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.ensemble import ExtraTreesRegressor, RandomForestRegressor

from models.data.features import Features
from models.data.fold_assignment import assign_folds
from models.data.folds import build_folds
from models.families.trees.forest import ExtraTrees, Forest
from models.store.kept_models import load_model, save_model

RNG = np.random.default_rng(0)
N = 400
AREA = np.repeat(np.arange(80), 5)
SIGNAL = np.repeat(RNG.normal(size=80), 5)
X = np.column_stack(
    [SIGNAL[:, None] + 0.7 * RNG.normal(size=(N, 6)), RNG.normal(size=(N, 6))]
).astype(np.float16)
Y = np.column_stack([SIGNAL, np.maximum(SIGNAL, 0), RNG.permutation(80)[AREA]])
ONES = np.ones(N)
FOLD = assign_folds("area", area=AREA, xy=None, targets=None, n_folds=4, seed=0, block_m=1)
FOLDS = build_folds("area", FOLD, area=AREA, xy=None, block_m=1, buffer_m=0)


def fit(
    labels: np.ndarray, weight: np.ndarray = ONES, rows: np.ndarray | None = None, **changes: object
) -> Forest:
    rows = np.arange(N) if rows is None else rows
    model = Forest(n_estimators=40, n_jobs=1).set_params(**changes)
    return model.fit(Features(X[rows]), labels[rows], folds=FOLDS.take(rows), weight=weight[rows])


def r2(predicted: np.ndarray, truth: np.ndarray = Y) -> np.ndarray:
    return 1 - ((predicted - truth) ** 2).mean(axis=0) / truth.var(axis=0)


def test_planted_truth_is_found_out_of_fold_and_noise_is_not() -> None:
    found = r2(
        Forest(n_estimators=40, n_jobs=1)
        .cross_fit(Features(X), Y, folds=FOLDS, weight=ONES)
        .predicted
    )
    assert (found[:2] > 0.6).all(), found
    assert found[2] < 0.1, found


@pytest.mark.parametrize(
    ("kind", "regressor", "defaults"),
    [
        (Forest, RandomForestRegressor, {"max_features": 1 / 3, "min_samples_leaf": 3}),
        (ExtraTrees, ExtraTreesRegressor, {"max_features": 12, "min_samples_leaf": 5}),
    ],
)
def test_it_is_the_forest_of_scikit_learn(kind: type, regressor: type, defaults: dict) -> None:
    weight = RNG.uniform(0.5, 2, N)
    labels = Y.copy()
    labels[RNG.random(N) < 0.2, 0] = np.nan
    ours = kind(n_estimators=20, seed=7).fit(Features(X), labels, folds=FOLDS, weight=weight)
    for t in range(3):
        known = np.isfinite(labels[:, t])
        theirs = regressor(20, random_state=7, **defaults)
        theirs.fit(X[known], labels[known, t], sample_weight=weight[known])
        np.testing.assert_allclose(
            ours.predict(Features(X))[:, t], theirs.predict(X), rtol=1e-12, atol=1e-12
        )


def test_parameters_go_to_scikit_learn() -> None:
    given = {"n_estimators": 8, "max_features": "log2", "min_samples_leaf": 9}
    theirs = RandomForestRegressor(random_state=0, **given).fit(X, Y[:, 0])
    np.testing.assert_allclose(
        fit(Y[:, :1], **given).predict(Features(X))[:, 0], theirs.predict(X), rtol=1e-12
    )


def test_missing_labels_are_rows_that_were_dropped() -> None:
    labels, known = Y.copy(), RNG.random(N) > 0.3
    labels[~known, 0] = np.nan
    rows = np.flatnonzero(known)
    whole, dropped = fit(labels).predict(Features(X)), fit(Y, rows=rows).predict(Features(X))
    np.testing.assert_array_equal(whole[:, 0], dropped[:, 0])
    np.testing.assert_array_equal(whole[:, 1], fit(Y).predict(Features(X))[:, 1])


def test_weights_count() -> None:
    labels, weight = (np.arange(N) % 2).astype(float)[:, None], np.where(np.arange(N) % 2, 1.5, 0.5)
    one_leaf = {"n_estimators": 300, "min_samples_leaf": N // 2}
    predicted = fit(labels, weight, **one_leaf).predict(Features(np.zeros_like(X)))
    np.testing.assert_allclose(predicted, 0.75, atol=0.01)


def test_a_target_is_predicted_the_same_whatever_else_and_how_many_threads() -> None:
    together, alone = fit(Y, n_jobs=16), fit(Y[:, [1]])
    np.testing.assert_allclose(
        alone.predict(Features(X))[:, 0], together.predict(Features(X))[:, 1], rtol=1e-12
    )


def test_another_seed_is_another_forest() -> None:
    assert np.abs(fit(Y, seed=1).predict(Features(X)) - fit(Y).predict(Features(X))).max() > 1e-3


def test_prediction_in_pieces_equals_prediction_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = fit(Y)
    whole = model.predict(Features(X))
    monkeypatch.setattr("models.data.features._CHUNK_BYTES", 4 * 12 * 37)
    np.testing.assert_array_equal(model.predict(Features(X)), whole)


def test_a_target_without_a_label_is_an_error() -> None:
    with pytest.raises(ValueError, match="target 0: no labelled tile"):
        fit(np.full((N, 1), np.nan))


def test_a_kept_forest_predicts_the_same(tmp_path: Path) -> None:
    model = fit(Y[:, :1], n_estimators=4)
    save_model(tmp_path / "kept", "forest", model, {})
    np.testing.assert_allclose(
        load_model(tmp_path / "kept").predict(Features(X)), model.predict(Features(X)), atol=1e-6
    )
