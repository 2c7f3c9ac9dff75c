"""Gradients of a Keras network by its input, on whichever backend Keras runs; the one seam between them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

_BATCH = 32


def read_gradients(network: Any, inputs: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the gradient of a network's one output by its inputs, in batches: the shape of the inputs.

    Parameters
    ----------
    network : Keras model, (n, …) → (n, 1); dropout is off and batch norms are as they are.
    """
    import keras

    gradient = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}[keras.backend.backend()]
    pieces = [
        gradient(network, inputs[start : start + _BATCH]) for start in range(0, len(inputs), _BATCH)
    ]
    return np.concatenate(pieces).astype(np.float64)


def run_batches(network: Any, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
    """Run a network forward, in batches of one shape."""
    pieces = []
    for start in range(0, len(inputs), _BATCH):
        asked = np.minimum(np.arange(start, start + _BATCH), len(inputs) - 1)
        pieces.append(
            np.asarray(network.predict_on_batch(inputs[asked]), np.float32)[: len(inputs) - start]
        )
    return np.concatenate(pieces)


def _tensorflow(network: Any, inputs: NDArray[np.float32]) -> NDArray[Any]:
    import tensorflow as tf

    given = tf.constant(inputs)
    with tf.GradientTape() as tape:
        tape.watch(given)
        total = tf.reduce_sum(network(given, training=False))
    return np.asarray(tape.gradient(total, given))


def _jax(network: Any, inputs: NDArray[np.float32]) -> NDArray[Any]:
    import jax

    trainable, frozen = (
        [v.value for v in some]
        for some in (network.trainable_variables, network.non_trainable_variables)
    )
    return np.asarray(
        jax.grad(lambda x: network.stateless_call(trainable, frozen, x, training=False)[0].sum())(
            inputs
        )
    )


def _torch(network: Any, inputs: NDArray[np.float32]) -> NDArray[Any]:
    import keras
    import torch

    given = keras.ops.convert_to_tensor(inputs).detach().requires_grad_()
    (found,) = torch.autograd.grad(network(given, training=False).sum(), given)
    return found.detach().cpu().numpy()


def split_network(network: Any) -> tuple[Any, Any]:
    """Split a network behind its last convolutional map: (inputs → that map, that map → prediction).

    Parameters
    ----------
    network : Keras model from maps or pictures (n, height, width, channels) to (n, 1); it may hold models inside.
    """
    import keras

    outputs = {
        id(node.operation): node.outputs[0]
        for nodes in network._nodes_by_depth.values()
        for node in nodes
    }
    last = max(i for i, layer in enumerate(network.layers) if len(outputs[id(layer)].shape) == 4)
    at = outputs[id(network.layers[last])]
    end = network.outputs[0]
    inner = next(
        (layer for layer in network.layers[last + 1 :] if isinstance(layer, keras.Model)), None
    )
    if inner is None:
        return keras.Model(network.inputs, at), keras.Model(at, end)
    low, high = split_network(inner)
    flow = high.outputs[0]
    if outputs[id(inner)] is not end:
        flow = keras.Model(outputs[id(inner)], end)(flow)
    return keras.Model(network.inputs, low(at)), keras.Model(high.inputs, flow)


@contextmanager
def shuffled(network: Any, seed: int) -> Iterator[None]:
    """Let the weights of a network's dense layers change places for a while: what a sanity check compares with.

    Adebayo et al. 2018 (arXiv:1810.03292): a map that stays the same shows nothing of what was learnt.
    """
    rng = np.random.default_rng(seed)
    weights = network.get_weights()
    network.set_weights(
        [rng.permutation(w.ravel()).reshape(w.shape) if w.ndim in (2, 3) else w for w in weights]
    )
    try:
        yield
    finally:
        network.set_weights(weights)
