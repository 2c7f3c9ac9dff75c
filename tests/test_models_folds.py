"""Folds keep areas and blocks whole, weigh alike, and are made once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import verde
from hypothesis import given, settings
from hypothesis import strategies as st

from extract.tables.tile_table import Tiles
from models.data.fold_assignment import assign_folds
from models.data.fold_file import OpenedFolds, hash_array, open_folds, read_folds, write_folds
from models.data.folds import Folds, build_folds
from models.settings import FitSettings

RNG = np.random.default_rng(1)
AREA = RNG.integers(0, 60, 500)
XY = np.column_stack([AREA % 8 * 1500.0, AREA // 8 * 1500.0]) + RNG.uniform(0, 900, (500, 2))


LABELS = RNG.normal(size=60)[AREA][:, None]


def assign(
    kind: str, area: np.ndarray = AREA, xy: np.ndarray | None = XY, n_folds: int = 5
) -> np.ndarray:
    return assign_folds(
        kind, area=area, xy=xy, targets=LABELS[: len(area)], n_folds=n_folds, seed=2, block_m=2000
    )


def build(kind: str, n_folds: int = 5, buffer_m: float = 0) -> Folds:
    return build_folds(
        kind, assign(kind, n_folds=n_folds), area=AREA, xy=XY, block_m=2000, buffer_m=buffer_m
    )


@pytest.mark.parametrize("kind", ["random", "area", "block"])
def test_folds_are_balanced_and_keep_areas_whole(kind: str) -> None:
    folds = assign(kind)
    assert np.ptp(np.bincount(folds, minlength=5)) <= {"random": 1, "area": 2, "block": 6}[kind]
    means = [LABELS[folds == f].mean() for f in range(5)]
    assert np.ptp(means) < {"random": 0.5, "area": 0.02, "block": 0.1}[kind] * LABELS.std()
    np.testing.assert_array_equal(folds, assign(kind))
    if kind != "random":
        assert all(len(set(folds[a == AREA])) == 1 for a in set(AREA))


@pytest.mark.parametrize("kind", ["random", "area", "block"])
@pytest.mark.parametrize("n_folds", [2, 5])
def test_inner_folds_are_of_the_same_kind_and_inside_the_training_rows(
    kind: str, n_folds: int
) -> None:
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


def test_blocks_are_those_of_verde_and_as_balanced() -> None:
    """Where every tile is an area of its own, the tiles of one of verde's blocks share a fold."""
    each, n = np.arange(500), 500
    xy = XY - XY.min(axis=0)  # verde lays its blocks from the corner of the tiles
    side = 2000.0
    corner = np.ceil(xy.max(axis=0) / side) * side
    framed = np.vstack([xy, [0.0, 0.0], corner])
    ours = assign_folds("block", area=each, xy=xy, targets=None, n_folds=5, seed=0, block_m=side)
    _, block = verde.block_split(
        (framed[:, 0], framed[:, 1]), spacing=side, region=(0, corner[0], 0, corner[1])
    )
    assert all(len(set(ours[block[:n] == b])) == 1 for b in set(block[:n]))
    theirs = [
        len(test)
        for _, test in verde.BlockKFold(
            spacing=side, n_splits=5, shuffle=True, random_state=0
        ).split(xy)
    ]
    assert np.ptp(np.bincount(ours)) <= np.ptp(theirs)


def test_folds_changed_by_hand_are_refused(tmp_path) -> None:
    fold = assign("area")
    write_folds(
        tmp_path / "folds.parquet",
        np.arange(500),
        {"area": fold[::-1]},
        {"area": {"fold_sha256": hash_array(fold)}},
    )
    with pytest.raises(ValueError, match="not those that were written"):
        read_folds(tmp_path / "folds.parquet")


def test_fewer_areas_than_folds_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 5 areas"):
        assign("area", area=np.arange(40) % 3, xy=None)


def test_block_without_places_is_refused() -> None:
    with pytest.raises(ValueError, match="needs coordinates"):
        assign("block", xy=None)


def test_missing_and_constant_targets_do_not_disturb_the_balance() -> None:
    targets = np.column_stack(
        [LABELS, np.full(500, 3.0), np.full(500, np.nan), np.where(AREA < 30, np.nan, LABELS[:, 0])]
    )
    fold = assign_folds("area", area=AREA, xy=None, targets=targets, n_folds=5, seed=0, block_m=1)
    assert np.ptp(np.bincount(fold)) <= 4
    assert np.ptp([np.nanmean(targets[fold == f, 3]) for f in range(5)]) < 0.1 * LABELS.std()


def test_as_many_areas_as_folds_gives_each_its_own() -> None:
    area = np.repeat(np.arange(5), [1, 90, 2, 3, 4])
    fold = assign_folds(
        "area", area=area, xy=None, targets=RNG.normal(size=(100, 7)), n_folds=5, seed=0, block_m=1
    )
    assert [len(set(fold[area == a])) for a in range(5)] == [1] * 5
    assert len(set(fold)) == 5


@given(st.lists(st.integers(1, 40), min_size=3, max_size=40), st.integers(2, 3), st.integers(0, 5))
@settings(deadline=None, max_examples=30)
def test_no_fold_is_empty_and_no_area_is_cut(sizes: list[int], n_folds: int, seed: int) -> None:
    area = np.repeat(np.arange(len(sizes)), sizes)
    labels = np.random.default_rng(seed).normal(size=(len(sizes), 2))[area] * 100
    fold = assign_folds(
        "area", area=area, xy=None, targets=labels, n_folds=n_folds, seed=seed, block_m=1
    )
    assert set(fold) == set(range(n_folds))
    assert all(len(set(fold[area == a])) == 1 for a in range(len(sizes)))


def test_two_folds_of_one_area_each_leave_nothing_to_choose_on() -> None:
    area = np.repeat([0, 1], 5)
    xy = np.column_stack([area * 1e4 + np.arange(10), np.zeros(10)])
    fold = assign_folds("block", area=area, xy=xy, targets=None, n_folds=2, seed=0, block_m=100)
    folds = build_folds("block", fold, area=area, xy=xy, block_m=100, buffer_m=50)
    assert [len(folds.training(folds.parts_of(f))) for f in folds.folds] == [5, 5]
    assert folds.inner(0) == []


def test_a_buffer_that_leaves_nothing_to_train_on_is_refused() -> None:
    with pytest.raises(ValueError, match="no tile is left to train on"):
        build("block", buffer_m=1e6)


SETTINGS = {
    "name": "x",
    "tiles": {"table": "t", "images": ".", "area": "a", "x": "x", "y": "y"},
    "targets": {"columns": ["t0"]},
    "extract": {"cuts": ["net/last:avg"]},
}


def opened(
    folder: Path, area: np.ndarray = AREA, targets: np.ndarray = LABELS, **models: Any
) -> OpenedFolds:
    asked = FitSettings.model_validate(
        {**SETTINGS, "out": folder, "models": {"splits": ["area", "block"], **models}}
    )
    labels = pd.DataFrame(targets[: len(area)]).rename(columns=str)
    tiles = Tiles(
        id=pd.Series(np.arange(len(area))),
        path=pd.Series([""] * len(area)),
        area=pd.Series(area.astype(str)),
        xy=XY[: len(area)],
        target_names=list(labels),
        targets=labels,
        classes=pd.DataFrame(index=labels.index),
        groups=pd.DataFrame(),
    )
    return open_folds(asked.folder, tiles, asked.models.fold_options)


def test_folds_on_disk_serve_a_target_that_is_added(tmp_path: Path) -> None:
    first = opened(tmp_path)
    again = opened(tmp_path, targets=np.column_stack([LABELS, RNG.permutation(LABELS)]))
    assert again.notes == []
    np.testing.assert_array_equal(again.folds["area"].part, first.folds["area"].part)


def test_folds_are_made_anew_for_other_tiles_and_seeds_and_it_is_said(tmp_path: Path) -> None:
    assert opened(tmp_path).notes == ["folds of split 'area' made", "folds of split 'block' made"]
    assert opened(tmp_path, block_m=3000).notes == [
        "folds of split 'block' made anew: block_m was 2000, is 3000"
    ]
    assert "seed was 0, is 1" in opened(tmp_path, block_m=3000, seed=1).notes[0]
    notes = opened(tmp_path, area=AREA[:400], block_m=3000, seed=1).notes
    assert "n_tiles was 500, is 400" in notes[0]
    assert "the places of the tiles changed" in notes[1]
