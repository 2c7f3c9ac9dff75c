"""A stack gains from members that know different things, makes nothing of noise, and never sees
what it predicts.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import lsq_linear

from models.data.fold_assignment import assign_folds
from models.data.folds import Folds, build_folds
from models.families.stack import fit_weights, stack_folds

N, N_AREAS = 1000, 200
AREA = np.repeat(np.arange(N_AREAS), N // N_AREAS)
XY = np.column_stack([AREA % 20 * 500.0, AREA // 20 * 500.0])


def folds(kind: str = "area", buffer_m: float = 0) -> Folds:
    fold = assign_folds(kind, area=AREA, xy=XY, targets=None, n_folds=5, seed=0, block_m=1000)
    return build_folds(kind, fold, area=AREA, xy=XY, block_m=1000, buffer_m=buffer_m)


def members(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Truth, and two members that each see one half of it."""
    rng = np.random.default_rng(seed)
    halves = rng.normal(size=(N_AREAS, 2))[AREA]
    return halves.sum(axis=1) + 0.3 * rng.normal(size=N_AREAS)[AREA], halves + 0.2 * rng.normal(
        size=(N, 2)
    )


def stack(
    truth: np.ndarray, predicted: np.ndarray, nested: np.ndarray | None = None, **given: object
) -> np.ndarray:
    values = {"folds": folds(), "unit": AREA, "weight": np.ones(N), **given}
    return stack_folds(truth, predicted, predicted if nested is None else nested, **values)[0]


def r2(truth: np.ndarray, predicted: np.ndarray) -> float:
    known = np.isfinite(predicted)
    return 1 - ((truth - predicted)[known] ** 2).mean() / truth[known].var()


@pytest.mark.parametrize("seed", range(3))
def test_members_that_know_different_things_are_added_up(seed: int) -> None:
    truth, predicted = members(seed)
    best = max(r2(truth, column) for column in predicted.T)
    assert r2(truth, stack(truth, predicted)) > best + 0.2


@pytest.mark.parametrize("seed", range(3))
def test_a_member_that_knows_nothing_does_not_disturb(seed: int) -> None:
    truth, predicted = members(seed)
    noise = np.random.default_rng(seed + 9).normal(size=(N, 6)) * truth.std()
    alone = r2(truth, stack(truth, predicted))
    assert r2(truth, stack(truth, np.hstack([predicted, noise]))) > alone - 0.02


@pytest.mark.parametrize("seed", range(5))
def test_of_shuffled_labels_nothing_is_made(seed: int) -> None:
    truth, predicted = members(seed)
    shuffled = np.random.default_rng(seed).permutation(truth[:: N // N_AREAS])[AREA]
    assert r2(shuffled, stack(shuffled, predicted)) < 0.03


def test_weights_of_a_fold_do_not_know_its_labels() -> None:
    truth, predicted = members(0)
    one = folds()
    changed = np.where(one.fold == 2, -100 * truth, truth)
    rows = one.fold == 2
    np.testing.assert_array_equal(stack(changed, predicted)[rows], stack(truth, predicted)[rows])
    assert (
        np.abs(
            stack(changed, predicted)[one.fold == 1] - stack(truth, predicted)[one.fold == 1]
        ).max()
        > 1
    )


def test_rows_within_the_buffer_of_a_fold_teach_it_nothing() -> None:
    truth, predicted = members(0)
    block = folds("block", buffer_m=600)
    near = ~np.isin(np.arange(N), block.training(block.parts_of(2))) & (block.fold != 2)
    assert near.any()
    changed, rows = np.where(near, 50.0, truth), block.fold == 2
    np.testing.assert_array_equal(
        stack(changed, predicted, folds=block)[rows], stack(truth, predicted, folds=block)[rows]
    )


def test_rows_that_a_member_lacks_are_left_out() -> None:
    truth, predicted = members(1)
    predicted[::7, 1] = np.nan
    out = stack(truth, predicted)
    assert np.isnan(out[::7]).all()
    assert np.isfinite(out).sum() == N - len(out[::7])


def test_weights_are_not_negative_and_one_member_alone_works() -> None:
    truth, predicted = members(2)
    weight = np.ones(N)
    assert (
        fit_weights(
            truth, np.hstack([predicted, -predicted]), unit=AREA, weight=weight, mean=0.0
        ).weights.min()
        >= 0
    )
    assert abs(r2(truth, stack(truth, predicted[:, :1])) - r2(truth, predicted[:, 0])) < 0.1


@pytest.mark.parametrize("spread", [1e-9, 1e-4, 0.1])
def test_members_that_say_next_to_nothing_are_not_stretched(spread: float) -> None:
    """A penalised model of noise predicts nearly one value in one fold and something in the
    next.
    """
    truth, rng = members(0)[0], np.random.default_rng(4)
    nested = truth.mean() + spread * rng.normal(size=(N_AREAS, 3))[AREA]
    predicted = truth.mean() + 0.3 * rng.normal(size=(N_AREAS, 3))[AREA]
    for share in (1, 5):  # all areas, and as few as forty
        some = np.arange(N) < N // share
        learned = fit_weights(
            truth[some],
            nested[some],
            unit=AREA[some],
            weight=np.ones(some.sum()),
            mean=truth.mean(),
        )
        assert learned.weights.max() <= 1
    assert -0.1 < r2(truth, stack(truth, predicted, nested)) < 0.02


def test_weights_are_those_of_a_bounded_least_squares_on_the_rows() -> None:
    truth, predicted = members(1)
    mean, shrunk = truth.mean(), predicted * [0.4, 1.0]  # the first would have to be stretched
    learned = fit_weights(truth, shrunk, unit=AREA, weight=np.ones(N), mean=mean)
    ridge = np.sqrt(N * learned.penalty * ((truth - mean) ** 2).mean()) * np.eye(2)
    whole = lsq_linear(
        np.vstack([shrunk - mean, ridge]), np.r_[truth - mean, ridge.sum(axis=0) / 2], bounds=(0, 1)
    )
    np.testing.assert_allclose(learned.weights, whole.x, atol=1e-6)
    assert learned.intercept == pytest.approx(mean * (1 - learned.weights.sum()))


def test_a_weight_of_two_is_a_row_twice() -> None:
    truth, predicted = members(0)
    twice = np.r_[np.arange(N), np.flatnonzero(AREA < 50)]
    weighed = fit_weights(truth, predicted, unit=AREA, weight=1.0 + (AREA < 50), mean=0.1)
    doubled = fit_weights(
        truth[twice], predicted[twice], unit=AREA[twice], weight=np.ones(len(twice)), mean=0.1
    )
    np.testing.assert_allclose(weighed.weights, doubled.weights, atol=1e-9)
