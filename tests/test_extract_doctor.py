from __future__ import annotations

import os
import subprocess
import sys
from collections import namedtuple

import numpy as np
import pytest
from stub_network import open_stub
from typer.testing import CliRunner

from extract.checks import doctor as doctor
from extract.checks.doctor import examine, refuse
from extract.cli import app
from extract.errors import CheckError
from extract.run import run_extraction
from extract.settings import ExtractSettings, read_settings


class Stub:
    weights, weights_sha256, precision, runtime, device, note, value = (
        "file.h5",
        "0" * 64,
        "float32",
        "stub",
        "cpu",
        "",
        1.0,
    )

    def __init__(self):
        self.shapes = {"block_1_expand_relu:avg": (96,)}

    def __call__(self, *args, **said):
        return self

    def submit(self, pictures):
        self.outputs = {"block_1_expand_relu:avg": np.full((len(pictures), 96), self.value)}
        return self

    def result(self):
        return self.outputs


def states(path, stub=None):
    checks = examine(read_settings(path, ExtractSettings), open_forward=stub or Stub())
    return {check.name: (check.state, check.text) for check in checks}


def test_a_fit_machine_is_ok_in_every_line(experiment):
    found = states(experiment())
    assert list(found) == [
        "table",
        "images",
        "device",
        "network mobilenetv2",
        "disk",
        "memory",
    ]
    assert {state for state, _ in found.values()} == {"ok"}


def test_pictures_that_cannot_be_used_are_a_warning_and_all_of_them_a_failure(experiment):
    path = experiment()
    (path.parent / "tiles" / "3.png").write_text("no picture")
    assert states(path)["images"] == (
        "warn",
        "1 of 12 pictures cannot be used (first: 3.png: not an image). They will be rejected rows.",
    )
    for picture in (path.parent / "tiles").iterdir():
        picture.unlink()
    assert states(path)["images"][0] == "FAIL"


def test_a_table_that_cannot_be_read_ends_the_examination(experiment):
    found = states(experiment(id=[0] * 12))
    assert list(found) == ["table"]
    assert found["table"][0] == "FAIL"


@pytest.mark.parametrize(
    ("attribute", "value", "state", "text"),
    [
        ("value", np.nan, "FAIL", "not finite at block_1_expand_relu:avg"),
        (
            "value",
            0.0,
            "FAIL",
            "nothing but zeros at block_1_expand_relu:avg, too small for float16",
        ),
        ("weights", "random:0", "warn", "Random weights"),
        ("note", "bfloat16 refused", "warn", "bfloat16 refused"),
    ],
)
def test_networks_that_give_no_numbers_or_random_ones_are_said(
    experiment, attribute, value, state, text
):
    stub = Stub()
    setattr(stub, attribute, value)
    found = states(experiment(), stub)["network mobilenetv2"]
    assert found[0] == state
    assert text in found[1]


def test_a_driver_that_raises_its_own_error_fails_in_one_line(experiment):
    class DriverError(Exception):
        pass

    def open_broken(*args, **kwargs):
        raise DriverError("out of order\nat 0x7f")

    state, text = states(experiment(), open_broken)["network mobilenetv2"]
    assert state == "FAIL"
    assert text == (
        "the device does not compute: out of order. Mend its driver, or hide it: "
        "CUDA_VISIBLE_DEVICES=-1."
    )


def test_a_backend_that_is_none_fails_and_the_examination_goes_on(experiment):
    result = subprocess.run(
        [sys.executable, "-m", "extract", "doctor", "-c", str(experiment())],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "200", "KERAS_BACKEND": "tensorflaw"},
    )
    assert result.returncode == 1
    assert "FAIL  device: KERAS_BACKEND: " in result.stdout
    assert "Set it to tensorflow, jax or torch" in result.stdout
    assert "memory: " in result.stdout
    assert "not fit: device. Each" in result.stderr


def test_a_disk_without_room_fails_and_fit_ones_do_not_raise(experiment, monkeypatch):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: namedtuple("Usage", "free")(100))
    checks = list(examine(read_settings(experiment(), ExtractSettings), open_forward=Stub()))
    assert next(check for check in checks if check.name == "disk").state == "FAIL"
    with pytest.raises(CheckError, match="not fit: disk"):
        refuse(checks)
    refuse([check for check in checks if check.state != "FAIL"])


def test_features_that_are_there_are_told_and_those_of_other_settings_fail(experiment):
    path = experiment()
    run_extraction(read_settings(path, ExtractSettings), open_forward=open_stub)
    assert states(path)["features mobilenetv2"] == ("ok", "3 of 3 shards are complete")
    state, text = states(experiment(replace={"size = 32": "size = 48"}))["features mobilenetv2"]
    assert (state, "size was 32, now 48" in text) == ("FAIL", True)


def test_a_folder_that_cannot_be_written_fails(experiment, monkeypatch):
    monkeypatch.setattr(doctor.os, "access", lambda *_: False)
    assert states(experiment())["disk"][0] == "FAIL"


def test_the_command_exits_with_1_and_names_the_weights_that_are_not_there(experiment):
    path = experiment(replace={'weights = "random:0"': 'weights = { mobilenetv2 = "nothing.h5" }'})
    result = CliRunner().invoke(app, ["doctor", "-c", str(path)])
    assert result.exit_code == 1
    assert "FAIL  network mobilenetv2: weights" in result.stdout
    assert "no such file" in result.stdout
    assert "not fit: network mobilenetv2" in result.stderr
