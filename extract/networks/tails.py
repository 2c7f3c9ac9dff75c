"""What stands after a cut in a pretrained network, with its own weights, to be trained further."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import keras

from extract.config.suggestions import suggest
from extract.errors import NetworkError
from extract.networks.backbones import (
    Preprocess,
    build_base,
    cuttable_layers,
    find_backbone,
    hash_weights,
    load_base,
    load_weights,
    needs_top,
)
from extract.networks.registry import Origin


@keras.saving.register_keras_serializable(package="roofline")
class Body(keras.Model):
    """A network whose batch norms keep what they had measured, also while it is trained; their scales and shifts may learn.

    A model around it would hand its own `training=True` on to every layer, also where the network was called with
    `training=False`: Keras lets the outer call decide.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:  # noqa: ARG002
        """Run in inference mode."""
        return super().call(inputs, training=False, mask=mask)


def build_preprocess(backbone: str) -> Preprocess:
    """Return the layer that stands before a backbone: pictures 0 … 255 in, what the network was trained on out."""
    return Preprocess(find_backbone(backbone).module, name="preprocess")


def build_tail(origin: Origin) -> keras.Model:
    """Return the network from a layer's map, or from the preprocessed pictures, to the end of its convolutions.

    Parameters
    ----------
    origin : where to begin, and with which weights; those up to its `cuts` must have its `sha256`.

    Returns
    -------
    Model `body`: (n, height, width, channels), the layer's output or pictures → the last convolutional map. It computes
    in Keras's policy of the moment, and its batch norms stay as they are.

    Raises
    ------
    NetworkError : unknown backbone or layer; a layer that other layers go round; weights that are not there, do not
        cover it, or are not those that the features were made with.
    """
    name = origin.backbone
    size = origin.size
    weights = origin.weights
    with_top = bool(origin.cuts) and needs_top(name, origin.cuts, size=size)
    base = (
        load_base(name, size=size, with_top=with_top, weights=weights)
        if weights
        else build_base(name, size=size)
    )
    if origin.sha256:
        _check_same(base, origin)
    end = (build_base(name, size=size) if with_top else base).layers[-1].name
    given = _find_start(base, origin, end).output if origin.layer else base.inputs
    body = Body(given, base.get_layer(end).output, name="body")
    if Path(weights).is_absolute():
        load_weights(body, Path(weights))
    return body


def _check_same(base: keras.Model, origin: Origin) -> None:
    frozen = keras.Model(base.inputs, [base.get_layer(layer).output for layer in origin.cuts])
    if Path(origin.weights).is_absolute():
        load_weights(frozen, Path(origin.weights))
    found = hash_weights(frozen)
    if found != origin.sha256:
        raise NetworkError(
            f"weights {origin.weights} of {origin.backbone!r}: expected those that its features were made with "
            f"(SHA-256 {origin.sha256[:12]}…), got others ({found[:12]}…). Restore them in [extract] weights, or "
            "make the features anew (`make features FRESH=1`)."
        )


def _find_start(base: keras.Model, origin: Origin, end: str) -> keras.layers.Layer:
    name = origin.backbone
    layer = origin.layer
    known = [one.name for one in cuttable_layers(base)]
    if layer not in known:
        raise NetworkError(
            f"cut '{name}/{layer}:map': unknown layer {layer!r} of {name}.{suggest(layer, known)}"
        )
    if known.index(layer) >= known.index(end):
        raise NetworkError(
            f"cut '{name}/{layer}:map': nothing stands after {layer!r} that a tail could train; the "
            f"convolutions of {name} end with {end!r}. Cut lower."
        )
    whole = list(gates(base, end))
    if layer not in whole:
        place = known.index(layer)
        before = [one for one in known[:place] if one in whole][-1:]
        after = [one for one in known[place:] if one in whole][:1]
        raise NetworkError(
            f"cut '{name}/{layer}:map': a tail needs a layer that everything passes through, and others go round "
            f"{layer!r}. The nearest that works: {' or '.join([*before, *after])}."
        )
    return base.get_layer(layer)


def gates(base: keras.Model, end: str) -> Iterator[str]:
    """Return the layers below `end` that every way from the pictures to it passes through, in the order of the network.

    Such a layer is where exactly one layer's output is still wanted by layers after it.
    """
    wanted: dict[str, int] = {}
    open_ends: set[str] = set()
    above = _ancestors(base.get_layer(end))
    for layer in base.operations:  # layers, and what was written as `x + 3`
        if layer.name not in above:
            continue
        for parent in _parent_layers(layer):
            wanted[parent.name] -= 1
            if not wanted[parent.name]:
                open_ends.discard(parent.name)
        children = [
            one.operation.name
            for one in layer._outbound_nodes
            if one.operation.name in above | {end}
        ]
        wanted[layer.name] = len(children)
        open_ends.add(layer.name)
        if (
            open_ends == {layer.name}
            and isinstance(layer, keras.layers.Layer)
            and layer is not base.layers[0]
        ):
            yield layer.name


def _ancestors(layer: keras.layers.Layer) -> set[str]:
    found: set[str] = set()
    waiting = list(_parent_layers(layer))
    while waiting:
        one = waiting.pop()
        if one.name not in found:
            found.add(one.name)
            waiting.extend(_parent_layers(one))
    return found


def _parent_layers(layer: keras.layers.Layer) -> Iterable[keras.layers.Layer]:
    return [node.operation for node in layer._inbound_nodes[0].parent_nodes]
