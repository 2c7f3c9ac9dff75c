"""Networks of several targets side by side, as towers of one: their layers and weights.

The towers of a model share nothing but their inputs, so that each target's network is the one that
it has when it is trained alone; the machine does the sums of all at once. A kernel of the model is
(n_inputs, n_towers, n_outputs), or (n_inputs, n_towers · n_outputs), in that order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from extract.config.arrays import Bools, Float32s
from models.families.networks.checkpoints import Arrays


def read_variables(variables: Sequence[Any]) -> Arrays:
    """Copy the values of Keras variables."""
    values = [keras.ops.convert_to_numpy(variable) for variable in variables]
    return [np.array(value) for value in values]


def add_towers(
    flow: Any, hidden: tuple[int, ...], n_towers: int, *, dropout: float, seed: int
) -> Any:
    """Add ReLU layers with dropout and a linear output for each tower: (n, n_towers).

    What is dropped is the same in every tower, so that none depends on the number of the others.
    """
    for units in hidden:
        flow = _add_layer(flow, n_towers, units)
        flow = keras.layers.ReLU()(flow)
        same = (None, 1, units)
        drop = keras.layers.Dropout(dropout, noise_shape=same, seed=seed)
        flow = drop(flow)
    outputs = _add_layer(flow, n_towers, 1, dtype="float32")
    flatten = keras.layers.Reshape((n_towers,), dtype="float32")
    return flatten(outputs)


def _add_layer(flow: Any, n_towers: int, units: int, **given: Any) -> Any:
    shape = (n_towers, units)
    if len(flow.shape) == 2:  # the inputs, which all towers share
        dense = keras.layers.Dense(n_towers * units, **given)
        reshape = keras.layers.Reshape(shape, **given)
        return reshape(dense(flow))
    by_tower = keras.layers.EinsumDense("btd,dte->bte", shape, bias_axes="te", **given)
    return by_tower(flow)


def repeat_weight(one: Float32s, variable: Any, n_towers: int) -> Float32s:
    """Return a weight of a network of one tower for every tower, in the shape of the variable."""
    n_outputs = one.shape[-1]
    by_tower = one.reshape(-1, 1, n_outputs)
    repeated = np.repeat(by_tower, n_towers, axis=1)
    shape = tuple(variable.shape)
    return repeated.reshape(shape)


def shape_of_one(variable: Any, n_towers: int) -> tuple[int, ...]:
    """Return the shape that a weight of all towers has in a network of one."""
    shape = tuple(variable.shape)
    if n_towers == 1:
        return shape
    n_inputs, _, n_outputs = _shape_by_tower(variable, n_towers, shape)
    if variable.name == "bias":
        return (n_outputs,)
    return n_inputs, n_outputs


def copy_towers(best: Arrays, model: Any, is_better: Bools) -> None:
    """Copy the weights of some towers of a model over those of `best`.

    Parameters
    ----------
    best : of all weights of the model. is_better : (n_towers,).
    """
    now = read_variables(model.weights)
    if is_better.all():
        best[:] = now
        return
    for variable, ours, theirs in zip(model.weights, best, now, strict=True):
        if not variable.trainable:
            continue
        shape = _shape_by_tower(variable, len(is_better), ours.shape)
        our_towers = ours.reshape(shape)
        their_towers = theirs.reshape(shape)
        our_towers[:, is_better] = their_towers[:, is_better]


def _shape_by_tower(variable: Any, n_towers: int, shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Return the inputs, towers and outputs of a weight; a bias has one input."""
    n_inputs = 1 if variable.name == "bias" else shape[0]
    n_values = math.prod(shape)
    n_outputs = n_values // (n_inputs * n_towers)
    return n_inputs, n_towers, n_outputs
