"""Batch norms of frozen networks, folded into the convolutions before them: the same function with fewer passes over memory."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

_CONVOLUTIONS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.SeparableConv2D)


def fold_batch_norms(model: keras.Model) -> keras.Model:
    """Return the model without the batch norms that follow a convolution at once.

    In inference a batch norm is y = s·x + t for each channel, with s = γ / √(σ² + ε) and t = β − μ·s; a linear
    convolution before it takes s into its kernel and t into its bias (Jacob et al. 2018, arXiv:1712.05877, section 3.2).
    A batch norm stays where that is not exact: after an activation (ResNet's second version), or where the
    convolution's own output is used by another layer or is a cut.

    Parameters
    ----------
    model : a functional model of float32 weights; it is left as it is.
    """
    folded = {
        norm.name: conv
        for norm in model.layers
        if (conv := _convolution_before(norm, model)) is not None
    }
    if not folded:
        return model
    biased = {conv.name for conv in folded.values()}

    def clone(layer: keras.layers.Layer) -> keras.layers.Layer:
        if layer.name in folded:
            return keras.layers.Activation("linear", name=layer.name, dtype=layer.dtype_policy)
        config = layer.get_config()
        return type(layer).from_config(
            {**config, "use_bias": True} if layer.name in biased else config
        )

    def call(layer: keras.layers.Layer, *args: Any, **options: Any) -> Any:
        return layer(*args) if layer.name in folded else layer(*args, **options)

    copy = keras.models.clone_model(model, clone_function=clone, call_function=call)
    for layer in model.layers:
        if layer.weights and layer.name not in folded and layer.name not in biased:
            copy.get_layer(layer.name).set_weights(layer.get_weights())
    for name, conv in folded.items():
        copy.get_layer(conv.name).set_weights(_fold(conv, model.get_layer(name)))
    return copy


def _convolution_before(norm: keras.layers.Layer, model: keras.Model) -> keras.layers.Layer | None:
    """Return the convolution that a layer can be folded into, if the layer is a batch norm and there is one."""
    if not isinstance(norm, keras.layers.BatchNormalization) or norm.axis not in (-1, 3):
        return None
    conv = norm._inbound_nodes[0].parent_nodes[0].operation
    is_alone = len(conv._outbound_nodes) == 1 and all(
        conv.output is not output for output in model.outputs
    )
    is_linear = isinstance(conv, _CONVOLUTIONS) and conv.activation is keras.activations.linear
    return conv if is_linear and is_alone and conv.data_format == "channels_last" else None


def _fold(conv: keras.layers.Layer, norm: keras.layers.Layer) -> list[NDArray[np.float32]]:
    """Return the weights of the convolution with the batch norm in it; reckoned in float64."""
    scale, shift = _scale_and_shift(norm)
    *kernels, bias = [w.astype(np.float64) for w in conv.get_weights()] + (
        [] if conv.use_bias else [np.zeros_like(scale)]
    )
    is_depthwise = isinstance(
        conv, keras.layers.DepthwiseConv2D
    )  # its kernel: (h, w, channels, multiplier)
    kernels[-1] = kernels[-1] * (scale.reshape(kernels[-1].shape[2:]) if is_depthwise else scale)
    return [w.astype(np.float32) for w in (*kernels, bias * scale + shift)]


def _scale_and_shift(norm: keras.layers.Layer) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    read = keras.ops.convert_to_numpy
    mean, variance = (np.float64(read(v)) for v in (norm.moving_mean, norm.moving_variance))
    gamma = np.float64(read(norm.gamma)) if norm.scale else 1.0
    beta = np.float64(read(norm.beta)) if norm.center else 0.0
    scale = gamma / np.sqrt(variance + norm.epsilon)
    return scale, beta - mean * scale
