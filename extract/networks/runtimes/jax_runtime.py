"""Run a network on JAX: one compiled stateless call, which returns before the device is done."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from extract.config.arrays import Array, Pixels
from extract.networks.backbones import FrozenNetwork
from extract.networks.runtimes.selection import Gpu


def find_gpu() -> Gpu | None:
    """Return JAX's first device, unless that is the CPU.

    bfloat16 needs compute capability 8.0 where it is an NVIDIA GPU.
    """
    device = jax.devices()[0]
    if device.platform == "cpu":
        return None
    major = str(getattr(device, "compute_capability", "8")).split(".")[0]
    return Gpu(device.device_kind, not major.isdigit() or int(major) >= 8)


class JaxRuntime:
    """A compiled call, its weights on the device."""

    name = "jax"
    version = jax.__version__

    def __init__(
        self,
        network: FrozenNetwork,
        *,
        batch: int,
        precision: str,  # noqa: ARG002
    ) -> None:
        model = network.model
        gpu = find_gpu()
        self.device = gpu.name if gpu else "cpu"
        self._weights = [
            [v.value for v in variables]
            for variables in (model.trainable_variables, model.non_trainable_variables)
        ]

        def call(trainable: Any, frozen: Any, pictures: Any) -> Any:
            outputs, _ = model.stateless_call(trainable, frozen, pictures, training=False)
            return jax.tree.leaves(outputs)

        pictures = jax.ShapeDtypeStruct((batch, *model.input_shape[1:]), np.uint8)
        self._call = jax.jit(call).lower(*self._weights, pictures).compile()

    def submit(self, pictures: Pixels) -> Any:
        """Send the pictures, start the call and the way back of its outputs; see `Runtime`."""
        outputs = self._call(*self._weights, jax.device_put(pictures))
        for output in outputs:
            output.copy_to_host_async()
        return outputs

    def fetch(self, submitted: Any) -> list[Array]:
        """Wait for the outputs; see `Runtime`."""
        return [np.asarray(output) for output in submitted]
