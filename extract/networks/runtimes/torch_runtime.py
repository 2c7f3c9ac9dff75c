"""Run a network on PyTorch: compiled, in inference mode, with copies that do not wait."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch

from extract.config.arrays import Array, Pixels
from extract.errors import NetworkError
from extract.networks.backbones import FrozenNetwork
from extract.networks.runtimes.selection import Gpu


def find_gpu() -> Gpu | None:
    """Return PyTorch's current CUDA device."""
    if not torch.cuda.is_available():
        return None
    return Gpu(
        torch.cuda.get_device_name(), torch.cuda.is_bf16_supported(including_emulation=False)
    )


class TorchRuntime:
    """A compiled network in inference mode; on a GPU a call returns before it is done.

    The exported operations are compiled, and not Keras's calls: on two cores in float32 compiling
    them gave MobileNetV2 (to block 6) 1.3 and VGG16 (to block 3) 1.5 times the pictures a second of
    a graph of our own without Keras's copies.
    """

    name = "torch"
    version = torch.__version__

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
        pictures = np.zeros((batch, *model.input_shape[1:]), np.uint8)
        example = torch.from_numpy(pictures).to("cuda" if gpu else "cpu")
        exported = torch.export.export(model, (example,), {"training": False}, strict=False)
        self._call = partial(torch.compile(exported.module()), training=False)
        torch.backends.cudnn.benchmark = True  # one batch shape: look for the fastest kernels once
        try:
            self.fetch(self.submit(pictures))
        except RuntimeError as error:
            raise NetworkError(
                f"PyTorch cannot compile the network here: {str(error).splitlines()[0]}. Install a "
                "C++ compiler, or run on another KERAS_BACKEND."
            ) from error

    def submit(self, pictures: Pixels) -> Any:
        """Send the pictures, start the call and the way back of its outputs; see `Runtime`."""
        batch = torch.from_numpy(pictures)
        with torch.inference_mode():
            if self.device == "cpu":
                return _flatten(self._call(batch)), None
            on_device = batch.pin_memory().to("cuda", non_blocking=True)
            outputs = _flatten(self._call(on_device))
            outputs = [output.to("cpu", non_blocking=True) for output in outputs]
            return outputs, torch.cuda.current_stream().record_event()

    def fetch(self, submitted: Any) -> list[Array]:
        """Wait for the outputs; see `Runtime`."""
        outputs, event = submitted
        if event is not None:
            event.synchronize()
        return [output.numpy() for output in outputs]


def _flatten(outputs: Any) -> list[Any]:
    return list(outputs) if isinstance(outputs, list | tuple) else [outputs]
