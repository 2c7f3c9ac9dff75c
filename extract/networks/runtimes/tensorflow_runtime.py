"""Run a network on TensorFlow: one frozen graph of constants, which Grappler folds and fuses.

This is the only file of the extraction that imports TensorFlow.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from extract.config.arrays import Array, Pixels
from extract.networks.backbones import FrozenNetwork
from extract.networks.runtimes.selection import Gpu


def find_gpu() -> Gpu | None:
    """Return TensorFlow's first GPU; bfloat16 needs compute capability 8.0."""
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return None
    details = tf.config.experimental.get_device_details(gpus[0])
    capability = details.get("compute_capability", (8, 0))
    return Gpu(details.get("device_name", "GPU"), capability >= (8, 0))


class TensorFlowRuntime:
    """A frozen graph. On a GPU its outputs stay there until they are fetched."""

    name = "tensorflow"
    version = tf.__version__

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
        pictures = tf.TensorSpec((batch, *model.input_shape[1:]), tf.uint8)
        function = tf.function(
            lambda batch: tf.nest.flatten(model(batch, training=False)),
            input_signature=[pictures],
        )
        self._function = convert_variables_to_constants_v2(function.get_concrete_function())

    def submit(self, pictures: Pixels) -> Any:
        """Run the graph; see `Runtime`."""
        return self._function(tf.constant(pictures))

    def fetch(self, submitted: Any) -> list[Array]:
        """Copy the outputs; see `Runtime`."""
        return [output.numpy() for output in submitted]
