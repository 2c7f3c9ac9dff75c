"""Weights of frozen networks, drawn from a seed, and the hash of any."""

from __future__ import annotations

import hashlib
from typing import Any

import keras


def draw_weights(base: keras.Model, seed: int) -> keras.Model:
    """Return the network with random weights, each layer's from its own seed.

    Keras's global seed would not do: it is Python's `random`, which other threads of a worker draw
    from as well. Nor would its distributions: they shrink what passes, and a deep network ended in
    thousandths, below what float16 resolves and a head can use.
    """

    def seeded(layer: keras.layers.Layer) -> keras.layers.Layer:
        """Return a copy of a layer whose initializers have seeds of their own."""
        config = layer.get_config()
        for key, value in config.items():
            options = value.get("config", {}) if isinstance(value, dict) else {}
            if "seed" not in options:
                continue
            if value["class_name"] == "GlorotUniform":
                is_depthwise = key == "depthwise_initializer"
                value = _scale_initializer(layer, is_depthwise=is_depthwise)
                config[key] = value
            name = f"{seed}/{layer.name}/{key}"
            digest = hashlib.sha256(name.encode()).digest()
            number = int.from_bytes(digest[:4], "little")
            value["config"]["seed"] = number >> 1
        return type(layer).from_config(config)

    return keras.models.clone_model(base, clone_function=seeded)


def _scale_initializer(layer: keras.layers.Layer, *, is_depthwise: bool) -> dict[str, Any]:
    """Return the configuration of an initializer that keeps the size of what passes.

    Its variance is 1 / inputs (LeCun et al. 1998, Efficient BackProp), and 2 / (height × width) for
    a depthwise kernel (He et al. 2015, arXiv:1502.01852): Keras counts all channels as its inputs.
    """
    scaled = keras.initializers.VarianceScaling
    initializer = scaled(1.0, distribution="uniform", seed=0)
    if is_depthwise:
        n_channels = int(layer.weights[0].shape[-2])
        initializer = scaled(2.0 * n_channels, seed=0)
    config: dict[str, Any] = keras.initializers.serialize(initializer)
    return config


def hash_weights(model: keras.Model) -> str:
    """Return the SHA-256 of a model's weights, layer by layer."""
    digest = hashlib.sha256()
    for layer in model.layers:
        name = layer.name.encode()
        for value in layer.get_weights():
            digest.update(name)
            digest.update(value.tobytes())
    return digest.hexdigest()
