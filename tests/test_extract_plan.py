from __future__ import annotations

import json
import time

import numpy as np
import pytest
from typer.testing import CliRunner

from extract.checks.plan import plan_extraction
from extract.cli import app
from extract.errors import ExtractionError
from extract.run import run_extraction
from extract.settings import ExtractSettings, read_settings
from extract.store.embeddings import Embeddings


class Stub:
    """A network that takes a known time for each batch."""

    def __init__(self, seconds=0.02):
        self.seconds = seconds
        self.shapes = {"block_1_expand_relu:avg": (96,), "block_3_expand_relu:map": (4, 4, 144)}
        self.weights, self.weights_sha256, self.versions = "random:0", "0" * 64, "stub"
        self.precision, self.runtime, self.device, self.note = "float32", "stub", "cpu", ""
        self.float32_cuts = ""

    def __call__(self, settings, backbone, probe, **said):
        return self

    def submit(self, pictures):
        time.sleep(self.seconds)
        return Done(
            {
                name: np.zeros((len(pictures), *shape), np.float16)
                for name, shape in self.shapes.items()
            }
        )


class Done(dict):
    def result(self):
        return self


def settings_of(path):
    return read_settings(path, ExtractSettings)


def test_the_plan_foretells_the_bytes_of_the_run_and_no_less_than_its_network_takes(experiment):
    settings = settings_of(
        experiment(n=200, replace={"shard = 5": "shard = 100", "batch = 4": "batch = 20"})
    )
    plan = plan_extraction(settings, seconds=0.5, open_forward=Stub(0.2))
    run_extraction(settings, open_forward=Stub(0.2))
    assert (
        plan.loop_seconds >= 10 * 0.2
    )  # how near it comes is measured, not tested: other work on the machine comes and goes
    assert plan.seconds == pytest.approx(plan.loop_seconds + plan.startup_seconds)
    alone = plan.backbones["mobilenetv2"].seconds
    assert alone == pytest.approx(plan.loop_seconds, rel=1e-6)
    files = list((settings.folder / "features" / "mobilenetv2").glob("part-*.h5"))
    assert plan.bytes == pytest.approx(sum(file.stat().st_size for file in files), rel=0.1)
    with Embeddings(settings.folder / "features" / "mobilenetv2.h5") as embeddings:
        for name, cut in plan.backbones["mobilenetv2"].cuts.items():
            assert (tuple(cut.shape), cut.all) == (
                embeddings.shape(name),
                embeddings.read(name).nbytes,
            )


def test_a_plan_counts_only_what_is_missing_and_leaves_nothing_behind(experiment):
    settings = settings_of(experiment())
    before = plan_extraction(settings, seconds=0.1, open_forward=Stub(0.001))
    run_extraction(settings, open_forward=Stub(0.001))
    features = settings.folder / "features"
    (features / "mobilenetv2" / "part-00002.h5").unlink()
    files = sorted(features.rglob("*"))
    plan = plan_extraction(settings, seconds=0.1, open_forward=Stub(0.001))
    assert sorted(features.rglob("*")) == files
    part = plan.backbones["mobilenetv2"]
    assert plan.loop_seconds < before.loop_seconds
    assert (part.missing_tiles, part.missing_shards, part.shards) == (2, 1, 3)
    assert plan.bytes * 12 == before.bytes * 2
    run_extraction(settings, open_forward=Stub(0.001))
    done = plan_extraction(settings, open_forward=Stub(9999))
    assert (done.seconds, done.bytes) == (0.0, 0)
    assert done.backbones["mobilenetv2"].cuts["block_1_expand_relu:avg"].all == 12 * 96 * 2


def test_backbones_that_lack_different_shards_take_the_sum_of_what_each_takes(experiment):
    two = '"mobilenetv2/block_3_expand_relu:map"'
    path = experiment(replace={two: '"vgg16/block1_pool:avg"'})
    settings = settings_of(path)
    run_extraction(settings, open_forward=Stub(0.01))
    shards = settings.folder / "features"
    (shards / "mobilenetv2" / "part-00000.h5").unlink()
    (shards / "vgg16" / "part-00001.h5").unlink()
    plan = plan_extraction(settings, seconds=0.1, open_forward=Stub(0.01))
    parts = plan.backbones.values()
    assert plan.loop_seconds == pytest.approx(sum(part.seconds for part in parts))


def test_a_plan_refuses_what_the_run_would_refuse(experiment):
    run_extraction(settings_of(experiment()), open_forward=Stub(0.001))
    with pytest.raises(ExtractionError, match="size was 32, now 48"):
        plan_extraction(
            settings_of(experiment(replace={"size = 32": "size = 48"})), open_forward=Stub()
        )


def test_the_command_prints_a_table_or_json(experiment):
    path = experiment()
    words = ["plan", "-c", str(path), "--seconds", "0.1", "--json"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["backbones"]["mobilenetv2"]["missing_shards"] == 3
