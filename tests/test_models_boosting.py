"""Gradient boosting: one binning for all targets, rounds chosen on inner folds, streamed, repeatable."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.data.features import Features
from models.data.folds import Folds, assign_folds, build_folds
from models.families.family import Family
from models.families.trees import boosting
from models.families.trees import column_groups as grouped
from models.families.trees import feature_bins as binned
from models.families.trees.boosting import ROUNDS_UNWATCHED, Boosting, ends
from models.families.trees.column_groups import GroupedBooster, Rows, Sums, deal_columns
from models.families.trees.feature_bins import bin_groups, choose_device, share_threads

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


@pytest.fixture(autouse=True)
def _twelve_columns_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grouped, "_FEW_COLUMNS", 10)


def small(**changes: object) -> Boosting:
    """Four groups of three columns."""
    return Boosting(patience=5, n_jobs=1).set_params(**{"rounds": 80, "columns": 0.25, **changes})


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
        small(rows=1.0),
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
        small(rows=1.0).fit(noise, labels, folds=FOLDS, weight=weight).predict(noise),
        0.75,
        atol=1e-5,
    )


PARAMETERS = {
    "tree_method": "hist",
    "max_bin": 16,
    "max_depth": 3,
    "eta": 0.3,
    "min_child_weight": 2.0,
    "seed": 3,
    "nthread": 1,
}


def grow(
    groups: list[np.ndarray], labels: np.ndarray, weights: np.ndarray, n_classes: int
) -> tuple[GroupedBooster, Sums]:
    """Nine rounds on all rows but a hundred, which are watched."""
    rows = Rows(
        bin_groups(Features(X[100:]), groups, max_bin=16, threads=1), labels[100:], weights[100:]
    )
    held = Rows(
        bin_groups(Features(X[:100]), groups, max_bin=16, threads=1, refs=rows.binned),
        labels[:100],
        weights[:100],
    )
    booster = GroupedBooster(rows, groups, n_classes=n_classes, parameters=PARAMETERS)
    sums = booster.watch(held)
    for _ in range(9):
        booster.error(sums, booster.add_round())
    return booster, sums


@pytest.mark.parametrize("n_classes", [0, 3])
def test_one_group_gives_what_xgboost_gives_by_itself(n_classes: int) -> None:
    import xgboost

    labels = RNG.integers(0, n_classes, N).astype(float) if n_classes else Y[:, 0]
    weights = np.where(RNG.random(N) < 0.2, 0, RNG.uniform(0.5, 2, N))
    booster, _ = grow([np.arange(12)], labels, weights, n_classes)
    (given,) = bin_groups(Features(X[100:]), [np.arange(12)], max_bin=16, threads=1)
    given.set_label(labels[100:])
    given.set_weight(weights[100:])
    task = {"objective": "multi:softprob", "num_class": n_classes} if n_classes else {}
    own = xgboost.train({**PARAMETERS, **task}, given, 9)
    np.testing.assert_allclose(
        booster.merge(9).inplace_predict(X), own.inplace_predict(X), atol=2e-5
    )


@pytest.mark.parametrize("n_classes", [0, 3])
def test_the_merged_booster_is_the_sum_of_its_groups_and_each_tree_keeps_to_one(
    n_classes: int,
) -> None:
    labels = RNG.integers(0, n_classes, N).astype(float) if n_classes else Y[:, 0]
    weights = RNG.uniform(0.5, 2, N)
    groups = deal_columns(12, 0.25, seed=1)
    booster, sums = grow(groups, labels, weights, n_classes)
    merged = booster.merge(9)
    predicted = merged.inplace_predict(X[:100]).astype(np.float64)
    error = (
        np.sqrt(np.average((predicted - labels[:100]) ** 2, weights=weights[:100]))
        if not n_classes
        else np.average(
            -np.log(predicted[np.arange(100), labels[:100].astype(int)]), weights=weights[:100]
        )
    )
    assert sorted(np.concatenate(groups)) == list(range(12))
    assert [len(group) for group in groups] == [3] * 4
    np.testing.assert_allclose(
        sums.total if not n_classes else sums.shares, predicted.reshape(100, -1), atol=1e-5
    )
    assert booster.error(sums, 0) == pytest.approx(error, rel=1e-5)
    trees = merged.trees_to_dataframe().query("Feature != 'Leaf'")
    used = [set(tree.Feature.str[1:].astype(int)) for _, tree in trees.groupby("Tree")]
    homes = [
        next(g for g, group in enumerate(groups) if features <= set(group)) for features in used
    ]
    assert set(homes[: 4 * max(1, n_classes)]) == {0, 1, 2, 3}
    fewer = booster.merge(4).inplace_predict(X)
    np.testing.assert_array_equal(fewer, merged.inplace_predict(X, iteration_range=(0, 4)))


def test_every_group_learns_what_the_others_have_left() -> None:
    truth = X[:, ::3].astype(float).sum(axis=1)  # a column of each group, were they dealt so
    groups = [np.arange(12)[i::3][:4] for i in range(3)]
    rows = Rows(bin_groups(Features(X), groups, max_bin=64, threads=1), truth, ONES)
    booster = GroupedBooster(
        rows, groups, n_classes=0, parameters={**PARAMETERS, "max_bin": 64, "min_child_weight": 1.0}
    )
    sums, errors = booster.watch(rows), []
    for _ in range(60):
        errors.append(booster.error(sums, booster.add_round()))
    assert (np.diff(errors) < 1e-6).all()
    assert errors[-1] < 0.2 * truth.std()


def test_a_group_draws_other_rows_in_every_round() -> None:
    groups = [np.arange(6), np.arange(6, 12)]
    rows = Rows(bin_groups(Features(X), groups, max_bin=16, threads=1), Y[:, 0], ONES)
    parameters = {
        **PARAMETERS,
        "eta": 1e-6,
        "subsample": 0.5,
        "seed_per_iteration": True,
    }  # the residuals stay what they are
    booster = GroupedBooster(rows, groups, n_classes=0, parameters=parameters)
    for _ in range(4):
        booster.add_round()
    trees = booster.merge(4).get_dump()
    assert len(set(trees)) == 4


def test_the_best_round_is_that_of_the_lowest_error_before_patience_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[tuple[dict[int, list[float]], dict[int, int]]] = []
    boost, error = Boosting._boost, GroupedBooster.error

    def spy(self: Boosting, booster: GroupedBooster, watched: dict, rounds: int) -> dict[int, int]:
        errors: dict[int, list[float]] = {}

        def keep(own: GroupedBooster, sums: Sums, group: int) -> float:
            errors.setdefault(id(sums), []).append(error(own, sums, group))
            return errors[id(sums)][-1]

        monkeypatch.setattr(GroupedBooster, "error", keep)
        best = boost(self, booster, watched, rounds)
        seen.append((errors, best))
        return best

    monkeypatch.setattr(Boosting, "_boost", spy)
    small().cross_fit(Features(X), Y[:, :1], folds=FOLDS, weight=ONES)
    pairs = [
        pair for errors, best in seen for pair in zip(errors.values(), best.values(), strict=True)
    ]
    assert len(pairs) >= 8
    for of_rounds, chosen in pairs:
        assert chosen == np.argmin(of_rounds) + 1
        assert len(of_rounds) in (80, chosen + 5)


@pytest.mark.parametrize(
    ("columns", "n_groups", "within"),
    [(0.25, 4, 1.0), (0.3, 3, 0.9), (0.6, 1, 0.6), (0.01, 16, 0.16)],
)
def test_a_tree_sees_the_stated_share_of_the_columns(
    columns: float, n_groups: int, within: float
) -> None:
    assert grouped.count_groups(300, columns) == n_groups
    assert Boosting(columns=columns)._parameters(1, n_groups)["colsample_bytree"] == pytest.approx(
        within
    )


def test_columns_are_dealt_the_same_for_every_set_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    dealt: list[list[list[int]]] = []

    def spy(*given: object) -> list[np.ndarray]:
        groups = deal_columns(*given)  # type: ignore[arg-type]
        dealt.append([group.tolist() for group in groups])
        return groups

    monkeypatch.setattr(boosting, "deal_columns", spy)
    small(rounds=3).cross_fit(Features(X), Y[:, :1], folds=FOLDS, weight=ONES)
    assert len(dealt) == 8
    assert all(groups == dealt[0] for groups in dealt)
    assert len(dealt[0]) == 4


def test_a_constant_target_takes_one_round() -> None:
    model = small().fit(Features(X), np.full((N, 1), 3.7), folds=FOLDS, weight=ONES)
    assert model.chosen_ == [{"rounds": 1}]
    np.testing.assert_allclose(model.predict(Features(X)), 3.7, rtol=1e-6)


@pytest.mark.parametrize(
    ("n_features", "share", "n_groups"),
    [(512, 0.1, 10), (512, 0.001, 16), (10, 0.3, 3), (9, 0.1, 1), (512, 1.0, 1)],
)
def test_columns_are_dealt_out_once_to_groups_of_about_that_share(
    n_features: int, share: float, n_groups: int
) -> None:
    groups, again = (deal_columns(n_features, share, seed=0) for _ in range(2))
    assert len(groups) == n_groups
    np.testing.assert_array_equal(np.sort(np.concatenate(groups)), np.arange(n_features))
    np.testing.assert_array_equal(np.concatenate(groups), np.concatenate(again))


def test_rounds_are_the_mean_of_the_best_on_both_neighbours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trained: list[tuple[int, dict[int, int]]] = []
    boost = Boosting._boost

    def spy(self: Boosting, booster: GroupedBooster, watched: dict, rounds: int) -> dict[int, int]:
        best = boost(self, booster, watched, rounds)
        trained.append((booster.n_rounds, best))
        return best

    monkeypatch.setattr(boosting.Boosting, "_boost", spy)
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
    grow = Boosting._grow
    monkeypatch.setattr(
        Boosting,
        "_grow",
        lambda self, table, h, *given: held.append(h) or grow(self, table, h, *given),
    )
    small(rounds=3).cross_fit(Features(X), Y, folds=FOLDS, weight=ONES, nested=nested)
    assert len(held) == len(set(held)) == sets


def test_the_parts_watched_are_those_beside_the_held_ones() -> None:
    folds = make_folds(5)
    assert ends(folds, frozenset({0})) == [1, 4]
    assert ends(folds, frozenset({0, 4})) == [1, 3]
    assert ends(folds, frozenset()) == [0, 4]
    assert ends(make_folds(3), frozenset({0, 2})) == []


@pytest.mark.parametrize(("n_folds", "buffer_m"), [(5, 0.0), (4, 150.0), (2, 150.0)])
def test_shared_work_gives_what_one_fit_a_fold_gives(n_folds: int, buffer_m: float) -> None:
    place = np.column_stack([AREA % 10 * 100.0, AREA // 10 * 100.0])
    fold = assign_folds(
        "block", area=AREA, xy=place, targets=None, n_folds=n_folds, seed=0, block_m=200
    )
    folds = build_folds("block", fold, area=AREA, xy=place, block_m=200, buffer_m=buffer_m)
    given = {"folds": folds, "weight": RNG.uniform(0.5, 2, N)}
    shared, plain = (
        cross_fit(small(rounds=20), Features(X), Y, **given)
        for cross_fit in (Boosting.cross_fit, Family.cross_fit)
    )
    assert shared.chosen == plain.chosen
    np.testing.assert_array_equal(shared.predicted, plain.predicted)


def test_with_three_folds_the_nested_models_take_a_stated_number_of_rounds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(boosting, "ROUNDS_UNWATCHED", 7)
    fit = small().cross_fit(Features(X), Y, folds=make_folds(3), weight=ONES, nested=True)
    alone = FOLDS.take(FOLDS.held(frozenset({0})))
    rows = FOLDS.held(frozenset({0}))
    assert (
        small().fit(Features(X[rows]), Y[rows], folds=alone, weight=ONES[rows]).chosen_
        == [{"rounds": 7}] * 3
    )
    assert np.isfinite(fit.nested).all()
    assert ROUNDS_UNWATCHED == 100


def test_two_folds_watch_their_halves() -> None:
    fit = small().cross_fit(Features(X), Y, folds=make_folds(2), weight=ONES)
    assert (r2(fit.predicted)[:2] > 0.4).all()


def test_threads_do_not_change_the_result() -> None:
    one, four = (
        small(n_jobs=n).cross_fit(Features(X), Y, folds=FOLDS, weight=ONES).predicted
        for n in (1, 4)
    )
    np.testing.assert_allclose(four, one, atol=1e-5)


@pytest.mark.parametrize("gathered", [1, 4 * N * 5, 4 * N * 10, 1 << 30])
def test_binning_in_pieces_equals_binning_at_once(
    gathered: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups = [*deal_columns(12, 0.4, seed=0), np.arange(7)]
    expected = [
        bin_groups(Features(X[:, columns]), [np.arange(len(columns))], max_bin=16, threads=1)[0]
        for columns in groups
    ]
    monkeypatch.setattr("models.data.features._CHUNK_BYTES", 4 * 12 * 37)
    monkeypatch.setattr(binned, "_GATHERED_BYTES", gathered)
    found = bin_groups(Features(X), groups, max_bin=16, threads=1)
    for pieces, whole in zip(found, expected, strict=True):
        assert (pieces.num_row(), pieces.num_col()) == (N, whole.num_col())
        np.testing.assert_allclose(
            pieces.get_data().toarray(), whole.get_data().toarray(), atol=0.2
        )  # about the same bins


def test_bins_found_on_a_part_of_the_rows_predict_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    folds, weight = make_folds(), np.ones(N)
    whole = small().cross_fit(Features(X), Y, folds=folds, weight=weight)
    monkeypatch.setattr(binned, "_SKETCHED", X.shape[1] * N // 8)
    monkeypatch.setattr(binned, "_FEWEST", 1)
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
