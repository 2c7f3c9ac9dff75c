"""Run a network on OpenVINO, the fastest on CPUs; Keras writes it down, as a rule by TensorFlow."""

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
from numpy.typing import NDArray

from extract.errors import NetworkError
from extract.networks.backbones import Network

_HINTS = {"float32": "f32", "bfloat16": "bf16"}
_PIECE = 1  # pictures a request: what a few pictures leave behind stays in the caches, what thirty-two leave does not


@dataclass(slots=True)
class Slot:
    """Room for one batch in flight: a request a piece, the pictures that they read, and the arrays that they write into."""

    requests: list[Any]
    outputs: list[NDArray[Any]]
    pictures: NDArray[np.uint8] | None = None

    def __del__(self) -> None:
        """End what nobody fetched, as in a run that is stopped: else the requests would write into memory that is freed."""
        for request in self.requests:
            request.cancel()
        for request in self.requests:
            with suppress(RuntimeError):  # that it was cancelled
                request.wait()


class OpenvinoRuntime:
    """A compiled model and the slots that are free.

    A batch is cut into small requests, and each core takes one after the other by itself: no core waits for another at
    the end of every layer, and a core that decodes pictures for a while delays nobody. What a picture gives does not
    depend on the number of cores. Pictures are read and rows are written where they lie: handing each over by Python took
    as long as pooling three more cuts.
    """

    name = "openvino"
    version = openvino.__version__
    device = "cpu"

    def __init__(self, model: keras.Model, *, batch: int, precision: str) -> None:
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
                converted.reshape([_PIECE, *model.input_shape[1:]])
                self._compiled = core.compile_model(converted, "CPU", hints)
        except (RuntimeError, OSError) as error:
            raise NetworkError(
                f"OpenVINO cannot write or read the network ({error}). Make room for temporary files, name "
                'another folder by TMPDIR, or set [extract] runtime = "keras".'
            ) from error
        self._batch = batch
        self._free: list[Slot] = []

    def submit(self, pictures: NDArray[np.uint8]) -> Slot:
        """Start a request for each piece; see `Runtime`."""
        slot = self._free.pop() if self._free else self._open_slot()
        slot.pictures = pictures = np.ascontiguousarray(pictures)
        for i, request in enumerate(slot.requests):
            request.set_input_tensor(
                openvino.Tensor(pictures[i * _PIECE : (i + 1) * _PIECE], shared_memory=True)
            )
            request.start_async()
        return slot

    def _open_slot(self) -> Slot:
        outputs = [
            np.empty((self._batch, *port.get_shape()[1:]), port.get_element_type().to_dtype())
            for port in self._compiled.outputs
        ]
        requests = [self._compiled.create_infer_request() for _ in range(self._batch // _PIECE)]
        for i, request in enumerate(requests):
            for j, rows in enumerate(outputs):
                request.set_output_tensor(
                    j, openvino.Tensor(rows[i * _PIECE : (i + 1) * _PIECE], shared_memory=True)
                )
        return Slot(requests, outputs)

    def fetch(self, submitted: Slot) -> list[NDArray[Any]]:
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
            f"OpenVINO cannot read the network as Keras writes it on {keras.backend.backend()}. Set "
            'KERAS_BACKEND=tensorflow, or [extract] runtime = "keras".'
        ) from error


def compile_network(network: Network, *, batch: int, precision: str) -> OpenvinoRuntime:
    """Convert and compile a network of float32 weights; OpenVINO itself brings it to `precision`."""
    return OpenvinoRuntime(network.model, batch=batch, precision=precision)
