"""What the terminal says of an extraction that was not made as one might think: the files say it
too.
"""

from __future__ import annotations

import pytest

from extract import run
from extract.checks import doctor
from extract.cli import app
from extract.networks import backbones, forward
from extract.store.schema import read_attributes


@pytest.fixture
def say(capsys):
    """Run a command; gives what it wrote on standard output and on standard error, each as one
    line.
    """

    def command(name, path, *options):
        app([name, "--config", str(path), *options], standalone_mode=False)
        said = capsys.readouterr()
        return " ".join(said.out.split()), " ".join(said.err.split())

    return command


def test_bfloat16_that_was_refused_is_said(experiment, monkeypatch, say):
    monkeypatch.setattr(forward, "has_bfloat16", lambda: True)
    monkeypatch.setattr(forward, "least_cosine", lambda *_: (0.99985, "block_1_expand_relu:avg"))
    path = experiment(replace={'precision = "float32"': 'precision = "auto"'})
    note = (
        "bfloat16 refused: cosine 0.999850 to float32 at block_1_expand_relu:avg, 0.9999 is the "
        "least; float32 used"
    )
    out, err = say("run", path)
    assert f"note: mobilenetv2: {note}" in err
    assert "float32 by tensorflow on cpu" in out
    assert (
        read_attributes(path.parent / "out" / "features" / "mobilenetv2.h5")["precision_note"]
        == note
    )


def test_bfloat16_that_was_taken_is_said(experiment, monkeypatch, say):
    monkeypatch.setattr(forward, "has_bfloat16", lambda: True)
    monkeypatch.setattr(forward, "least_cosine", lambda *_: (0.9999, "block_1_expand_relu:avg"))
    out, err = say("run", experiment(replace={'precision = "float32"': 'precision = "auto"'}))
    assert "bfloat16 by tensorflow on cpu" in out
    assert "note" not in err


def test_random_weights_in_the_place_of_those_that_cannot_be_had_are_said(
    experiment, monkeypatch, say
):
    build_base = backbones.build_base

    def without_internet(name, *, weights=None, **said):
        if weights == "imagenet":
            raise OSError("no route to host")
        return build_base(name, weights=weights, **said)

    monkeypatch.setattr(backbones, "build_base", without_internet)
    path = experiment(replace={'weights = "random:0"': 'weights = "imagenet"'})
    _, err = say("run", path, "--allow-random-weights")
    assert "WARNING: mobilenetv2 has random weights (random:0)." in err
    assert read_attributes(path.parent / "out" / "features" / "mobilenetv2.h5")[
        "weights_are_random"
    ]
    assert "has random weights" in say("run", path)[1], "said again where nothing was to do"


def test_gpus_that_were_not_used_are_said(experiment, monkeypatch, say):
    for module in (run, doctor):
        monkeypatch.setattr(module, "list_gpus", lambda: ["0", "1"])
    path = experiment()
    assert "warn device: cpu" in (doctored := say("doctor", path)[0])
    assert "This machine has 2 GPUs that" in doctored
    assert "note: mobilenetv2 ran on the CPU, and this machine has 2 GPUs" in say("run", path)[1]


def test_brackets_in_a_path_are_shown(experiment, say):
    path = experiment(replace={'out = "out"': 'out = "new[bold]york"'})
    assert str(path.parent / "new[bold]york" / "features") in say("run", path)[0]
