"""Own weights, in every format that Keras writes."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from extract.errors import NetworkError
from extract.networks.weight_files import load_weights
from extract.networks.weights import hash_weights

keras = pytest.importorskip("keras")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
FORMATS = ["{}.keras", "{}.weights.h5", "{}.h5"]


def build(seed: int, prefix: str = "") -> Any:
    """A small network whose weights, measured ones too, are drawn from a seed."""
    layers = keras.layers
    pictures = keras.Input((8, 8, 3))
    map_ = layers.Conv2D(4, 3, name=f"{prefix}conv")(pictures)
    map_ = layers.BatchNormalization(name=f"{prefix}norm")(map_)
    map_ = layers.SeparableConv2D(5, 3, name=f"{prefix}separable")(map_)
    network = keras.Model(pictures, map_, name=f"{prefix}base")
    draw = np.random.default_rng(seed)
    network.set_weights([draw.uniform(0.5, 1.5, w.shape) for w in network.get_weights()])
    return network


def finetuned(base: Any) -> Any:
    pictures = keras.Input((8, 8, 3))
    row = keras.layers.GlobalAveragePooling2D()(base(pictures, training=False))
    model = keras.Model(pictures, keras.layers.Dense(2, name="head")(row))
    model.compile("adam", "mse")
    model.fit(np.zeros((2, 8, 8, 3)), np.ones((2, 2)), verbose=0)
    return model


def save(model: Any, path: Path) -> Path:
    if path.name.endswith(".weights.h5"):
        model.save_weights(path)
    else:
        model.save(path)
    return path


def test_a_file_that_unpacks_to_a_thousand_times_its_size_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.weights.h5", bytes(1 << 22))
    with pytest.raises(NetworkError, match=r"w.keras: 4194304 bytes are packed into it"):
        load_weights(build(0), path)


@pytest.mark.parametrize("pattern", FORMATS)
@pytest.mark.parametrize("is_nested", [False, True])
def test_weights_are_those_that_were_saved(tmp_path: Path, pattern: str, is_nested: bool) -> None:
    base = build(1)
    model = finetuned(base) if is_nested else base
    path = save(model, tmp_path / pattern.format("own"))
    loaded = build(2)
    load_weights(loaded, path)
    assert hash_weights(loaded) == hash_weights(base)


@pytest.mark.parametrize("pattern", FORMATS)
def test_two_networks_of_the_same_layers_are_refused(tmp_path: Path, pattern: str) -> None:
    pictures = keras.Input((8, 8, 3))
    one = build(1)
    other = build(2)
    other.name = "other"
    both = keras.Model(pictures, one(pictures) + other(pictures))
    path = save(both, tmp_path / pattern.format("own"))
    with pytest.raises(NetworkError, match="2 networks in it have a layer 'conv'"):
        load_weights(build(3), path)


def test_files_of_another_network_and_of_none_are_refused(tmp_path: Path) -> None:
    path = save(build(1, "other_"), tmp_path / "own.keras")
    with pytest.raises(NetworkError, match=r"layer 'conv' is not covered \(0 of 2 arrays\)"):
        load_weights(build(1), path)
    (tmp_path / "text.h5").write_text("no weights")
    with pytest.raises(NetworkError, match=r"text.h5: neither a .keras file nor readable HDF5"):
        load_weights(build(1), tmp_path / "text.h5")
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(NetworkError, match=r"neither a .keras file nor readable HDF5"):
        load_weights(build(1), path)
    with pytest.raises(NetworkError, match="no such file"):
        load_weights(build(1), tmp_path / "none.keras")
