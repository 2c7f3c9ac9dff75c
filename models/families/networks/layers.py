"""Layers and weights that the networks of all families share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import keras
import numpy as np
from sklearn.preprocessing import StandardScaler

from extract.config.arrays import Float32s
from extract.networks.runtimes.selection import find_gpu
from models.data.features import Features
from models.families.networks.checkpoints import Arrays
from models.families.networks.towers import read_variables, repeat_weight, shape_of_one
from models.families.networks.training import write_variables

Pool = Literal["flat", "avg"]


def draw_start(model: Any, given: Arrays, seed: int, n_towers: int = 1) -> Arrays:
    """Return the values that all variables of a model start from: given weights, others drawn.

    They are drawn by NumPy, so that they are the same on every backend of Keras, and the same for
    every tower. The seeds of dropout and augmentation begin anew.
    """
    rng = np.random.default_rng(seed)
    drawn = []
    for variable in model.weights[len(given) :]:
        shape = shape_of_one(variable, n_towers)
        one = draw_weights(shape, rng)
        drawn.append(repeat_weight(one, variable, n_towers))
    write_variables(model.weights, [*given, *drawn])
    seeds = [variable for variable in model.variables if "seed_generator" in variable.path]
    for number, variable in enumerate(seeds):
        state = [seed + 1_000_003 * number, 0]  # each layer drops or mirrors in its own way
        variable.assign(np.array(state, dtype=str(variable.dtype)))
    return read_variables(model.variables)


def draw_weights(shape: tuple[int, ...], rng: np.random.Generator) -> Float32s:
    """Draw a kernel (Glorot and Bengio 2010); a bias is 0."""
    if len(shape) < 2:
        return np.zeros(shape, np.float32)
    *window, n_inputs, n_outputs = shape
    area = int(np.prod(window))
    limit = np.sqrt(6 / (area * (n_inputs + n_outputs)))
    drawn = rng.uniform(-limit, limit, shape)
    return drawn.astype(np.float32)


@contextmanager
def training_policy() -> Iterator[None]:
    """Build networks in mixed bfloat16 on a GPU that has it, else in float32."""
    gpu = find_gpu()
    before = keras.config.dtype_policy()
    has_bfloat16 = gpu is not None and gpu.has_bfloat16
    keras.config.set_dtype_policy("mixed_bfloat16" if has_bfloat16 else "float32")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def standardise_layer() -> Any:
    """Return a layer that standardises the last axis by its two weights, mean and variance."""
    return keras.layers.BatchNormalization(
        center=False,
        scale=False,
        epsilon=0.0,
        trainable=False,
        dtype="float32",
        name="standardise",
    )


def measure_scales(X: Features) -> Arrays:
    """Return mean and variance of each feature, or of each channel of maps; 1 where constant."""
    n_channels = X.shape[1] if X.grid is None else X.grid[2]
    scaler = StandardScaler()
    for _, chunk in X.chunks():
        scaler.partial_fit(chunk.reshape(-1, n_channels))
    variance = scaler.scale_**2
    return [scaler.mean_.astype(np.float32), variance.astype(np.float32)]


def add_dense(
    flow: Any, hidden: Sequence[int], n_outputs: int, *, dropout: float, seed: int
) -> Any:
    """Add ReLU layers with dropout and a linear output in float32: (n, n_outputs)."""
    for units in hidden:
        flow = keras.layers.Dense(units, activation="relu")(flow)
        flow = keras.layers.Dropout(dropout, seed=seed)(flow)
    return keras.layers.Dense(n_outputs, dtype="float32")(flow)


def add_pooling(flow: Any, pool: Pool) -> Any:
    """Turn a map into a vector: as it is (`flat`), or its mean over the places (`avg`)."""
    if pool == "flat":
        return keras.layers.Flatten()(flow)
    return keras.layers.GlobalAveragePooling2D()(flow)
