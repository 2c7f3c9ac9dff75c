from __future__ import annotations

import hashlib
import os
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extract.errors import EmbeddingsError
from extract.pictures.decode import PICTURE
from extract.store.columns import read_rejects
from extract.store.embeddings import Embeddings
from extract.store.shards import ShardWriter, write_virtual

GOLDEN = Path(__file__).parent / "golden"


def write_shard(path, ids, values, reasons, facts=None):
    writer = ShardWriter(
        path,
        pd.Series(ids),
        {"conv:avg": values.shape[1:]},
        dtype="float16",
        attributes={},
        facts=None if facts is None else PICTURE,
    )
    writer.append({"conv:avg": values}, reasons, facts)
    writer.close()


@pytest.mark.parametrize("version", [1, 2, 3])
def test_files_of_every_schema_version_are_read_for_ever(version):
    folder = GOLDEN / f"embeddings-v{version}"
    with Embeddings(folder / "tiny.h5") as embeddings:
        assert embeddings.ids.tolist() == [7, 8, 9, 10, 11]
        assert embeddings.is_ok.tolist() == [True, False, True, True, True]
        np.testing.assert_array_equal(
            embeddings.read("conv:avg")[2:], [[9, -9], [10, -10], [11, -11]]
        )
        assert np.isnan(embeddings.read("conv:map")[1]).all()
        if version == 1:
            assert embeddings.pictures is None
        else:
            assert embeddings.pictures["bytes"].tolist() == [700, 0, 900, 1000, 1100]
    assert read_rejects(sorted((folder / "tiny").glob("part-*.h5"))) == {1: "file missing"}


def test_pictures_are_there_only_when_every_shard_has_them(tmp_path):
    (tmp_path / "net").mkdir()
    shards = [tmp_path / "net" / f"part-{i:05d}.h5" for i in range(2)]
    facts = np.zeros(2, PICTURE)
    facts["content"] = [2**63, 5]
    for shard in shards:
        write_shard(shard, [1, 2], np.ones((2, 3)), ["", ""], facts)
    write_virtual(tmp_path / "net.h5", shards)
    with Embeddings(tmp_path / "net.h5") as embeddings:
        assert embeddings.pictures["content"].tolist() == [2**63, 5] * 2
    write_shard(shards[1], [1, 2], np.ones((2, 3)), ["", ""])
    write_virtual(tmp_path / "net.h5", shards)
    with Embeddings(tmp_path / "net.h5") as embeddings:
        assert embeddings.pictures is None


@settings(max_examples=30, deadline=None)
@given(
    texts=st.lists(
        st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1, max_size=9),
        min_size=2,
        max_size=12,
        unique=True,
    ),
    cut=st.integers(1, 11),
)
def test_any_ids_and_values_come_back_as_they_were(tmp_path_factory, texts, cut):
    folder = tmp_path_factory.mktemp("any")
    (folder / "net").mkdir()
    values = np.random.default_rng(len(texts)).normal(size=(len(texts), 3)).astype(np.float16)
    parts = [part for part in (slice(0, cut), slice(cut, None)) if texts[part]]
    shards = [folder / "net" / f"part-{i:05d}.h5" for i in range(len(parts))]
    for shard, part in zip(shards, parts, strict=True):
        write_shard(shard, texts[part], values[part], [""] * len(texts[part]))
    write_virtual(folder / "net.h5", shards)
    with Embeddings(folder / "net.h5") as embeddings:
        assert embeddings.ids.tolist() == texts
        np.testing.assert_array_equal(embeddings.read("conv:avg"), values)


def test_a_shard_that_lacks_rows_is_never_complete(tmp_path):
    writer = ShardWriter(
        tmp_path / "part-00000.h5",
        pd.Series([1, 2]),
        {"conv:avg": (3,)},
        dtype="float16",
        attributes={},
    )
    writer.append({"conv:avg": np.ones((1, 3))}, [""])
    with pytest.raises(EmbeddingsError, match="1 of 2 rows"):
        writer.close()
    writer.discard()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_what_exceeds_float16_becomes_its_largest_value(tmp_path, dtype):
    with np.errstate(over="ignore"):
        write_shard(
            tmp_path / "part-00000.h5",
            [1],
            np.array([[1e9, -np.inf, 1.0, np.nan]]).astype(dtype),
            [""],
        )
    with h5py.File(tmp_path / "part-00000.h5") as file:
        assert repr(file["cuts/conv:avg"][0].tolist()) == "[65504.0, -65504.0, 1.0, nan]"


@pytest.mark.parametrize(
    ("dtype", "shape", "chunk"),
    [
        ("float16", (3,), 7),
        ("float16", (300, 300), 2),
        ("float32", (200, 200), 3),
        ("float32", (700, 600), 1),
    ],
)
def test_rows_are_the_same_whatever_chunks_and_batches_they_come_in(tmp_path, dtype, shape, chunk):
    values = np.random.default_rng(0).normal(size=(7, *shape)).astype(dtype)
    reasons = ["", "", "file missing", "", "", "", "file empty"]
    expected = np.where(
        np.array([bool(r) for r in reasons]).reshape(-1, *[1] * len(shape)), np.nan, values
    ).astype(dtype)
    for batch in (1, 3, 7):
        path = tmp_path / f"{batch}.h5"
        writer = ShardWriter(
            path,
            pd.Series(range(7)),
            {"conv:map": shape},
            dtype=dtype,
            attributes={},
            facts=PICTURE,
        )
        reserved = next(tmp_path.glob("*.partial")).stat().st_size
        for start in range(0, 7, batch):
            facts = np.zeros(len(reasons[start : start + batch]), PICTURE)
            facts["bytes"] = range(start, start + len(facts))
            writer.append(
                {"conv:map": values[start : start + batch]}, reasons[start : start + batch], facts
            )
        writer.close()
        assert path.stat().st_size <= reserved  # a disk that fills up has said so before
        with h5py.File(path) as file:
            data = file["cuts/conv:map"]
            assert data.chunks == (chunk, *shape)
            np.testing.assert_array_equal(data[:], expected)
            assert data.attrs["sha256"] == hashlib.sha256(expected.tobytes()).hexdigest()
            assert file["reason"].asstr()[:].tolist() == reasons
            assert file["status"][:].tolist() == [1, 1, 2, 1, 1, 1, 2]
            assert file["pictures"]["bytes"].tolist() == list(range(7))


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="no room can be reserved here")
@pytest.mark.parametrize(
    "reason",
    ["", "file cannot be read: Zugriff verweigert für ☂, as is told at length, for ever and ever"],
)
def test_the_room_of_many_reasons_is_reserved_too(tmp_path, monkeypatch, reason):
    n, reserved, reserve = 30_000, [], os.posix_fallocate
    monkeypatch.setattr(
        os,
        "posix_fallocate",
        lambda handle, start, size: reserved.append(size) or reserve(handle, start, size),
    )
    write_shard(
        path := tmp_path / "part-00000.h5",
        range(n),
        np.ones((n, 2)),
        [reason] * n,
        np.zeros(n, PICTURE),
    )
    assert path.stat().st_size <= max(reserved)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ({"conv:avg": np.ones((2, 3))}, r"expected rows \(3, 3\), got \(2, 3\)"),
        ({"conv:avg": np.ones((4, 3))}, r"got \(4, 3\)"),
        ({"conv:avg": np.ones((3, 1))}, r"got \(3, 1\)"),
        ({}, "expected rows of conv:avg, got those of none"),
        (
            {"conv:avg": np.ones((3, 3)), "pool:avg": np.ones((3, 3))},
            "got those of conv:avg, pool:avg",
        ),
    ],
)
def test_rows_that_do_not_belong_into_a_shard_are_refused(tmp_path, rows, said):
    writer = ShardWriter(
        tmp_path / "part-00000.h5",
        pd.Series(range(3)),
        {"conv:avg": (3,)},
        dtype="float16",
        attributes={},
    )
    with pytest.raises(ValueError, match=said):
        writer.append(rows, [""] * 3)
    writer.discard()
