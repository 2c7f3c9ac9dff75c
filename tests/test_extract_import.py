from __future__ import annotations

import subprocess
import sys

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from extract.cli import app
from extract.errors import ExtractionError, VectorFileError
from extract.run import run_extraction
from extract.settings import ExtractSettings, read_settings
from extract.store.embeddings import Embeddings
from extract.store.import_vectors import import_embeddings
from extract.store.schema import read_attributes

CUTS = 'cuts = ["mobilenetv2/block_1_expand_relu:avg", "mobilenetv2/block_3_expand_relu:map"]'
ORDER = np.random.default_rng(1).permutation(12)
X = np.random.default_rng(0).normal(size=(12, 5)).astype(np.float32)


def settings_of(path):
    return read_settings(path, ExtractSettings)


def take(path, cut="dinov2/cls:avg", **said):
    """Import and give the vectors, in the order of the table."""
    done = import_embeddings(settings_of(path), {cut: said.pop("vectors")}, **said)
    with Embeddings(done.path) as embeddings:
        assert embeddings.ids.astype(str).tolist() == [str(i) for i in range(12)]
        return done, embeddings.read(embeddings.cuts[0]), embeddings.is_ok


def saved(folder, kind, ids=ORDER, values=None):
    """Write ids and vectors in another order than the table's; gives what to say for them."""
    values = X[ORDER] if values is None else values
    if kind == "npy":
        np.save(folder / "ids.npy", ids)
        np.save(folder / "x.npy", values)
        return {"ids": str(folder / "ids.npy"), "vectors": str(folder / "x.npy")}
    if kind == "hdf5":
        with h5py.File(folder / "x.h5", "w") as file:
            file["id"], file["deep/x"] = [str(i) for i in ids], values
        return {"ids": str(folder / "x.h5"), "vectors": str(folder / "x.h5:deep/x")}
    frame = pd.DataFrame(
        {"id": ids, "name": "text", **{f"e{i}": values[:, i] for i in range(values.shape[1])}}
    )
    if kind == "columns":
        frame.to_parquet(folder / "x.parquet", row_group_size=5)
        return {"ids": str(folder / "x.parquet"), "vectors": f"{folder / 'x.parquet'}:e*"}
    lists = (
        pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), 5)
        if kind == "fixed"
        else pa.array(values.tolist())
    )
    pq.write_table(pa.table({"tile": ids, "x": lists}), folder / "x.parquet")
    return {"ids": f"{folder / 'x.parquet'}:tile", "vectors": f"{folder / 'x.parquet'}:x"}


@pytest.mark.parametrize("kind", ["npy", "hdf5", "columns", "fixed", "lists"])
def test_every_kind_of_file_gives_each_tile_its_vector(experiment, kind):
    path = experiment()
    done, values, is_ok = take(path, **saved(path.parent, kind))
    np.testing.assert_array_equal(values, X.astype(np.float16))
    assert (done.n_absent, done.n_bad, done.n_extra, is_ok.all()) == (0, 0, 0, True)


def test_absent_extra_and_broken_vectors_are_counted_and_rejected(experiment):
    path = experiment()
    values = X.copy()
    values[3, 1], values[5, 0] = np.nan, np.inf
    said = saved(
        path.parent, "npy", ids=np.array([77, *range(11)]), values=np.vstack([X[:1], values[:11]])
    )
    done, found, is_ok = take(path, **said)
    assert (done.n_absent, done.n_bad, done.n_extra) == (1, 2, 1)
    assert np.flatnonzero(~is_ok).tolist() == [3, 5, 11]
    assert np.isnan(found[[3, 5, 11]]).all()
    np.testing.assert_array_equal(found[is_ok], X[is_ok].astype(np.float16))


def test_numbers_beyond_float16_are_clipped_and_counted(experiment):
    path = experiment()
    done, values, _ = take(
        path, **saved(path.parent, "npy", ids=np.arange(12), values=np.where(X > 1, 1e6, X))
    )
    assert done.n_clipped == (X > 1).sum() > 0
    assert values.max() == np.finfo(np.float16).max


def test_text_ids_and_maps_and_several_cuts_are_taken(experiment):
    path = experiment(id=[f"00{i}" for i in range(12)])
    maps = np.random.default_rng(0).normal(size=(12, 3, 4, 2)).astype(np.float32)
    np.save(path.parent / "ids.npy", np.array([f"00{i}" for i in range(12)]))
    np.save(path.parent / "x.npy", X)
    np.save(path.parent / "maps.npy", maps)
    cuts = {
        "student/top:avg": str(path.parent / "x.npy"),
        "student/deep:map": str(path.parent / "maps.npy"),
    }
    done = import_embeddings(settings_of(path), cuts, ids=str(path.parent / "ids.npy"))
    with Embeddings(done.path) as embeddings:
        assert embeddings.ids[0] == "000"
        np.testing.assert_array_equal(embeddings.read("top:avg"), X.astype(np.float16))
        np.testing.assert_array_equal(embeddings.read("deep:map"), maps.astype(np.float16))
        assert embeddings.attributes["weights"] == "imported"
        assert len(embeddings.attributes["weights_sha256"]) == 64


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"ids": np.array([0, *range(11)])}, "1 ids stand in more than one row .0."),
        ({"ids": np.arange(11)}, "12 vectors, but .* has 11 ids"),
        (
            {"ids": np.arange(100, 112)},
            "none of its ids is one of the table's: 100, 101, 102 …, expected such as 0, 1, 2",
        ),
        ({"ids": np.arange(12) + 0.5}, "whole numbers or texts, got float64"),
        ({"ids": np.zeros((12, 2))}, r"one id a row, got an array of shape \(12, 2\)"),
        ({"values": X[:, 0]}, r"expected numbers, one row a tile, got float32 of shape \(12,\)"),
        ({"values": X.astype(str)}, "expected numbers"),
        ({"values": X.reshape(12, 1, 1, 5)}, "Use map"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_remedy(experiment, said, message):
    path = experiment()
    with pytest.raises(VectorFileError, match=message):
        take(path, **saved(path.parent, "npy", **said))
    assert not (path.parent / "out" / "features" / "dinov2.h5").exists()


def test_objects_in_a_npy_are_never_unpickled(experiment):
    path = experiment()
    said = saved(path.parent, "npy")
    np.save(path.parent / "ids.npy", np.array(["a", "b"], dtype=object), allow_pickle=True)
    with pytest.raises(VectorFileError, match=r"not a plain .npy array.*astype\(str\)"):
        take(path, **said)


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("hdf5", "x.h5:deep/y", "no dataset 'deep/y'; it has deep/x, id.*Did you mean 'deep/x'"),
        ("columns", "x.parquet:f*", "expected one column of lists, or columns of numbers.*got"),
        ("npy", "nothing.npy", "no such file"),
        ("npy", "small.toml", "expected .npy, .h5 or .parquet"),
    ],
)
def test_names_that_are_not_there_are_said(experiment, kind, name, message):
    path = experiment()
    said = saved(path.parent, kind)
    with pytest.raises(VectorFileError, match=message):
        take(path, **{**said, "vectors": str(path.parent / name)})


def as_frame(**columns):
    vectors = {f"e{i}": X[ORDER, i] for i in range(5)}
    return pd.DataFrame({"id": ORDER, **columns, **vectors})


@pytest.mark.parametrize(
    ("frame", "left_out"),
    [
        (as_frame(income=1.0), "id, income"),
        (as_frame(lon=-0.1, lat=51.5), "id, lon, lat"),
        (as_frame().sample(frac=1, random_state=0), "id, __index_level_0__"),
        (as_frame().set_index("id"), "id"),
    ],
)
def test_labels_places_ids_and_indexes_are_no_dimensions(experiment, frame, left_out):
    path = experiment()
    file = str(path.parent / "x.parquet")
    frame.to_parquet(file)
    done, values, _ = take(path, ids=file, vectors=file)
    np.testing.assert_array_equal(values, X.astype(np.float16))
    assert done.taken["dinov2/cls:avg"] == f"5 numbers: e0 … e4; left out: {left_out}"


def test_an_id_that_is_counted_in_the_metadata_alone_is_read(experiment):
    path = experiment()
    file = str(path.parent / "x.parquet")
    frame = pd.DataFrame({f"e{i}": X[:, i] for i in range(5)}, index=pd.RangeIndex(12, name="id"))
    frame.to_parquet(file)
    _, values, _ = take(path, ids=file, vectors=file)
    np.testing.assert_array_equal(values, X.astype(np.float16))


def test_columns_of_two_beginnings_need_to_be_stated(experiment):
    path = experiment()
    file = str(path.parent / "x.parquet")
    as_frame(year2009=1.0, year2022=2.0).to_parquet(file)
    with pytest.raises(VectorFileError, match=r"one beginning.*year2009.*Write x.parquet:<column>"):
        take(path, ids=file, vectors=file)
    _, values, _ = take(path, ids=file, vectors=f"{file}:e*")
    np.testing.assert_array_equal(values, X.astype(np.float16))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (X * 1e-9, "5 of 5 columns are lost in float16"),
        (30_000 + X, "5 of 5 columns are lost"),
        (2_000 + X, "5 of 5 columns are lost"),
        (np.hstack([X[:, :4], X[:, 4:] * 1e-9]), "1 of 5 columns are lost"),
        (X, ""),
        (np.hstack([X[:, :4], np.zeros((12, 1), np.float32)]), ""),
    ],
)
def test_what_float16_would_lose_is_stored_as_float32_and_said(experiment, values, said):
    path = experiment()
    done, found, _ = take(path, **saved(path.parent, "npy", ids=np.arange(12), values=values))
    assert found.dtype == (np.float32 if said else np.float16)
    assert said in " ".join(done.notes)
    np.testing.assert_array_equal(found, values.astype(found.dtype))


def test_imports_of_one_version_agree_and_of_another_do_not(experiment):
    path = experiment()
    said = saved(path.parent, "npy")
    hashes = []
    for version in ("1", "1", "2"):
        done = import_embeddings(
            settings_of(path),
            {"dinov2/cls:avg": said["vectors"]},
            ids=said["ids"],
            version=version,
            fresh=True,
        )
        hashes.append(read_attributes(done.path)["weights_sha256"])
    assert hashes[0] == hashes[1] != hashes[2]


def test_an_import_that_was_killed_is_begun_anew_without_fresh(experiment):
    path = experiment()
    said = saved(path.parent, "npy")
    done, values, _ = take(path, **said)
    (done.path.parent / "dinov2" / "part-00002.h5").unlink()
    _, again, _ = take(path, **said)
    np.testing.assert_array_equal(again, values)
    done.path.unlink()
    _, again, _ = take(path, **said)
    np.testing.assert_array_equal(again, values)


KILLED = """
import os, random, signal, sys, threading, time
from pathlib import Path
from extract.settings import ExtractSettings, read_settings
from extract.store.import_vectors import import_embeddings
from extract.store.schema import read_attributes
settings = read_settings(Path(sys.argv[1]), ExtractSettings)
end = lambda: (time.sleep(float(sys.argv[4])), os.kill(os.getpid(), signal.SIGKILL))
threading.Thread(target=end, daemon=True).start()
import_embeddings(settings, {"dinov2/cls:avg": sys.argv[3]}, ids=sys.argv[2])
time.sleep(60)
"""


@pytest.mark.slow
def test_an_import_killed_at_20_moments_is_whole_in_the_end(experiment):
    path = experiment(n=12, replace={"shard = 5": "shard = 1"})
    said = saved(path.parent, "npy")
    features = path.parent / "out" / "features"
    for number in range(20):
        command = [sys.executable, "-c", KILLED, path, said["ids"], said["vectors"]]
        code = subprocess.run([*command, str(0.004 * number)], check=False).returncode
        assert code == -9
        if (features / "dinov2.h5").is_file():  # it was done: begin anew
            (features / "dinov2.h5").unlink()
    _, values, is_ok = take(path, **said)
    np.testing.assert_array_equal(values, X.astype(np.float16))
    assert is_ok.all()
    assert list(features.rglob("*.partial")) == []


def test_lists_of_different_lengths_are_refused(experiment):
    path = experiment()
    pq.write_table(
        pa.table({"id": range(12), "x": [[1.0, 2.0]] * 11 + [[1.0]]}), path.parent / "x.parquet"
    )
    with pytest.raises(VectorFileError, match="lists of 1 and 2 numbers; expected one length"):
        take(path, ids=str(path.parent / "x.parquet"), vectors=str(path.parent / "x.parquet"))


def test_a_second_import_is_refused_unless_fresh_and_leaves_nothing_behind(experiment):
    path = experiment()
    said = saved(path.parent, "columns")
    take(path, **said)
    with pytest.raises(VectorFileError, match=r"there are features of 'dinov2' already.*--fresh"):
        take(path, **said)
    take(path, **said, fresh=True)
    features = path.parent / "out" / "features"
    assert sorted(p.name for p in (features / "dinov2").iterdir()) == [
        f"part-0000{i}.h5" for i in range(3)
    ]


def test_features_leave_an_import_as_it_is_and_need_no_picture_for_it(experiment):
    path = experiment(replace={CUTS: 'cuts = ["dinov2/cls:avg"]'})
    for picture in (path.parent / "tiles").iterdir():
        picture.unlink()
    (path.parent / "tiles").rmdir()
    done, *_ = take(path, **saved(path.parent, "npy", ids=np.arange(1, 13)))
    before = done.path.read_bytes()
    for fresh in (False, True):
        summary = run_extraction(settings_of(path), fresh=fresh)
        assert (summary.done, summary.n_rejected) == ([], 1)
        assert done.path.read_bytes() == before
    assert (
        "no vector in the import" in (path.parent / "out" / "features" / "rejects.csv").read_text()
    )


def test_an_import_for_other_tiles_or_not_complete_is_refused(experiment):
    path = experiment(replace={CUTS: 'cuts = ["dinov2/cls:avg"]'})
    done, *_ = take(path, **saved(path.parent, "npy"))
    path = experiment(n=11, replace={CUTS: 'cuts = ["dinov2/cls:avg"]'})
    with pytest.raises(ExtractionError, match=r"imported for other tiles.*import.*--fresh"):
        run_extraction(settings_of(path))
    (done.path.parent / "dinov2" / "part-00001.h5").unlink()
    with pytest.raises(ExtractionError, match="an import that is not complete"):
        run_extraction(settings_of(path))


def test_cuts_that_the_import_lacks_are_said(experiment):
    path = experiment(replace={CUTS: 'cuts = ["dinov2/cls:avg", "dinov2/patch:avg"]'})
    take(path, **saved(path.parent, "npy"))
    with pytest.raises(
        ExtractionError, match=r"imported without the cuts dinov2/patch:avg.*--fresh"
    ):
        run_extraction(settings_of(path))


def test_the_command_says_what_it_did(experiment):
    path = experiment()
    said = saved(path.parent, "hdf5")
    words = [
        "import",
        "-c",
        str(path),
        "--ids",
        said["ids"],
        "--vectors",
        said["vectors"],
        "--as",
        "dinov2/cls:avg",
    ]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.stderr
    assert (
        "tiles: 12, without a vector: 0, not finite: 0; vectors that the table lacks: 0"
        in result.stdout
    )
    assert 'add to [extract] cuts: "dinov2/cls:avg"; then roofline models' in result.stderr
    result = CliRunner().invoke(app, [*words[:-1], "cls"])
    assert result.exit_code == 1
    assert "expected '<backbone>/<layer>:<pooling>'" in result.stderr
