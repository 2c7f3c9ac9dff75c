from __future__ import annotations

import json
import shutil
import subprocess
import sys

import h5py
import numpy as np
import pytest
from stub_network import open_stub
from typer.testing import CliRunner

from extract.cli import app
from extract.errors import EmbeddingsError, ExtractionError, LockError
from extract.run import run_extraction
from extract.settings import ExtractSettings, read_settings
from extract.store.backbone_shards import BackboneShards
from extract.store.checksums import hash_embeddings
from extract.store.embeddings import Embeddings
from extract.store.verify import find_damage, move_aside
from extract.tables.tile_table import read_tiles

AVG = "block_1_expand_relu:avg"


@pytest.fixture
def made(experiment):
    """Twelve tiles in three shards; gives settings and the folder of the shards."""
    settings = read_settings(experiment(), ExtractSettings)
    run_extraction(settings, open_forward=open_stub)
    return settings, settings.folder / "features" / "mobilenetv2"


def flip(path, dataset):
    """Turn one bit of a dataset's stored bytes."""
    with h5py.File(path) as file:
        data = file[dataset]
        offset = data.id.get_chunk_info(0).byte_offset if data.chunks else data.id.get_offset()
    content = bytearray(path.read_bytes())
    content[offset] ^= 1
    path.write_bytes(content)


def names(damaged):
    return {damage.path.name: damage.reason for damage in damaged}


def test_whole_files_are_found_whole(made):
    assert find_damage(made[0]) == []


@pytest.mark.parametrize(
    "dataset", [f"cuts/{AVG}", "cuts/block_3_expand_relu:map", "id", "status", "pictures"]
)
def test_one_turned_bit_is_found_and_named(made, dataset):
    settings, folder = made
    flip(folder / "part-00001.h5", dataset)
    assert names(find_damage(settings)) == {
        "part-00001.h5": f"{dataset}: data differ from their checksum"
    }


def test_changed_attributes_are_found(made):
    settings, folder = made
    with h5py.File(folder / "part-00001.h5", "r+") as file:
        file.attrs["precision"] = "float16"
    assert names(find_damage(settings)) == {
        "part-00001.h5": "attributes: differ from their checksum"
    }


def test_cut_short_and_missing_shards_are_found(made):
    settings, folder = made
    (folder / "part-00002.h5").unlink()
    first = folder / "part-00000.h5"
    first.write_bytes(first.read_bytes()[:5000])
    found = names(find_damage(settings))
    assert found["part-00002.h5"] == "missing"
    assert "cannot be read" in found["part-00000.h5"]


def test_a_virtual_file_that_does_not_match_is_found(made):
    settings, folder = made
    with h5py.File(folder.parent / "mobilenetv2.h5", "r+") as file:
        file["status"][0] = 2
    assert names(find_damage(settings)) == {"mobilenetv2.h5": "status: differs from the shards"}


def test_only_what_was_set_aside_is_made_again_and_equals_the_first(made):
    settings, folder = made
    with Embeddings(folder.parent / "mobilenetv2.h5") as embeddings:
        whole = embeddings.read(AVG)
    flip(folder / "part-00001.h5", f"cuts/{AVG}")
    assert [path.name for path in move_aside(find_damage(settings))] == ["part-00001.h5.damaged"]
    with pytest.raises(EmbeddingsError, match=r"part-00001.h5 is missing"):
        Embeddings(folder.parent / "mobilenetv2.h5")
    assert run_extraction(settings, open_forward=open_stub).stages["mobilenetv2"]["tiles"] == 5
    assert find_damage(settings) == []
    with Embeddings(folder.parent / "mobilenetv2.h5") as embeddings:
        np.testing.assert_array_equal(embeddings.read(AVG), whole)


def test_a_shard_that_another_process_writes_to_is_not_set_aside(made):
    settings, folder = made
    shard = folder / "part-00001.h5"
    before = shard.read_bytes()
    writer = (
        "import h5py, sys; file = h5py.File(sys.argv[1], 'r+'); print(flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", writer, shard], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    process.stdout.readline()
    try:
        with pytest.raises(LockError, match=r"part-00001.h5: another process writes to it"):
            find_damage(settings)
    finally:
        process.communicate()
    assert shard.read_bytes() == before
    assert find_damage(settings) == []


def test_a_shard_that_may_not_be_opened_is_not_damaged(made, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(h5py, "File", refuse)
    with pytest.raises(LockError, match=r"part-00000.h5: cannot be opened \(Permission denied\)"):
        find_damage(made[0])


@pytest.mark.parametrize("cut", [AVG, "block_3_expand_relu:map"])
@pytest.mark.parametrize("rows", [slice(None), slice(5, 7), slice(7, 12), slice(8, 9)])
def test_rows_of_a_damaged_chunk_are_never_handed_out(made, cut, rows):
    folder = made[1]
    flip(folder / "part-00001.h5", f"cuts/{cut}")
    with Embeddings(folder.parent / "mobilenetv2.h5") as embeddings:
        assert len(embeddings.read(cut, slice(0, 5))) == 5
        assert len(embeddings.read(cut, slice(10, 12))) == 2
        for _ in range(2):
            with pytest.raises(
                EmbeddingsError, match=rf"part-00001.h5: damaged: cuts/{cut}: .*--set-aside"
            ):
                embeddings.read(cut, rows)


@pytest.mark.parametrize("column", ["id", "status", "pictures"])
def test_columns_that_are_damaged_are_never_handed_out(made, column):
    virtual = made[1].parent / "mobilenetv2.h5"
    flip(virtual, column)
    with (
        Embeddings(virtual) as embeddings,
        pytest.raises(EmbeddingsError, match=f"mobilenetv2.h5: damaged: {column}"),
    ):
        _ = (embeddings.ids, embeddings.is_ok, embeddings.pictures)


def shard_of(path, index):
    """Run with other settings; gives one of its shards."""
    settings = read_settings(path, ExtractSettings)
    run_extraction(settings, open_forward=open_stub)
    return settings.folder / "features" / "mobilenetv2" / f"part-0000{index}.h5"


def test_a_shard_of_another_run_is_refused_and_named_and_made_again(made, experiment):
    settings, folder = made
    with Embeddings(folder.parent / "mobilenetv2.h5") as embeddings:
        whole = embeddings.read(AVG)
    other = experiment(replace={"size = 32": "size = 48", 'out = "out"': 'out = "other"'})
    shutil.copy(shard_of(other, 1), folder / "part-00001.h5")
    with pytest.raises(
        ExtractionError,
        match=r"1 of 3 shards were made with other settings \(first: part-00001.h5: size was 48",
    ):
        run_extraction(settings, open_forward=open_stub)
    assert names(find_damage(settings)) == {
        "part-00001.h5": "made with other settings: size was 48, now 32"
    }
    move_aside(find_damage(settings))
    run_extraction(settings, open_forward=open_stub)
    assert find_damage(settings) == []
    with Embeddings(folder.parent / "mobilenetv2.h5") as embeddings:
        np.testing.assert_array_equal(embeddings.read(AVG), whole)


def test_a_shard_made_in_another_precision_is_refused(made):
    settings, folder = made
    with h5py.File(folder / "part-00002.h5", "r+") as file:
        file.attrs["precision"] = "bfloat16"
        file.attrs["sha256"] = hash_embeddings(file)
    with pytest.raises(
        ExtractionError,
        match=r"first: part-00002.h5: precision was bfloat16, float32 in the shards before",
    ):
        run_extraction(settings, open_forward=open_stub)


EARLIER = "whole, but not of these rows of the table: they are used again"


def test_features_of_another_table_are_whole_and_used_again(made, experiment):
    for n in (11, 20):
        settings = read_settings(experiment(n=n), ExtractSettings)
        assert names(find_damage(settings))["part-00002.h5"] == EARLIER
        assert move_aside(find_damage(settings)) == []


def test_a_shard_too_many_is_named(made):
    settings, folder = made
    shutil.copy(folder / "part-00001.h5", folder / "part-00007.h5")
    assert names(find_damage(settings)) == {"part-00007.h5": EARLIER}
    run_extraction(settings, open_forward=open_stub)
    assert find_damage(settings) == []


def test_fresh_replaces_what_cannot_be_read(made):
    settings, folder = made
    (folder / "part-00000.h5").write_text("no shard")
    with pytest.raises(
        EmbeddingsError, match=r"part-00000.h5: not a readable HDF5 file.*--set-aside"
    ):
        run_extraction(settings, open_forward=open_stub)
    assert (
        run_extraction(settings, open_forward=open_stub, fresh=True).stages["mobilenetv2"]["tiles"]
        == 12
    )


def test_a_moved_weight_file_is_the_same_setting(tmp_path, made):
    settings, _ = made
    tiles = read_tiles(settings)
    here, there = (
        settings.model_copy(
            update={
                "extract": settings.extract.model_copy(
                    update={"weights": {"mobilenetv2": str(folder / "net.h5")}}
                )
            }
        )
        for folder in (tmp_path, tmp_path / "moved")
    )
    shard = {
        "recipe": json.dumps(
            {
                **BackboneShards(here, tiles, "mobilenetv2", tiles_sha256="t").recipe,
                "weights": "/old/net.h5",
            }
        )
    }
    assert BackboneShards(there, tiles, "mobilenetv2", tiles_sha256="t").difference(shard) == ""
    assert "weights was" in BackboneShards(
        settings, tiles, "mobilenetv2", tiles_sha256="t"
    ).difference(shard)


def test_the_command_names_the_damage_and_exits_with_1(made):
    settings, folder = made
    words = ["verify", "--config", str(settings.folder.parent / "small.toml")]
    assert "3 shards, all whole" in CliRunner().invoke(app, words).stdout
    flip(folder / "part-00001.h5", f"cuts/{AVG}")
    done = CliRunner().invoke(app, [*words, "--set-aside"])
    assert done.exit_code == 1
    assert f"cuts/{AVG}: data differ from their checksum" in done.stdout
    assert "damaged or missing files: 1. Run `make features`" in done.stderr
    assert (folder / "part-00001.h5.damaged").is_file()


def test_shards_whose_names_were_swapped_are_named_and_put_right(made):
    settings, folder = made
    first, second, aside = (folder / name for name in ("part-00000.h5", "part-00001.h5", "aside"))
    for old, new in ((first, aside), (second, first), (aside, second)):
        old.rename(new)
    damaged = find_damage(settings)
    assert names(damaged) == dict.fromkeys(["part-00000.h5", "part-00001.h5"], EARLIER)
    assert move_aside(damaged) == []
    stages = run_extraction(settings, open_forward=open_stub).stages["mobilenetv2"]
    assert (stages["tiles"], stages["kept"]) == (0, 10)
    assert find_damage(settings) == []
