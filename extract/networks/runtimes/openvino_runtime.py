"""Run a network on OpenVINO, the fastest runtime on CPUs; Keras exports it, by TensorFlow."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import openvino
from joblib import cpu_count

from extract.config.arrays import Array, Pixels
from extract.errors import NetworkError
from extract.networks.backbones import FrozenNetwork

_HINTS = {"float32": "f32", "bfloat16": "bf16"}


@dataclass(slots=True)
class RequestSlot:
    """Memory of one batch in flight: a request a picture, the pictures, and the output arrays."""

    requests: list[Any]
    outputs: list[Array]
    pictures: Pixels | None = None

    def __del__(self) -> None:
        """End requests that nobody fetched: they would write into memory that is freed."""
        for request in self.requests:
            request.cancel()
        for request in self.requests:
            with suppress(RuntimeError):  # that it was cancelled
                request.wait()


class OpenvinoRuntime:
    """A compiled model and its free slots.

    A batch is split into requests of one picture, and each core takes one after the other: no core
    waits for another at the end of a layer, a core that decodes for a while delays nobody, what a
    picture leaves behind stays in the caches, and its rows do not depend on the number of cores.
    Pictures are read and rows written in place: handing each over took as long as pooling three
    more cuts.
    """

    name = "openvino"
    version = openvino.__version__
    device = "cpu"

    def __init__(self, network: FrozenNetwork, *, batch: int, precision: str) -> None:
        model = network.model
        cores = cpu_count()
        hints = {
            "INFERENCE_PRECISION_HINT": _HINTS[precision],
            "NUM_STREAMS": str(cores),
            "INFERENCE_NUM_THREADS": str(cores),
        }
        core = openvino.Core()
        try:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "network.xml"
                _write(model, path)
                converted = core.read_model(path)
                converted.reshape([1, *model.input_shape[1:]])
                self._compiled = core.compile_model(converted, "CPU", hints)
        except (RuntimeError, OSError) as error:
            raise NetworkError(
                f"OpenVINO cannot write or read the network ({error}). Make room for temporary "
                'files, name another folder by TMPDIR, or set [extract] runtime = "keras".'
            ) from error
        self._batch = batch
        self._free: list[RequestSlot] = []

    def submit(self, pictures: Pixels) -> RequestSlot:
        """Start a request for each picture; see `Runtime`."""
        slot = self._free.pop() if self._free else self._open_slot()
        slot.pictures = pictures = np.ascontiguousarray(pictures)
        for i, request in enumerate(slot.requests):
            picture = openvino.Tensor(pictures[i : i + 1], shared_memory=True)
            request.set_input_tensor(picture)
            request.start_async()
        return slot

    def _open_slot(self) -> RequestSlot:
        outputs = [
            np.empty((self._batch, *port.get_shape()[1:]), port.get_element_type().to_dtype())
            for port in self._compiled.outputs
        ]
        requests = [self._compiled.create_infer_request() for _ in range(self._batch)]
        for i, request in enumerate(requests):
            for j, rows in enumerate(outputs):
                row = openvino.Tensor(rows[i : i + 1], shared_memory=True)
                request.set_output_tensor(j, row)
        return RequestSlot(requests, outputs)

    def fetch(self, submitted: RequestSlot) -> list[Array]:
        """Wait for the requests, copy their outputs and free them; see `Runtime`."""
        for request in submitted.requests:
            request.wait()
        rows = [output.copy() for output in submitted.outputs]
        submitted.pictures = None
        self._free.append(submitted)
        return rows


def _write(model: keras.Model, path: Path) -> None:
    try:
        model.export(str(path), format="openvino", verbose=False)
    except (RuntimeError, OSError):
        raise
    except Exception as error:  # OpenVINO's own are of no kind but this
        raise NetworkError(
            f"OpenVINO cannot read the network as Keras writes it on {keras.backend.backend()}. "
            'Set KERAS_BACKEND=tensorflow, or [extract] runtime = "keras".'
        ) from error
