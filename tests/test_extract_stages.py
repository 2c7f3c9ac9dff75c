from __future__ import annotations

import json

import numpy as np
import pytest
from stub_network import open_stub

from extract.errors import ExtractionError
from extract.loop import make_shards, open_pipeline
from extract.pictures.decoder_pool import DecoderPool
from extract.run import run_extraction
from extract.settings import ExtractSettings, read_settings
from extract.store.backbone_shards import check_backbone_shards
from extract.store.embeddings import Embeddings
from extract.store.schema import SCHEMA_VERSION
from extract.store.shards import ShardWriter
from extract.tables.tile_table import read_tiles
from extract.timing.clock import Clock
from extract.timing.stages import (
    BackboneRecord,
    WorkerRecord,
    describe_bottleneck,
    sum_records,
)

TWO = {'"mobilenetv2/block_3_expand_relu:map"': '"vgg16/block1_pool:avg"'}


def record(worker="a", seconds=10.0, decode_wait=0.0, write_wait=0.0, **backbones):
    """One worker's seconds; a backbone is (tiles, decode, forward)."""
    parts = {
        name: BackboneRecord(
            tiles=tiles,
            device="cpu",
            precision="float32",
            runtime="stub",
            note="",
            clock=Clock({"read": 0.1, "decode": decode, "forward": forward, "write": 0.1}),
        )
        for name, (tiles, decode, forward) in backbones.items()
    }
    return WorkerRecord(
        worker=worker,
        decoders=2,
        seconds=seconds,
        startup_seconds=1.0,
        peak_rss_bytes=5,
        waited=Clock({"decode": decode_wait, "write": write_wait}),
        backbones=parts,
    )


@pytest.mark.parametrize(
    ("one", "said"),
    [
        (record(net=(10, 1.0, 9.7)), "forward-bound: 97 % of the time"),
        (
            record(net=(10, 20.0, 3.0), decode_wait=7.0),
            "decode-bound: 70 % of the time; more cores would help",
        ),
        (
            record(net=(10, 0.01, 3.0), decode_wait=7.0),
            "read-bound: 70 % of the time; faster storage for the pictures would help",
        ),
        (
            record(net=(10, 1.0, 3.0), write_wait=6.0),
            "write-bound: 60 % of the time; a faster disk for the features would help",
        ),
    ],
)
def test_the_verdict_names_what_bounds_a_run_and_what_would_help(one, said):
    assert describe_bottleneck([one]) == said


def test_a_backbone_s_rate_does_not_depend_on_the_other_of_the_run():
    stages = sum_records([record(quick=(100, 1.0, 2.0), slow=(100, 1.0, 7.5))])
    assert stages["quick"]["tiles_per_second"] == pytest.approx(100 / 2.5)
    assert stages["slow"]["tiles_per_second"] == pytest.approx(100 / 8.0)
    assert stages["quick"]["seconds"]["total"] == 2.5
    assert stages["quick"]["run_seconds"] == 10.0


def test_a_backbone_s_rate_is_never_above_what_decoding_allows():
    stages = sum_records([record(quick=(100, 19.9, 1.0), slow=(100, 19.9, 5.0), decode_wait=4.0)])
    assert stages["quick"]["tiles_per_second"] == pytest.approx(100 / 10.0)


def test_workers_add_up_and_the_busiest_counts():
    parts = [
        record("a", 4.0, net=(40, 1.0, 3.0)),
        record("a", 2.0, net=(20, 1.0, 2.0)),
        record("b", 5.0, net=(50, 1.0, 5.0)),
    ]
    stage = sum_records(parts)["net"]
    assert (
        stage["tiles"],
        stage["workers"],
        stage["seconds"]["total"],
        stage["seconds"]["forward"],
    ) == (110, 2, 6.0, 10.0)
    assert stage["tiles_per_second"] == pytest.approx(110 / 6.0)
    json.dumps(stage)


def test_slow_writing_and_slow_networks_are_told_apart(experiment, monkeypatch):
    monkeypatch.setenv("STUB_SECONDS", "0.2")
    settings = read_settings(experiment(n=20), ExtractSettings)
    assert run_extraction(settings, open_forward=open_stub).verdict.startswith("forward-bound")
    monkeypatch.setenv("STUB_SECONDS", "0")
    append = ShardWriter.append

    def slow(self, *rows):
        __import__("time").sleep(0.2)
        append(self, *rows)

    monkeypatch.setattr(ShardWriter, "append", slow)
    assert run_extraction(settings, open_forward=open_stub, fresh=True).verdict.startswith(
        "write-bound"
    )


def test_a_write_that_fails_stops_the_run_at_once_and_leaves_no_partial(experiment, monkeypatch):
    settings = read_settings(experiment(n=200), ExtractSettings)
    n_appended = []

    def fail(self, *rows):
        n_appended.append(1)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ShardWriter, "append", fail)
    seen = []
    with pytest.raises(ExtractionError, match="writing failed"):
        run_extraction(
            settings, open_forward=open_stub, on_tiles=lambda done, todo, bad: seen.append(done)
        )
    assert len(n_appended) == 1
    assert seen[-1] < 60
    assert list(settings.folder.rglob("*.partial")) == []


def test_both_backbones_share_one_decode(experiment, monkeypatch):
    settings = read_settings(experiment(n=20, replace=TWO), ExtractSettings)
    decoded = []
    submit = DecoderPool.submit
    monkeypatch.setattr(
        DecoderPool, "submit", lambda self, places: decoded.extend(places) or submit(self, places)
    )
    summary = run_extraction(settings, open_forward=open_stub)
    assert summary.done == ["mobilenetv2", "vgg16"]
    assert decoded == [f"{i}.png" for i in range(20)]


def test_batches_go_on_across_shards_without_a_pause(experiment):
    settings = read_settings(experiment(n=40), ExtractSettings)
    tiles = read_tiles(settings)
    jobs = check_backbone_shards(settings, tiles)
    pipeline = open_pipeline(settings, tiles, jobs, open_stub)
    events = []

    class Watched:
        def __init__(self, network):
            self._network = network

        def __getattr__(self, name):
            return getattr(self._network, name)

        def submit(self, pictures):
            events.append("submit")
            pending = self._network.submit(pictures)
            return type(
                "P", (), {"result": lambda _: events.append("result") or pending.result()}
            )()

    pipeline.networks = {name: Watched(network) for name, network in pipeline.networks.items()}
    make_shards(pipeline, jobs[0].missing)
    in_flight = np.cumsum([1 if event == "submit" else -1 for event in events])
    assert in_flight.max() == 4
    assert in_flight[3:-4].min() >= 3  # never drained between the first and the last batch


def test_a_run_goes_on_beside_shards_of_the_first_schema(experiment):
    import h5py

    path = experiment(replace={'runtime = "keras"': ""})  # the first schema knew no runtime
    settings = read_settings(path, ExtractSettings)
    run_extraction(settings, open_forward=open_stub)
    folder = settings.folder / "features"
    with h5py.File(folder / "mobilenetv2" / "part-00000.h5", "r+") as file:  # as version 1 wrote it
        file.attrs["schema_version"] = 1
        del file.attrs["sha256"], file.attrs["runtime"], file["pictures"]
        recipe = json.loads(file.attrs["recipe"]) | {
            "tiles": read_tiles(settings).sha256,
            "shard": 5,
        }
        del recipe["runtime"], file["stamp"]
        file.attrs["recipe"] = json.dumps(recipe)
        for data in file["cuts"].values():
            del data.attrs["xxh3"]
        for name in ("id", "status", "reason"):
            del file[name].attrs["sha256"]
    (folder / "mobilenetv2" / "part-00002.h5").unlink()
    assert run_extraction(settings, open_forward=open_stub).stages["mobilenetv2"]["tiles"] == 2
    with Embeddings(folder / "mobilenetv2.h5") as embeddings:
        assert embeddings.attributes["schema_version"] == SCHEMA_VERSION
        assert embeddings.pictures is None
        assert len(embeddings.ids) == 12
