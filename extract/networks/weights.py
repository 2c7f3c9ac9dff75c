"""Weights of frozen networks: drawn from a seed, read from a file, and hashed."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from extract.errors import NetworkError


def draw_weights(base: keras.Model, seed: int) -> keras.Model:
    """Return the network with random weights, each layer's from its own seed.

    Keras's global seed would not do: it is Python's `random`, which other threads of a worker draw
    from as well. Nor would its distributions: they shrink what passes, and a deep network ended in
    thousandths, below what float16 resolves and a head can use.
    """

    def seeded(layer: keras.layers.Layer) -> keras.layers.Layer:
        config = layer.get_config()
        for key, value in config.items():
            if not isinstance(value, dict) or "seed" not in value.get("config", {}):
                continue
            if value["class_name"] == "GlorotUniform":
                is_depthwise = key == "depthwise_initializer"
                value = _scale_initializer(layer, is_depthwise=is_depthwise)
                config[key] = value
            digest = hashlib.sha256(f"{seed}/{layer.name}/{key}".encode()).digest()
            value["config"]["seed"] = int.from_bytes(digest[:4], "little") >> 1
        return layer.__class__.from_config(config)

    return keras.models.clone_model(base, clone_function=seeded)


def _scale_initializer(layer: keras.layers.Layer, *, is_depthwise: bool) -> dict[str, Any]:
    """Return the configuration of an initializer that keeps the size of what passes.

    Its variance is 1 / inputs (LeCun et al. 1998, Efficient BackProp), and 2 / (height × width) for
    a depthwise kernel (He et al. 2015, arXiv:1502.01852): Keras counts all channels as its inputs.
    """
    scaled = keras.initializers.VarianceScaling
    initializer = scaled(1.0, distribution="uniform", seed=0)
    if is_depthwise:
        initializer = scaled(2.0 * int(layer.weights[0].shape[-2]), seed=0)
    config: dict[str, Any] = keras.initializers.serialize(initializer)
    return config


def load_weights(body: keras.Model, path: Path) -> None:
    """Load a Keras .h5 weight file by layer name; layers that only the file has are ignored.

    Raises
    ------
    NetworkError : no such file, not HDF5, or a layer of the model that it does not cover.
    """
    if not path.is_file():
        raise NetworkError(f"weights {path}: no such file. Correct [extract] weights.")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise NetworkError(
            f"weights {path}: not a readable HDF5 file ({error}). Fetch it again."
        ) from None
    with file:
        groups = file.get("model_weights", file)
        for layer in body.layers:
            if layer.weights:
                layer.set_weights(_read_layer(groups, layer, path))


def _read_layer(groups: h5py.Group, layer: keras.layers.Layer, path: Path) -> list[Any]:
    names = groups[layer.name].attrs.get("weight_names", []) if layer.name in groups else []
    if len(names) != len(layer.weights):
        raise NetworkError(
            f"weights {path}: layer {layer.name!r} is not covered ({len(names)} of "
            f"{len(layer.weights)} arrays), and a cut needs it. Cut lower, or give a file that "
            "covers it."
        )
    values = [groups[layer.name][name][()] for name in names]
    for value, weight in zip(values, layer.weights, strict=True):
        if tuple(value.shape) != tuple(weight.shape):
            raise NetworkError(
                f"weights {path}: layer {layer.name!r} has shape {value.shape}, expected "
                f"{tuple(weight.shape)}. The file is of another network or input size."
            )
    return values


def hash_weights(model: keras.Model) -> str:
    """Return the SHA-256 of a model's weights, layer by layer."""
    digest = hashlib.sha256()
    for layer in model.layers:
        for value in layer.get_weights():
            digest.update(layer.name.encode())
            digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()
