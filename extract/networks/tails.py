"""What stands after a cut in a pretrained network, with its own weights, to be trained further."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras

from extract.config.suggestions import suggest
from extract.errors import NetworkError
from extract.networks.backbones import (
    Preprocess,
    build_base,
    load_base,
    needs_top,
)
from extract.networks.graph import cuttable_layers, find_gates
from extract.networks.registry import Origin, find_backbone
from extract.networks.weight_files import load_weights
from extract.networks.weights import hash_weights


@keras.saving.register_keras_serializable(package="roofline")
class Body(keras.Model):
    """A network whose batch norms keep their measured means and variances while it is trained.

    Their scales and shifts may learn. Without this class a model around the network would hand its
    own `training=True` on to every layer: Keras lets the outer call decide.
    """

    def call(
        self,
        inputs: Any,
        training: bool | None = None,  # noqa: ARG002
        mask: Any = None,
    ) -> Any:
        """Run in inference mode."""
        return super().call(inputs, training=False, mask=mask)


def build_preprocess(backbone: str) -> Preprocess:
    """Build the layer that scales pictures 0 … 255 to what a backbone was trained on."""
    return Preprocess(find_backbone(backbone).module, name="preprocess")


def build_tail(origin: Origin) -> keras.Model:
    """Build the network from a layer's map, or from scaled pictures, to its last convolution.

    Parameters
    ----------
    origin : where to begin, and with which weights; those up to its `cuts` must have its `sha256`.

    Returns
    -------
    Model `body`: (n, height, width, channels), the layer's output or pictures → the last
    convolutional map. It computes in Keras's current policy, and its batch norms stay as they are.

    Raises
    ------
    NetworkError : unknown backbone or layer; a layer that other layers bypass; weights that are
        missing, do not cover it, or are not those that the features were made with.
    """
    name = origin.backbone
    size = origin.size
    weights = origin.weights
    with_top = bool(origin.cuts) and needs_top(name, origin.cuts, size=size)
    if weights:
        base = load_base(name, size=size, with_top=with_top, weights=weights)
    else:
        base = build_base(name, size=size)
    if origin.sha256:
        _check_same(base, origin)
    without_top = build_base(name, size=size) if with_top else base
    end = without_top.layers[-1].name
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
            f"weights {origin.weights} of {origin.backbone!r}: expected those that its features "
            f"were made with (SHA-256 {origin.sha256[:12]}…), got others ({found[:12]}…). Restore "
            "them in [extract] weights, or make the features anew (`make features FRESH=1`)."
        )


def _find_start(base: keras.Model, origin: Origin, end: str) -> keras.layers.Layer:
    layer = origin.layer
    where = f"cut '{origin.backbone}/{layer}:map'"
    known = [one.name for one in cuttable_layers(base)]
    if layer not in known:
        raise NetworkError(
            f"{where}: unknown layer {layer!r} of {origin.backbone}.{suggest(layer, known)}"
        )
    place = known.index(layer)
    if place >= known.index(end):
        raise NetworkError(
            f"{where}: nothing stands after {layer!r} that a tail could train; the convolutions of "
            f"{origin.backbone} end with {end!r}. Cut lower."
        )
    gates = find_gates(base, end)
    if layer not in gates:
        before = [one for one in known[:place] if one in gates]
        after = [one for one in known[place:] if one in gates]
        nearest = " or ".join(before[-1:] + after[:1])
        raise NetworkError(
            f"{where}: a tail needs a layer that everything passes through, and others go round "
            f"{layer!r}. The nearest that works: {nearest}."
        )
    return base.get_layer(layer)
