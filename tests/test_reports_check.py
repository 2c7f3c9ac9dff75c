"""`check` says before a run what the run would stumble over, and advice that works."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from extract.networks.known_layers import list_known
from extract.networks.registry import REGISTRY
from reports.cli import app

ROOT = Path(__file__).resolve().parents[1]
SPLITS = '[models]\nsplits = ["block"]\n'


@pytest.fixture
def check(experiment):
    """Check an experiment; gives what the command printed."""

    def call(text: str = "", replace: dict[str, str] | None = None, **columns) -> Result:
        path: Path = experiment(replace=replace, **columns)
        path.write_text(path.read_text() + text)
        return CliRunner().invoke(app, ["check", "--config", str(path)])

    return call


def test_what_is_right_is_said_to_be_fine(check) -> None:
    done = check()
    assert done.exit_code == 0, done.output
    assert "settings: fine. 12 tiles" in done.stdout
    assert "next: roofline features --config" in done.stderr


def test_images_that_are_nowhere_are_said(check) -> None:
    done = check(replace={'images = "tiles"': 'images = "/nowhere"'})
    assert done.exit_code == 1
    assert "images /nowhere: no such folder or archive. Mend [tiles] images." in done.stderr


def test_a_pattern_that_fits_no_file_is_said(check) -> None:
    done = check(replace={'path = "{id}.png"': 'path = "LIDAR_{id}.png"'})
    assert done.exit_code == 1
    assert "none of 12 pictures that were looked for is there, as 'LIDAR_0.png'" in done.stderr
    assert "Mend [tiles] images or path." in done.stderr


def test_some_missing_pictures_are_a_note(check, tmp_path: Path) -> None:
    done = check(id=[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 99])
    assert done.exit_code == 0
    assert "1 of 12 pictures that were looked for are missing, as '99.png'" in done.stderr


def test_the_side_of_blocks_that_is_offered_works(check) -> None:
    done = check(SPLITS)
    assert done.exit_code == 1
    assert "expected at least 5 blocks of 2000 m for 5 folds" in done.stderr
    assert "Set block_m = 500 in [models]." in done.stderr
    assert check(SPLITS + "block_m = 500\n").exit_code == 0


def test_overlapping_tiles_without_a_buffer_are_a_note(check) -> None:
    size = {'y = "y"': 'y = "y"\nsize_m = 300'}
    text = SPLITS + "block_m = 200\nfolds = 2\n"
    places = np.arange(12) * 200.0
    done = check(text, replace=size, x=places)
    assert done.exit_code == 0, done.output
    assert "tiles of 300 m overlap a tile of another fold" in done.stderr
    assert "set buffer_m = 425 in [models]" in done.stderr
    apart = check(text, replace=size, x=places * 10)
    assert "tiles of 300 m" not in apart.stderr


def test_a_misspelt_backbone_is_to_blame_itself(check) -> None:
    wrong = {"mobilenetv2/block_3": "mobilnetv2/block_3"}
    done = check(replace=wrong)
    assert done.exit_code == 1
    assert "backbone 'mobilnetv2': unknown" in done.stderr
    assert "Did you mean 'mobilenetv2'?" in done.stderr


def test_a_misspelt_key_is_to_blame_and_not_the_one_that_is_then_missing(check) -> None:
    done = check(replace={'table = "tiles.csv"': 'tabel = "tiles.csv"'})
    assert "[tiles] unknown key 'tabel'" in done.stderr
    assert "Did you mean 'table'?" in done.stderr
    assert "[tiles] table" not in done.stderr


def test_a_misspelt_layer_is_said_with_the_nearest_and_keras_is_not_loaded(
    experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "extract.networks.backbones", None)
    path = experiment(replace={"block_3_expand_relu": "block_3_expand_rule"})
    done = CliRunner().invoke(app, ["check", "--config", str(path)])
    assert done.exit_code == 1
    assert "unknown layer 'block_3_expand_rule'" in done.stderr
    assert "Did you mean 'block_3_expand_relu'?" in done.stderr


@pytest.mark.slow  # loads Keras
def test_the_known_layers_are_those_of_keras(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    import write_layers

    assert write_layers.list_names("mobilenetv2") == list_known("mobilenetv2")
    assert set(write_layers.NETWORKS) <= set(REGISTRY)
    sys.modules.pop("write_layers", None)
