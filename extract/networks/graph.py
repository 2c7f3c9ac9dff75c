"""Graph of a Keras network: what feeds what, which layers can be cut, and what they cost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import keras
import numpy as np
from keras.src.backend.common import global_state  # private; there is no public way

_COUNTERS = "object_name_uids"
CONVOLUTIONS = (
    keras.layers.Conv2D,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv2D,
)

Parents = dict[str, list[keras.Operation]]


@contextmanager
def numbered_from_one() -> Iterator[None]:
    """Name the layers that are built inside as in a process that has built no other network.

    Keras leaves layers of some networks without a name (InceptionV3, Xception, MobileNetV3) and
    counts on through the process: `activation_17` of the first network is `activation_36` of the
    next, and neither cuts nor weights would find it. `keras.utils.clear_session` starts anew too,
    and drops the precision that is set.
    """
    counted = global_state.get_global_attribute(_COUNTERS)
    global_state.set_global_attribute(_COUNTERS, None)
    try:
        yield
    finally:
        global_state.set_global_attribute(_COUNTERS, counted)


def find_parents(model: keras.Model) -> Parents:
    """Return, by name, the operations (layers, and sums as in `x + 3`) that feed each operation."""
    made_by = {}
    for operation in model.operations:
        for tensor in keras.tree.flatten(operation.output):
            made_by[id(tensor)] = operation
    parents: Parents = {}
    for operation in model.operations:
        feeding = []
        for tensor in keras.tree.flatten(operation.input):
            maker = made_by.get(id(tensor), operation)
            if maker is not operation:
                feeding.append(maker)
        parents[operation.name] = feeding
    return parents


def cuttable_layers(base: keras.Model) -> list[keras.layers.Layer]:
    """Return the layers with one output of one row a picture; the input is left out."""
    found = []
    for layer in base.layers[1:]:
        shape = getattr(layer.output, "shape", ())
        if len(shape) in (2, 4):
            found.append(layer)
    return found


def find_gates(base: keras.Model, end: str) -> list[str]:
    """Return the layers below `end` that every way from the pictures to it passes, in order.

    Such a layer is where exactly one output is still wanted by later operations.
    """
    body = keras.Model(base.inputs, base.get_layer(end).output)
    parents = find_parents(body)
    n_wanted = dict.fromkeys(parents, 0)
    for feeding in parents.values():
        for parent in feeding:
            n_wanted[parent.name] += 1
    gates = []
    open_ends: set[str] = set()
    for operation in body.operations:
        for parent in parents[operation.name]:
            n_wanted[parent.name] -= 1
            if n_wanted[parent.name] == 0:
                open_ends.discard(parent.name)
        open_ends.add(operation.name)
        is_layer = isinstance(operation, keras.layers.Layer)
        if is_layer and open_ends == {operation.name}:
            gates.append(operation.name)
    ends = {body.layers[0].name, end}
    return [name for name in gates if name not in ends]


def count_flops(layer: keras.layers.Layer) -> int:
    """Count the multiplications and additions of a convolution or dense layer for one picture.

    2 × kernel area × input channels a group × output size (Molchanov et al. 2017,
    arXiv:1611.06440, appendix). Other layers count as none.
    """
    if isinstance(layer, keras.layers.Dense):
        return 2 * int(np.prod(layer.kernel.shape))
    if not isinstance(layer, CONVOLUTIONS):
        return 0
    _, height, width, _ = layer.output.shape
    sizes = [np.prod(weight.shape) for weight in layer.weights if len(weight.shape) == 4]
    n_products = height * width * sum(sizes)
    return 2 * int(n_products)


def flops_to(base: keras.Model, layer: str) -> int:
    """Return the FLOPs of one picture from the input to a layer's output."""
    body = keras.Model(base.inputs, base.get_layer(layer).output)
    return sum(map(count_flops, body.layers))
