"""Folds keep groups whole and balanced, and say who may be trained on."""

from __future__ import annotations

import numpy as np
import pytest

from models.folds import Folds, assign_folds, build_folds, hash_array, read_folds, write_folds

RNG = np.random.default_rng(1)
AREA = RNG.integers(0, 60, 500)
XY = np.column_stack([AREA % 8 * 1500.0, AREA // 8 * 1500.0]) + RNG.uniform(0, 900, (500, 2))


LABELS = RNG.normal(size=60)[AREA][:, None]


def assign(kind: str, area: np.ndarray = AREA, xy: np.ndarray | None = XY, n_folds: int = 5) -> np.ndarray:
    return assign_folds(kind, area=area, xy=xy, targets=LABELS[:len(area)], n_folds=n_folds, seed=2, block_m=2000)


def build(kind: str, n_folds: int = 5, buffer_m: float = 0) -> Folds:
    return build_folds(kind, assign(kind, n_folds=n_folds), area=AREA, xy=XY, block_m=2000, buffer_m=buffer_m)


@pytest.mark.parametrize("kind", ["random", "area", "block"])
def test_folds_are_balanced_and_keep_areas_whole(kind: str) -> None:
    folds = assign(kind)
    assert np.ptp(np.bincount(folds, minlength=5)) <= {"random": 1, "area": 25, "block": 70}[kind]
    means = [LABELS[folds == f].mean() for f in range(5)]
    assert np.ptp(means) < {"random": 0.5, "area": 0.2, "block": 0.5}[kind] * LABELS.std()
    np.testing.assert_array_equal(folds, assign(kind))
    if kind != "random":
        assert all(len(set(folds[a == AREA])) == 1 for a in set(AREA))


@pytest.mark.parametrize("kind", ["random", "area", "block"])
@pytest.mark.parametrize("n_folds", [2, 5])
def test_inner_folds_are_of_the_same_kind_and_inside_the_training_rows(kind: str, n_folds: int) -> None:
    folds = build(kind, n_folds=n_folds)
    for fold in folds.folds:
        train = folds.training(folds.parts_of(fold))
        assert set(train) | set(folds.held(folds.parts_of(fold))) == set(range(500))
        inner = [set(folds.held(frozenset({p}))) for p, _ in folds.inner(fold)]
        assert len(inner) >= 2
        assert set().union(*inner) == set(train)
        if kind != "random":
            assert not any({*AREA[list(a)]} & {*AREA[list(set(train) - a)]} for a in inner)
        for part, held in folds.inner(fold):
            assert set(folds.training(held)) == set(train) - set(folds.held(frozenset({part})))


def test_tiles_near_a_held_out_block_are_not_trained_on() -> None:
    folds = build("block", buffer_m=900)
    for fold in folds.folds:
        held, train = folds.held(folds.parts_of(fold)), folds.training(folds.parts_of(fold))
        distance = np.linalg.norm(XY[train][:, None] - XY[held][None], axis=2).min(axis=1)
        assert distance.min() > 900
        assert len(train) < 500 - len(held)


def test_blocks_are_those_of_verde() -> None:
    """As verde.BlockKFold, tiles of one square share a fold where every tile is an area of its own."""
    each = np.arange(500)
    folds = assign_folds("block", area=each, xy=XY, targets=None, n_folds=5, seed=0, block_m=2000)
    block = np.unique(np.floor(XY / 2000), axis=0, return_inverse=True)[1].ravel()
    assert all(len(set(folds[block == b])) == 1 for b in set(block))


def test_folds_changed_by_hand_are_refused(tmp_path) -> None:
    fold = assign("area")
    write_folds(tmp_path / "folds.parquet", np.arange(500), {"area": fold[::-1]}, {"area": {"fold_sha256": hash_array(fold)}})
    with pytest.raises(ValueError, match="not those that were written"):
        read_folds(tmp_path / "folds.parquet")


def test_fewer_areas_than_folds_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 5 areas"):
        assign("area", area=np.arange(40) % 3, xy=None)


def test_block_without_places_is_refused() -> None:
    with pytest.raises(ValueError, match="needs coordinates"):
        assign("block", xy=None)
