"""Gradients of a Keras network by its input, on whichever backend Keras runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from extract.config.arrays import Array, Float32s, Floats

BATCH = 32


def read_gradients(network: Any, inputs: Float32s) -> Floats:
    """Return the gradient of a network's one output by its inputs, in the shape of the inputs.

    Parameters
    ----------
    network : Keras model, (n, …) → (n, 1); dropout is off and batch norms are as they are.
    """
    import keras

    by_backend = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}
    gradient = by_backend[keras.backend.backend()]
    starts = range(0, len(inputs), BATCH)
    pieces = [gradient(network, inputs[start : start + BATCH]) for start in starts]
    gradients = np.concatenate(pieces)
    return gradients.astype(np.float64)


def run_network(network: Any, inputs: Float32s) -> Float32s:
    """Run a network forward in batches."""
    outputs: Float32s = network.predict(inputs, batch_size=BATCH, verbose=0)
    return outputs.astype(np.float32)


def _tensorflow(network: Any, inputs: Float32s) -> Array:
    import tensorflow as tf

    given = tf.constant(inputs)
    with tf.GradientTape() as tape:
        tape.watch(given)
        outputs = network(given, training=False)
        total = tf.reduce_sum(outputs)
    found = tape.gradient(total, given)
    return np.asarray(found)


def _jax(network: Any, inputs: Float32s) -> Array:
    import jax

    trainable = [v.value for v in network.trainable_variables]
    frozen = [v.value for v in network.non_trainable_variables]

    def total(x: Any) -> Any:
        outputs, _ = network.stateless_call(trainable, frozen, x, training=False)
        return outputs.sum()

    differentiate = jax.grad(total)
    return np.asarray(differentiate(inputs))


def _torch(network: Any, inputs: Float32s) -> Array:
    import keras
    import torch

    tensor = keras.ops.convert_to_tensor(inputs)
    given = tensor.detach().requires_grad_()
    outputs = network(given, training=False)
    (found,) = torch.autograd.grad(outputs.sum(), given)
    return found.detach().cpu().numpy()


def split_network(network: Any) -> tuple[Any, Any]:
    """Split a network behind its last map: (inputs → that map, that map → prediction).

    Parameters
    ----------
    network : Keras model from maps or pictures (n, height, width, channels) to (n, 1), whose
        layers form a chain; one of them may be a model itself.
    """
    import keras

    layers = network.layers
    last = max(i for i, layer in enumerate(layers) if len(layer.output.shape) == 4)
    before = layers[last - 1].output
    last_map = layers[last](before)
    below = keras.Model(network.inputs, last_map)
    given = keras.Input(last_map.shape[1:])
    flow = given
    for layer in layers[last + 1 :]:
        flow = layer(flow)
    above = keras.Model(given, flow)
    return below, above


@contextmanager
def shuffled(network: Any, seed: int) -> Iterator[None]:
    """Permute the weights of a network's dense layers for a while, for a sanity check.

    Adebayo et al. 2018 (arXiv:1810.03292): a map that stays the same shows nothing of what was
    learnt. The layer `unit`, which only gives the target its unit, stays as it is.
    """
    rng = np.random.default_rng(seed)
    weights = network.get_weights()
    permuted = []
    for variable, values in zip(network.weights, weights, strict=True):
        if values.ndim == 2 and not variable.path.startswith("unit/"):
            drawn = rng.permutation(values.ravel())
            values = drawn.reshape(values.shape)
        permuted.append(values)
    network.set_weights(permuted)
    try:
        yield
    finally:
        network.set_weights(weights)
