"""Batch norms of frozen networks, folded into the convolutions before them."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from extract.config.arrays import Float32s, Floats
from extract.networks.graph import CONVOLUTIONS, Parents, find_parents


def fold_batch_norms(model: keras.Model) -> keras.Model:
    """Return the model without the batch norms that directly follow a convolution.

    The function stays the same, with fewer passes over memory. A batch norm stays where folding is
    not exact: after an activation (ResNet's second version), or where the convolution's own output
    is used by another layer or is a cut.

    Parameters
    ----------
    model : a functional model of float32 weights; it is not changed.
    """
    parents = find_parents(model)
    folded: dict[str, keras.layers.Layer] = {}
    for layer in model.layers:
        if _is_foldable(layer, model, parents):
            (conv,) = parents[layer.name]
            folded[layer.name] = conv
    if not folded:
        return model
    biased = {conv.name for conv in folded.values()}
    remade = biased.union(folded)

    def clone(layer: keras.layers.Layer) -> keras.layers.Layer:
        if layer.name in folded:
            return keras.layers.Activation("linear", name=layer.name, dtype=layer.dtype_policy)
        config = layer.get_config()
        if layer.name in biased:
            config["use_bias"] = True
        return type(layer).from_config(config)

    def call(layer: keras.layers.Layer, *args: Any, **options: Any) -> Any:
        if layer.name in folded:
            return layer(*args)
        return layer(*args, **options)

    copy = keras.models.clone_model(model, clone_function=clone, call_function=call)
    for layer in model.layers:
        if layer.weights and layer.name not in remade:
            same = copy.get_layer(layer.name)
            same.set_weights(layer.get_weights())
    for name, conv in folded.items():
        norm = model.get_layer(name)
        biased_conv = copy.get_layer(conv.name)
        biased_conv.set_weights(_fold(conv, norm))
    return copy


def _is_foldable(norm: keras.layers.Layer, model: keras.Model, parents: Parents) -> bool:
    """Return whether a layer is a batch norm over channels right after a linear convolution."""
    if not isinstance(norm, keras.layers.BatchNormalization):
        return False
    if norm.axis not in (-1, 3):
        return False
    (conv,) = parents[norm.name]
    if not isinstance(conv, CONVOLUTIONS):
        return False
    if conv.data_format != "channels_last":
        return False
    n_readers = sum(feeding.count(conv) for feeding in parents.values())
    is_cut = any(conv.output is output for output in model.outputs)
    is_linear = conv.activation is keras.activations.linear
    return is_linear and n_readers == 1 and not is_cut


def _fold(conv: keras.layers.Layer, norm: keras.layers.Layer) -> list[Float32s]:
    """Return the weights of the convolution with the batch norm in it, computed in float64.

    In inference a batch norm is y = s·x + t for each channel; a linear convolution before it takes
    s into its kernel and t into its bias (Jacob et al. 2018, arXiv:1712.05877, section 3.2).
    """
    mean = _read(norm.moving_mean)
    variance = _read(norm.moving_variance)
    gamma = np.ones_like(mean)
    beta = np.zeros_like(mean)
    if norm.scale:
        gamma = _read(norm.gamma)
    if norm.center:
        beta = _read(norm.beta)
    # s = γ / √(σ² + ε)
    deviation = np.sqrt(variance + norm.epsilon)
    scale = gamma / deviation
    # t = β − μ·s
    shift = beta - mean * scale

    weights = [weight.astype(np.float64) for weight in conv.get_weights()]
    bias = np.zeros_like(scale)
    if conv.use_bias:
        bias = weights.pop()
    kernel = weights.pop()
    factor = scale
    if isinstance(conv, keras.layers.DepthwiseConv2D):
        factor = scale.reshape(kernel.shape[2:])  # the kernel is (h, w, channels, multiplier)
    folded_kernel = kernel * factor
    folded_bias = bias * scale + shift
    folded = [*weights, folded_kernel, folded_bias]
    return [weight.astype(np.float32) for weight in folded]


def _read(variable: keras.Variable) -> Floats:
    values: Floats = keras.ops.convert_to_numpy(variable).astype(np.float64)
    return values
