from __future__ import annotations

import json
import math
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from stub_network import open_stub

from extract.errors import ExtractionError
from extract.loop.make_shards import make_shards
from extract.loop.pipeline import open_pipeline
from extract.pictures.decoder_pool import DecoderPool
from extract.run import run_extraction
from extract.settings import ExtractSettings, read_settings
from extract.store.backbone_shards import check_backbone_shards
from extract.store.embeddings import Embeddings
from extract.store.schema import SCHEMA_VERSION
from extract.store.shards import ShardWriter
from extract.tables.tile_table import read_tiles
from extract.timing.clock import Clock
from extract.timing.device_meter import DeviceMeter
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


def test_a_run_of_two_networks_tells_its_rate_and_the_share_of_each():
    one = record(vgg16=(100, 1.0, 9.5), mobilenetv2=(100, 1.0, 0.2))
    one.n_tiles = 100
    said = "; 100 tiles in 10.0 s: 10.0 tiles/s; of the device's time vgg16 98 %, mobilenetv2 2 %"
    assert describe_bottleneck([one]).endswith(said)


def test_seconds_of_a_device_count_for_the_network_that_it_works_for():
    device = ThreadPoolExecutor(1)  # takes one batch after the other, as the stream of a GPU
    clocks = {"slow": Clock(), "quick": Clock()}
    pending = []
    with closing(DeviceMeter()) as meter:
        began = time.perf_counter()
        for _ in range(6):
            for name, seconds in (("slow", 0.04), ("quick", 0.001)):
                sent = time.perf_counter()
                batch = device.submit(time.sleep, seconds)
                pending.append(meter.fetch(name, batch.result, clocks[name], sent=sent))
        for one in pending:
            one.result()
        total = time.perf_counter() - began
    spent = {name: clock.seconds["forward"] for name, clock in clocks.items()}
    assert spent["slow"] >= 6 * 0.04
    assert spent["quick"] < spent["slow"] / 2  # each waited about as long as the other
    assert sum(spent.values()) <= total


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
    sent = []
    n_rows = [rows.stop - rows.start for rows in jobs[0].slices]
    n_batches = sum(math.ceil(n / settings.extract.batch) for n in n_rows)

    class Held:
        """A batch that is not done before three others were sent behind it."""

        def __init__(self, number, pending):
            self.number, self.pending = number, pending

        def result(self):
            wanted = min(self.number + 4, n_batches)
            deadline = time.perf_counter() + 30
            while len(sent) < wanted:
                assert time.perf_counter() < deadline, "the device waits for the next batch"
                time.sleep(0.001)
            return self.pending.result()

    class Watched:
        def __init__(self, network):
            self._network = network

        def __getattr__(self, name):
            return getattr(self._network, name)

        def submit(self, pictures):
            sent.append(1)
            return Held(len(sent) - 1, self._network.submit(pictures))

    pipeline.networks = {name: Watched(network) for name, network in pipeline.networks.items()}
    make_shards(pipeline, jobs[0].missing)
    assert len(sent) == n_batches


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
