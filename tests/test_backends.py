"""Extraction and all trained networks compute the same on each backend of Keras."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import keras
import made_networks
import numpy as np
import pytest

from extract.networks.registry import REGISTRY
from extract.settings import ExtractSettings, read_settings

SETTINGS = """name = "tiny"
[tiles]
table = "t.csv"
images = "."
area = "area"
[extract]
cuts = ["tiny/relu2:map", "tiny/relu3:avg"]
weights = { tiny = "tiny.h5" }
size = 32
batch = 24
dtype = "float32"
precision = "float32"
runtime = "keras"
"""
pytestmark = pytest.mark.slow
TRAINED = ("head", "tail", "finetune")


def run_program(backend: str, *command: str) -> str:
    """Run a program of the tests in its own process; return its standard error."""
    root = Path(__file__).parents[1]
    path = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, *command],
        cwd=root,
        text=True,
        capture_output=True,
        env={**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def run(folder: Path, backend: str) -> dict[str, np.ndarray]:
    """Embed and train."""
    out = folder / f"{backend}.npz"
    run_program(backend, "tests/made_networks.py", str(folder / "tiny.toml"), str(out))
    with np.load(out) as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("backends")
    made_networks.write_tiny(folder / "tiny.h5")
    (folder / "tiny.toml").write_text(SETTINGS)
    return folder


@pytest.fixture(scope="module")
def expected(folder: Path) -> dict[str, np.ndarray]:
    """Return what this process computes, on TensorFlow."""
    made_networks.register()
    found = made_networks.run(read_settings(folder / "tiny.toml", ExtractSettings))
    del REGISTRY["tiny"]
    return found


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_embeddings_and_trainings_are_those_of_tensorflow(
    folder: Path, expected: dict[str, np.ndarray], backend: str
) -> None:
    if not find_spec(backend):
        pytest.skip(f"{backend} is not installed: pip install {backend}")
    found = run(folder, backend)
    assert (keras.backend.backend(), str(found.pop("backend"))) == ("tensorflow", backend)
    assert set(found) == set(expected) == {"relu2:map", "relu3:avg", *TRAINED}
    for name, values in expected.items():
        np.testing.assert_allclose(
            found[name], values, rtol=1e-3, atol=1e-3 * np.nanstd(values), err_msg=name
        )
    assert all(expected[name].std(axis=0).min() > 1e-3 for name in TRAINED)
