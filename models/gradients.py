"""Gradients of a Keras network by its input, on whichever backend Keras runs; the one seam between them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

_BATCH = 32


def read_gradients(network: Any, inputs: NDArray[np.float32]) -> NDArray[np.float64]:
    """Give the gradient of a network's one output by its inputs, in batches: the shape of the inputs.

    Parameters
    ----------
    network : Keras model, (n, …) → (n, 1); dropout is off and batch norms are as they are.
    """
    import keras

    gradient = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}[keras.backend.backend()]
    pieces = [gradient(network, inputs[start:start + _BATCH]) for start in range(0, len(inputs), _BATCH)]
    return np.concatenate(pieces).astype(np.float64)


def _tensorflow(network: Any, inputs: NDArray[np.float32]) -> NDArray[Any]:
    import tensorflow as tf

    given = tf.constant(inputs)
    with tf.GradientTape() as tape:
        tape.watch(given)
        total = tf.reduce_sum(network(given, training=False))
    return np.asarray(tape.gradient(total, given))


def _jax(network: Any, inputs: NDArray[np.float32]) -> NDArray[Any]:
    import jax

    trainable, frozen = ([v.value for v in some] for some in (network.trainable_variables, network.non_trainable_variables))
    return np.asarray(jax.grad(lambda x: network.stateless_call(trainable, frozen, x, training=False)[0].sum())(inputs))


def _torch(network: Any, inputs: NDArray[np.float32]) -> NDArray[Any]:
    import keras
    import torch

    given = keras.ops.convert_to_tensor(inputs).detach().requires_grad_()
    (found,) = torch.autograd.grad(network(given, training=False).sum(), given)
    return found.detach().cpu().numpy()


def split_network(network: Any) -> tuple[Any, Any]:
    """Split a network behind its last convolutional map: (maps → that map, that map → prediction).

    Parameters
    ----------
    network : Keras model from maps or pictures (n, height, width, channels) to (n, 1).
    """
    import keras

    last = [layer for layer in network.layers if len(getattr(layer.output, "shape", ())) == 4][-1]
    if last.output is network.inputs[0]:
        return None, network
    return keras.Model(network.inputs, last.output), keras.Model(last.output, network.outputs[0])


@contextmanager
def shuffled(network: Any, seed: int) -> Iterator[None]:
    """Let the weights of a network's dense layers change places for a while: what a sanity check compares with.

    Adebayo et al. 2018 (arXiv:1810.03292): a map that stays the same shows nothing of what was learnt.
    """
    rng, weights = np.random.default_rng(seed), network.get_weights()
    network.set_weights([rng.permutation(w.ravel()).reshape(w.shape) if w.ndim in (2, 3) else w for w in weights])
    try:
        yield
    finally:
        network.set_weights(weights)
