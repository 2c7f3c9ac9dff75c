"""Gradient boosting: one binning for all targets, rounds chosen on inner folds, streamed,
repeatable.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xgboost
from xgboost import XGBRegressor

from models.data.features import Features
from models.data.fold_assignment import assign_folds
from models.data.folds import Folds, build_folds
from models.families.family import Family
from models.families.trees import binned_matrix, boosting, early_stopping
from models.families.trees.binned_matrix import bin_features, choose_device, share_threads
from models.families.trees.boosting import DEFAULT_ROUNDS, Boosting, JointBoosting
from models.families.trees.early_stopping import neighbours

RNG = np.random.default_rng(0)
N = 400
AREA = np.repeat(np.arange(80), 5)
SIGNAL = np.repeat(RNG.normal(size=80), 5)
X = (
    np.column_stack([SIGNAL[:, None] + 0.7 * RNG.normal(size=(N, 6)), RNG.normal(size=(N, 6))])
    .round(1)
    .astype(np.float16)
)
Y = np.column_stack([SIGNAL, np.maximum(SIGNAL, 0) - 0.3 * SIGNAL, RNG.permutation(80)[AREA]])
ONES = np.ones(N)


def make_folds(n_folds: int = 4) -> Folds:
    fold = assign_folds(
        "area", area=AREA, xy=None, targets=None, n_folds=n_folds, seed=0, block_m=1
    )
    return build_folds("area", fold, area=AREA, xy=None, block_m=1, buffer_m=0)


FOLDS = make_folds()


def small(**changes: object) -> Boosting:
    """Return a model of few rounds."""
    model = Boosting(early_stopping_rounds=5, n_jobs=1, colsample_bytree=0.5)
    return model.set_params(**{"n_estimators": 80, **changes})


def r2(predicted: np.ndarray, truth: np.ndarray = Y) -> np.ndarray:
    return 1 - ((predicted - truth) ** 2).mean(axis=0) / truth.var(axis=0)


def test_planted_truth_is_found_out_of_fold_and_noise_is_not() -> None:
    found = r2(small().cross_fit(Features(X), Y, folds=FOLDS, weight=ONES).predicted)
    assert (found[:2] > 0.5).all(), found
    assert found[2] < 0.1, found


def test_a_target_is_predicted_the_same_whatever_else_is_fitted() -> None:
    together = small().cross_fit(Features(X), Y, folds=FOLDS, weight=ONES, nested=True)
    alone = small().cross_fit(Features(X), Y[:, [1]], folds=FOLDS, weight=ONES)
    np.testing.assert_array_equal(alone.predicted[:, 0], together.predicted[:, 1])
    assert alone.chosen[0] == together.chosen[1]


def test_missing_labels_are_rows_that_were_dropped() -> None:
    labels, known = Y[:, :1].copy(), RNG.random(N) > 0.3
    labels[~known] = np.nan
    model, coarse = (
        small(subsample=1.0),
        np.clip(X.round(), -2, 2),
    )  # every bin is there in the rows that stay
    rows = np.flatnonzero(known)
    whole = model.fit(Features(coarse), labels, folds=FOLDS, weight=ONES).predict(Features(coarse))
    model.fit(Features(coarse[rows]), labels[rows], folds=FOLDS.take(rows), weight=ONES[rows])
    dropped = model.predict(Features(coarse))
    np.testing.assert_allclose(whole, dropped, atol=1e-5)


def test_weights_count() -> None:
    labels = np.where(np.arange(N) % 2, 1.0, 0.0)[:, None]
    weight = np.where(np.arange(N) % 2, 1.5, 0.5)
    noise = Features(np.zeros((N, 2), np.float16))
    np.testing.assert_allclose(
        small(subsample=1.0).fit(noise, labels, folds=FOLDS, weight=weight).predict(noise),
        0.75,
        atol=1e-5,
    )


OWN = ("max_depth", "learning_rate", "subsample", "colsample_bytree", "colsample_bynode")


def own_parameters(model: Boosting) -> dict[str, object]:
    """Return the parameters that a user gives XGBoost, by its own names."""
    names = (*OWN, "min_child_weight", "max_bin")
    return {name: getattr(model, name) for name in names} | {"tree_method": "hist"}


def test_a_user_of_xgboost_gets_the_same() -> None:
    """The same rows, labels, weights, parameters, rounds and seed, of features with many values."""
    rng = np.random.default_rng(5)
    given = rng.normal(size=(N, 12)).astype(np.float32)
    labels = given[:, :2] ** 2 + given[:, [3]] + 0.1 * rng.normal(size=(N, 2))
    weight = rng.uniform(0.5, 2, N)
    for changes in ({"max_bin": 32}, {"max_bin": 256, "colsample_bynode": 0.4, "max_depth": 6}):
        model = small(seed=3, **changes)
        model.fit(Features(given), labels, folds=FOLDS, weight=weight)
        ours = model.predict(Features(given))
        for target in range(2):
            theirs = XGBRegressor(
                n_estimators=model.chosen_[target]["rounds"],
                random_state=3,
                n_jobs=1,
                **own_parameters(model),
            )
            theirs.fit(given, labels[:, target], sample_weight=weight)
            np.testing.assert_allclose(ours[:, target], theirs.predict(given), atol=1e-5)


def test_a_row_without_a_label_weighs_nothing() -> None:
    weight = RNG.uniform(0.5, 2, N)
    labels = Y[:, :1].copy()
    labels[RNG.random(N) < 0.2] = np.nan
    is_known = ~np.isnan(labels[:, 0])
    model = small().fit(Features(X), labels, folds=FOLDS, weight=weight)
    matrix = xgboost.QuantileDMatrix(
        X.astype(np.float32),
        np.where(is_known, labels[:, 0], 0.0),
        weight=weight,
        max_bin=model.max_bin,
        nthread=1,
    )
    matrix.set_weight(np.where(is_known, weight, 0.0))
    parameters = {**own_parameters(model), "seed": model.seed, "nthread": 1}
    own = xgboost.train(parameters, matrix, model.chosen_[0]["rounds"])
    expected = own.predict(xgboost.DMatrix(X.astype(np.float32)))
    np.testing.assert_allclose(model.predict(Features(X))[:, 0], expected, atol=1e-5)


def test_joint_boosting_is_xgboosts_multi_output_tree(tmp_path: Path) -> None:
    model = JointBoosting(n_estimators=30, early_stopping_rounds=5, n_jobs=1)
    model.fit(Features(X), Y, folds=FOLDS, weight=ONES)
    assert model.chosen_ == [model.chosen_[0]] * 3
    theirs = XGBRegressor(
        n_estimators=model.chosen_[0]["rounds"],
        random_state=0,
        n_jobs=1,
        multi_strategy="multi_output_tree",
        **own_parameters(model),
    )
    theirs.fit(X.astype(np.float32), Y)
    ours = model.predict(Features(X))
    np.testing.assert_allclose(ours, theirs.predict(X.astype(np.float32)), atol=1e-5)
    model.save(tmp_path)
    np.testing.assert_allclose(JointBoosting.load(tmp_path).predict(Features(X)), ours, atol=1e-6)


def test_joint_boosting_leaves_out_rows_that_lack_a_label() -> None:
    labels = Y.copy()
    labels[:60, 1] = np.nan
    model = JointBoosting(n_estimators=10, early_stopping_rounds=5, n_jobs=1, subsample=1.0)
    coarse = np.clip(X.round(), -2, 2)
    whole = model.fit(Features(coarse), labels, folds=FOLDS, weight=ONES).predict(Features(coarse))
    rows = np.arange(60, N)
    model.fit(Features(coarse[rows]), Y[rows], folds=FOLDS.take(rows), weight=ONES[rows])
    np.testing.assert_allclose(whole, model.predict(Features(coarse)), atol=1e-5)


def test_the_best_round_is_that_of_the_lowest_error_before_patience_neighbours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[tuple[dict[int, list[float]], dict[int, int]]] = []
    find_best_rounds = early_stopping.find_best_rounds
    logs: list[dict[int, list[float]]] = []
    train = Boosting._train

    def keep(log: early_stopping.Log, patience: int) -> dict[int, int]:
        logs.append({int(part): next(iter(metrics.values())) for part, metrics in log.items()})
        return find_best_rounds(log, patience)

    def spy(self: Boosting, *given: object) -> tuple:
        booster, best = train(self, *given)
        if best:
            seen.append((logs[-1], best))
        return booster, best

    monkeypatch.setattr(early_stopping, "find_best_rounds", keep)
    monkeypatch.setattr(Boosting, "_train", spy)
    small().cross_fit(Features(X), Y[:, :1], folds=FOLDS, weight=ONES)
    assert len(seen) >= 4
    for errors, best in seen:
        for part, of_rounds in errors.items():
            until = np.argmin(of_rounds[: best[part] + 5]) + 1
            assert best[part] == until
        longest = max(best.values())
        assert len(next(iter(errors.values()))) in (80, longest + 5)


def test_a_constant_target_takes_one_round() -> None:
    model = small().fit(Features(X), np.full((N, 1), 3.7), folds=FOLDS, weight=ONES)
    assert model.chosen_ == [{"rounds": 1}]
    np.testing.assert_allclose(model.predict(Features(X)), 3.7, rtol=1e-6)


def test_rounds_are_the_mean_of_the_best_on_both_neighbours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trained: list[tuple[int, dict[int, int]]] = []
    train = Boosting._train

    def spy(self: Boosting, *given: object) -> tuple:
        booster, best = train(self, *given)
        trained.append((booster.num_boosted_rounds(), best))
        return booster, best

    monkeypatch.setattr(Boosting, "_train", spy)
    model = small().fit(Features(X), Y[:, :1], folds=FOLDS, weight=ONES)
    (first, *_), (last, *_) = (list(best.values()) for _, best in trained[:2])
    assert model.chosen_ == [{"rounds": round((first + last) / 2)}]
    assert trained[2] == (model.chosen_[0]["rounds"], {})
    assert len(trained) == 3


@pytest.mark.parametrize(("nested", "sets"), [(False, 8), (True, 12)])
def test_no_set_of_rows_is_trained_on_twice(
    nested: bool, sets: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[frozenset[int]] = []
    boost = Boosting._boost_without
    monkeypatch.setattr(
        Boosting,
        "_boost_without",
        lambda self, table, h, *given: held.append(h) or boost(self, table, h, *given),
    )
    small(n_estimators=3).cross_fit(Features(X), Y, folds=FOLDS, weight=ONES, nested=nested)
    assert len(held) == len(set(held)) == sets


def test_the_parts_watched_are_those_beside_the_held_ones() -> None:
    folds = make_folds(5)
    assert neighbours(folds, frozenset({0})) == [1, 4]
    assert neighbours(folds, frozenset({0, 4})) == [1, 3]
    assert neighbours(folds, frozenset()) == [0, 4]
    assert neighbours(make_folds(3), frozenset({0, 2})) == []


@pytest.mark.parametrize(("n_folds", "buffer_m"), [(5, 0.0), (4, 150.0), (2, 150.0)])
def test_shared_work_gives_what_one_fit_a_fold_gives(n_folds: int, buffer_m: float) -> None:
    place = np.column_stack([AREA % 10 * 100.0, AREA // 10 * 100.0])
    fold = assign_folds(
        "block", area=AREA, xy=place, targets=None, n_folds=n_folds, seed=0, block_m=200
    )
    folds = build_folds("block", fold, area=AREA, xy=place, block_m=200, buffer_m=buffer_m)
    given = {"folds": folds, "weight": RNG.uniform(0.5, 2, N)}
    shared, plain = (
        cross_fit(small(n_estimators=20), Features(X), Y, **given)
        for cross_fit in (Boosting.cross_fit, Family.cross_fit)
    )
    assert shared.chosen == plain.chosen
    np.testing.assert_array_equal(shared.predicted, plain.predicted)


def test_with_three_folds_the_nested_models_take_a_stated_number_of_rounds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(boosting, "DEFAULT_ROUNDS", 7)
    fit = small().cross_fit(Features(X), Y, folds=make_folds(3), weight=ONES, nested=True)
    alone = FOLDS.take(FOLDS.held(frozenset({0})))
    rows = FOLDS.held(frozenset({0}))
    assert (
        small().fit(Features(X[rows]), Y[rows], folds=alone, weight=ONES[rows]).chosen_
        == [{"rounds": 7}] * 3
    )
    assert np.isfinite(fit.nested).all()
    assert DEFAULT_ROUNDS == 100


def test_two_folds_watch_their_halves() -> None:
    fit = small().cross_fit(Features(X), Y, folds=make_folds(2), weight=ONES)
    assert (r2(fit.predicted)[:2] > 0.4).all()


def test_threads_do_not_change_the_result() -> None:
    one, four = (
        small(n_jobs=n).cross_fit(Features(X), Y, folds=FOLDS, weight=ONES).predicted
        for n in (1, 4)
    )
    np.testing.assert_allclose(four, one, atol=1e-5)


def test_binning_in_pieces_equals_binning_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = bin_features(Features(X), weight=ONES, max_bin=16, threads=1)
    monkeypatch.setattr("models.data.features._CHUNK_BYTES", 4 * 12 * 37)
    pieces = bin_features(Features(X, limit=1), weight=ONES, max_bin=16, threads=1)
    assert (pieces.num_row(), pieces.num_col()) == (N, 12)
    np.testing.assert_allclose(
        pieces.get_data().toarray(), whole.get_data().toarray(), atol=0.2
    )  # about the same bins


def test_bins_found_on_a_part_of_the_rows_predict_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    folds, weight = make_folds(), np.ones(N)
    whole = small().cross_fit(Features(X), Y, folds=folds, weight=weight)
    monkeypatch.setattr(binned_matrix, "_SKETCHED", X.shape[1] * N // 8)
    monkeypatch.setattr(binned_matrix, "_FEWEST_SKETCHED", 1)
    part = small().cross_fit(Features(X), Y, folds=folds, weight=weight)
    assert np.abs(part.predicted - whole.predicted).max() > 0
    np.testing.assert_allclose(r2(part.predicted), r2(whole.predicted), atol=0.03)


def test_a_target_without_a_label_is_an_error() -> None:
    with pytest.raises(ValueError, match="target 0: no labelled tile"):
        small().cross_fit(Features(X), np.full((N, 1), np.nan), folds=FOLDS, weight=ONES)


def test_a_kept_model_predicts_the_same(tmp_path: Path) -> None:
    model = small().fit(Features(X), Y, folds=FOLDS, weight=ONES)
    model.save(tmp_path)
    np.testing.assert_allclose(
        Boosting.load(tmp_path).predict(Features(X)), model.predict(Features(X)), atol=1e-6
    )


def test_threads_are_shared_and_large_matrices_go_one_by_one() -> None:
    assert share_threads(8, 5, (1000, 10)) == (5, 1)
    assert share_threads(8, 2, (1000, 10)) == (2, 4)
    assert share_threads(8, 5, (1_000_000, 512)) == (1, 8)
    assert share_threads(8, 5, (500_000, 512)) == (2, 4)


def test_device_is_what_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_device("cuda") == "cuda"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert choose_device("auto") == "cpu"
