"""Program, with Keras on PyTorch: a network and its exported operations compute the same."""

from __future__ import annotations

import sys

import keras
import numpy as np
import torch
from keras import layers

from extract.networks.runtimes.torch_operations import export_operations

SIDE = 16


def build_odd() -> keras.Model:
    """Build what is hard to export: outputs used twice, sums, constants, all convolutions."""
    given = keras.Input((SIDE, SIDE, 3), dtype="uint8")
    first = layers.Conv2D(8, 3, padding="same", name="used_twice")(
        layers.Rescaling(1 / 127.5, offset=-1)(given)
    )
    flow = layers.DepthwiseConv2D(3, strides=2, padding="same")(layers.ReLU()(first))
    flow = layers.Conv2D(8, 1, use_bias=False)(flow)
    flow = layers.BatchNormalization()(layers.Add()([flow, layers.MaxPooling2D(2)(first)]))
    flow = flow - keras.ops.reshape(keras.ops.arange(8, dtype=flow.dtype), (1, 1, 1, 8))
    flow = layers.BatchNormalization()(layers.BatchNormalization(scale=False)(flow))
    flow = layers.SeparableConv2D(12, 3, activation="relu")(layers.ZeroPadding2D(1)(flow))
    flow = layers.Concatenate()([flow, layers.Conv2D(4, 1, activation="swish")(flow)])
    turned = layers.Flatten()(layers.Permute((3, 1, 2))(first))
    return keras.Model(
        given, [first, flow, layers.Flatten()(flow), layers.GlobalMaxPooling2D()(flow), turned]
    )


def main() -> None:
    """Compare both, in the precision of the command line."""
    keras.config.set_dtype_policy(sys.argv[1])
    rng = np.random.default_rng(0)
    model = build_odd()
    for weight in model.weights:
        weight.assign(
            rng.normal(weight.name in ("gamma", "moving_variance"), 0.2, weight.shape).astype(
                np.float32
            )
        )
    for variance in (
        layer.moving_variance
        for layer in model.layers
        if isinstance(layer, layers.BatchNormalization)
    ):
        variance.assign(keras.ops.abs(variance) + 0.1)
    pictures = [
        torch.from_numpy(rng.integers(0, 256, (3, SIDE, SIDE, 3), np.uint8)) for _ in range(2)
    ]
    module = export_operations(model, pictures[0])
    with torch.inference_mode():
        for batch in (*pictures, *pictures):  # what is kept from one call must not change the next
            before = batch.clone()
            for own, exact in zip(
                module(batch, training=False), model(batch, training=False), strict=True
            ):
                scale = float(exact.float().abs().max())
                worst = float((own.float() - exact.float()).abs().max())
                assert own.shape == exact.shape
                assert own.dtype == exact.dtype
                assert scale > 0.1
                assert worst <= scale * (1e-5 if sys.argv[1] == "float32" else 2e-2), (worst, scale)
            assert torch.equal(batch, before)
    names = [str(node.target) for node in module.graph.nodes if node.op == "call_function"]
    convolutions = [
        node
        for node in module.graph.nodes
        if "conv" in str(node.target) and node.op == "call_function"
    ]
    assert len(convolutions) == 6
    assert not any("clone" in name or "contiguous" in name or "assert" in name for name in names)
    kernels = [getattr(module, node.args[1].target) for node in convolutions]
    assert all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)
    assert sum("batch_norm" in name for name in names) == 3
    assert (
        sum(node.args[2] is not None for node in convolutions if len(node.args) > 2) == 4
    )  # two have no bias


if __name__ == "__main__":
    main()
