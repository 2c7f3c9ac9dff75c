"""Features give the same numbers from memory and from disk, in bounded pieces; areas are pooled
from them.
"""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from extract.errors import FeaturesError
from extract.store.shards import ShardWriter, write_virtual
from models.data import features as features
from models.data.features import Features, OnDisk, open_features
from models.data.float16 import is_finite, widen
from models.data.folds import Folds
from models.data.pooling import pool_rows
from models.families.linear.ridge import SharedRidge

N, CUT = 90, "last:map"
STORED = np.random.default_rng(0).normal(size=(N, 2, 2, 5)).astype(np.float16)
FLAT = STORED.reshape(N, 20).astype(np.float32)
USABLE = np.flatnonzero(np.arange(N) % 7 != 3)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(features, "_READ_BYTES", 13 * 40)  # thirteen rows
    monkeypatch.setattr(features, "_CHUNK_BYTES", 17 * 80)
    (tmp_path / "net").mkdir()
    shards = []
    for start in range(0, N, 40):
        rows = np.arange(start, min(start + 40, N))
        shards.append(tmp_path / "net" / f"part-{start}.h5")
        writer = ShardWriter(
            shards[-1], pd.Series(rows), {CUT: (2, 2, 5)}, dtype="float16", attributes={}
        )
        writer.append({CUT: STORED[rows]}, ["broken" if r % 7 == 3 else "" for r in rows])
        writer.close()
    write_virtual(tmp_path / "net.h5", shards)
    return tmp_path / "net.h5"


@pytest.mark.parametrize("memory", [None, 100])
def test_rows_and_chunks_are_those_of_the_file(path: Path, memory: int | None) -> None:
    X = open_features([(path, CUT)], USABLE, memory=memory)
    assert X.shape == (len(USABLE), 20)
    for view, expected in (
        (X, FLAT[USABLE]),
        (X.rows(np.array([5, 1, 70, 1])), FLAT[USABLE[[5, 1, 70, 1]]]),
        (X.rows(np.arange(3, 60, 2)).rows(np.arange(9)), FLAT[USABLE[3:60:2][:9]]),
    ):
        chunks = list(view.chunks())
        assert max(len(chunk) for _, chunk in chunks) <= 17
        assert [rows.start for rows, _ in chunks] == list(range(0, len(view), 17))
        np.testing.assert_array_equal(np.vstack([chunk for _, chunk in chunks]), expected)
    np.testing.assert_array_equal(X.sample(2), FLAT[USABLE[[0, -1]]])


def test_what_does_not_fit_stays_on_disk_and_is_refused_whole(path: Path) -> None:
    X = open_features([(path, CUT)], USABLE, memory=100)
    assert isinstance(X.stored, OnDisk)
    with pytest.raises(FeaturesError, match=r"expected at most .* GiB as float32"):
        X.array()
    assert not isinstance(open_features([(path, CUT)], USABLE, memory=10_000).stored, OnDisk)


def test_a_model_from_disk_is_the_model_from_memory(path: Path) -> None:
    folds = Folds(
        kind="random",
        part=np.arange(len(USABLE)) % 4,
        near=np.zeros((len(USABLE), 0), dtype=np.bool_),
    )
    Y, weight = FLAT[USABLE][:, :2] + 1, np.ones(len(USABLE))
    X = [open_features([(path, CUT)], USABLE, memory=memory) for memory in (100, 10_000)]
    fits = [
        SharedRidge(exact_limit=limit).cross_fit(x, Y, folds=folds, weight=weight)
        for limit in (4096, 4)
        for x in X
    ]
    np.testing.assert_array_equal(fits[0].predicted, fits[1].predicted)
    np.testing.assert_array_equal(fits[2].predicted, fits[3].predicted)


def test_damaged_rows_are_an_error_and_rejected_ones_are_not_read(path: Path) -> None:
    with pytest.raises(FeaturesError, match="NaN or infinity in 'last:map'"):
        open_features([(path, CUT)], np.arange(N), memory=None)


def test_features_on_disk_can_be_sent_to_another_process(path: Path) -> None:
    X = pickle.loads(
        pickle.dumps(open_features([(path, CUT)], USABLE, memory=100).rows(np.arange(4)))
    )
    np.testing.assert_array_equal(np.vstack([chunk for _, chunk in X.chunks()]), FLAT[USABLE[:4]])


def test_columns_beside_follow_the_rows() -> None:
    beside = np.arange(2 * N).reshape(N, 2)
    X = Features(FLAT, beside=beside).rows(np.array([3, 1]))
    assert X.shape == (2, 22)
    assert X.core().shape == (2, 20)
    np.testing.assert_array_equal(X.array(), np.hstack([FLAT[[3, 1]], beside[[3, 1]]]))
    np.testing.assert_array_equal(X.read_beside(), beside[[3, 1]])


def test_chunks_may_be_changed_by_nobody_but_their_reader() -> None:
    stored = FLAT.copy()
    SharedRidge(exact_limit=4).fit(
        Features(stored),
        FLAT[:, :1].astype(float),
        weight=np.ones(N),
        folds=Folds(kind="random", part=np.arange(N) % 3, near=np.zeros((N, 0), dtype=np.bool_)),
    )
    np.testing.assert_array_equal(stored, FLAT)


def test_areas_are_pooled_in_pieces_as_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    row = np.random.default_rng(1).permutation(np.repeat(np.arange(30), 3))
    X, beside = Features(FLAT, beside=FLAT[:, :2] > 0), FLAT[:, :2] > 0
    monkeypatch.setattr("models.data.pooling._POOL_BYTES", 8 * 22 * 7)
    pooled = pool_rows(X, row)
    expected = [
        np.concatenate([v[row == r].mean(axis=0), v[row == r].std(axis=0)])
        for r in range(30)
        for v in (FLAT.astype(float), beside.astype(float))
    ]
    np.testing.assert_allclose(pooled.core().array(), np.array(expected[::2]), atol=1e-6)
    np.testing.assert_allclose(pooled.read_beside(), np.array(expected[1::2]), atol=1e-6)


def test_halves_are_widened_exactly_and_what_is_no_number_is_found():
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    finite = every[np.isfinite(every)]
    np.testing.assert_array_equal(
        widen(finite).view(np.uint32), finite.astype(np.float32).view(np.uint32)
    )
    np.testing.assert_array_equal(
        widen(finite[:63000].reshape(2, -1)[:, ::7]), finite[:63000].reshape(2, -1)[:, ::7]
    )
    assert [
        is_finite(finite),
        *(is_finite(np.array([1, bad], np.float16)) for bad in (np.nan, np.inf, -np.inf)),
    ] == [True, False, False, False]
    assert is_finite(np.zeros(0, np.float16))


class Broken:
    shape, dtype = (24, 20), np.dtype(np.float16)

    def __len__(self):
        return 24

    def __getitem__(self, rows):
        if rows.start:
            raise FeaturesError("damaged")
        return np.ones((rows.stop, 20), np.float16)


def test_an_error_in_a_later_piece_reaches_who_asked(monkeypatch):
    monkeypatch.setattr(features, "_CHUNK_BYTES", 4 * 20 * 8)
    seen = []
    with pytest.raises(FeaturesError, match="damaged"):
        seen.extend(rows for rows, _ in Features(Broken()).chunks())
    assert seen == [slice(0, 8)]
