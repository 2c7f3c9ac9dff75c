"""Run a network on OpenVINO, the fastest on CPUs; Keras converts the model, whatever its backend is."""

from __future__ import annotations

import os
import tempfile
from collections import deque
from pathlib import Path
from typing import Any

import keras
import numpy as np
import openvino
from numpy.typing import NDArray

from extract.runtimes import RuntimeChoiceError

_HINTS = {"float32": "f32", "bfloat16": "bf16"}


_PIECE = 1  # pictures a request: what a few pictures leave behind stays in the caches, what thirty-two leave does not


class OpenvinoRuntime:
    """A compiled model and the requests that are free.

    A batch is cut into small requests, and each core takes one after the other by itself: no core waits for another at
    the end of every layer, and a core that decodes pictures for a while delays nobody. What a picture gives does not
    depend on the number of cores.
    """

    name, version, device = "openvino", openvino.__version__, "cpu"

    def __init__(self, model: keras.Model, *, precision: str) -> None:
        cores = len(os.sched_getaffinity(0))
        hints = {"INFERENCE_PRECISION_HINT": _HINTS[precision], "NUM_STREAMS": str(cores), "INFERENCE_NUM_THREADS": str(cores)}
        core = openvino.Core()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "network.xml"
            try:
                model.export(str(path), format="openvino", verbose=False)
            except (RuntimeError, OSError) as error:
                raise RuntimeChoiceError(f"{folder}: OpenVINO cannot write the network there ({error}). Make room in it, name "
                                         "another folder by TMPDIR, or set [extract] runtime = \"keras\".") from error
            converted = core.read_model(path)
            converted.reshape([_PIECE, *model.input_shape[1:]])
            self._compiled = core.compile_model(converted, "CPU", hints)
        self._free: deque[Any] = deque()

    def submit(self, pictures: NDArray[np.uint8]) -> Any:
        """Start a request for each piece; see `Runtime`."""
        requests = [self._free.pop() if self._free else self._compiled.create_infer_request() for _ in range(len(pictures))]
        for i, request in enumerate(requests):
            request.start_async({0: pictures[i:i + 1]}, share_inputs=True)
        return requests, pictures

    def fetch(self, submitted: Any) -> list[NDArray[Any]]:
        """Wait for the requests, copy their outputs and free them; see `Runtime`."""
        requests, _ = submitted
        rows = []
        for request in requests:
            request.wait()
            rows.append([np.array(tensor.data) for tensor in request.output_tensors])
            self._free.append(request)
        return [np.concatenate(pieces) for pieces in zip(*rows, strict=True)]


def compile_network(model: keras.Model, *, batch: int, precision: str) -> OpenvinoRuntime:  # noqa: ARG001  (all are called alike)
    """Convert and compile a model of float32 weights; OpenVINO itself brings it to `precision`."""
    return OpenvinoRuntime(model, precision=precision)
