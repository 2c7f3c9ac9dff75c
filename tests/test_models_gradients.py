"""Gradients of networks by their inputs, the split behind the last map, and weights that change
places for a while.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import keras
import numpy as np
import pytest

from extract.networks.registry import Origin
from models.data.features import Features
from models.data.folds import Folds
from models.explaining.methods.gradients import read_gradients, run_network, shuffled, split_network
from models.families.networks.cnn import Convolutional
from models.families.networks.head import Head
from models.families.networks.tail import Tail

pytestmark = pytest.mark.slow
N = 24
RNG = np.random.default_rng(0)
FOLDS = Folds(kind="random", part=np.arange(N) % 4, near=np.zeros((N, 0), bool))
Y = RNG.normal(5, 2, (N, 1))

LINEAR = """
import keras, numpy as np
from models.explaining.methods.gradients import read_gradients
given = keras.Input((3,))
network = keras.Model(given, keras.layers.Dense(1)(keras.ops.square(given)))
weights = network.get_weights()[0][:, 0]
X = np.arange(210, dtype=np.float32).reshape(70, 3)
np.testing.assert_allclose(read_gradients(network, X), 2 * X * weights, rtol=1e-5)
"""


@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_gradients_are_those_of_the_function_on_every_backend(backend: str) -> None:
    if not find_spec(backend):
        pytest.skip(f"{backend} is not installed")
    if backend == keras.backend.backend():
        exec(LINEAR, {})
        return
    done = subprocess.run(
        [sys.executable, "-c", LINEAR],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).resolve().parents[1],
        env={**os.environ, "KERAS_BACKEND": backend},
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_gradients_of_a_head_tell_how_its_prediction_moves() -> None:
    X = RNG.normal(3, 2, (N, 10)).astype(np.float32)
    model = Head(epochs=10).fit(Features(X), Y, folds=FOLDS, weight=np.ones(N))
    step = 1e-3 * RNG.normal(size=X.shape).astype(np.float32)
    moved = (model.predict(Features(X + step)) - model.predict(Features(X - step)))[:, 0]
    np.testing.assert_allclose(
        moved, 2 * (read_gradients(model.network(0), X) * step).sum(axis=1), atol=2e-4
    )


def check_split(model: object, maps: np.ndarray, places: int) -> None:
    network = model.network(0)
    below, above = split_network(network)
    last = run_network(below, maps)
    assert last.shape[1] == places
    np.testing.assert_allclose(run_network(above, last), run_network(network, maps), atol=1e-4)


def test_a_network_on_pictures_is_split_behind_its_last_map() -> None:
    maps = RNG.uniform(0, 255, (N, 16, 16, 3)).astype(np.float32)
    X = Features(maps.reshape(N, -1), grid=(16, 16, 3))
    model = Convolutional(filters=4, dense=4, epochs=1).fit(X, Y, folds=FOLDS, weight=np.ones(N))
    check_split(model, maps, 2)


def test_a_tail_is_split_behind_the_last_map_of_its_body() -> None:
    origin = Origin(backbone="mobilenetv2", layer="block_12_add", size=64, weights="random:0")
    maps = RNG.normal(size=(N, 4, 4, 96)).astype(np.float32)
    X = Features(maps.reshape(N, -1), grid=(4, 4, 96), origin=origin)
    model = Tail(hidden=(4,), epochs=1).fit(X, Y, folds=FOLDS, weight=np.ones(N))
    check_split(model, maps, 2)


def test_shuffled_weights_come_back() -> None:
    X = RNG.normal(size=(N, 10)).astype(np.float32)
    network = Head(epochs=2).fit(Features(X), Y, folds=FOLDS, weight=np.ones(N)).network(0)
    before = read_gradients(network, X)
    with shuffled(network, 0):
        assert np.abs(read_gradients(network, X) - before).max() > 1e-6
    np.testing.assert_array_equal(read_gradients(network, X), before)
