"""Run a network on OpenVINO, the fastest on CPUs; Keras converts the model, whatever its backend is."""

from __future__ import annotations

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


class OpenvinoRuntime:
    """A compiled model and the requests that are free; several may be under way."""

    name, version, device = "openvino", openvino.__version__, "cpu"

    def __init__(self, model: keras.Model, *, batch: int, precision: str) -> None:
        hints = {"INFERENCE_PRECISION_HINT": _HINTS[precision], "PERFORMANCE_HINT": "LATENCY"}  # all cores for one batch
        core = openvino.Core()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "network.xml"
            try:
                model.export(str(path), format="openvino", verbose=False)
            except (RuntimeError, OSError) as error:
                raise RuntimeChoiceError(f"{folder}: OpenVINO cannot write the network there ({error}). Make room in it, name "
                                         "another folder by TMPDIR, or set [extract] runtime = \"keras\".") from error
            converted = core.read_model(path)
            converted.reshape([batch, *model.input_shape[1:]])
            self._compiled = core.compile_model(converted, "CPU", hints)
        self._free: deque[Any] = deque()

    def submit(self, pictures: NDArray[np.uint8]) -> Any:
        """Start a request; see `Runtime`."""
        request = self._free.pop() if self._free else self._compiled.create_infer_request()
        request.start_async({0: pictures}, share_inputs=True)
        return request, pictures

    def fetch(self, submitted: Any) -> list[NDArray[Any]]:
        """Wait for a request, copy its outputs and free it; see `Runtime`."""
        request, _ = submitted
        request.wait()
        outputs = [np.array(request.get_output_tensor(i).data) for i in range(len(self._compiled.outputs))]
        self._free.append(request)
        return outputs


def compile_network(model: keras.Model, *, batch: int, precision: str) -> OpenvinoRuntime:
    """Convert and compile a model of float32 weights; OpenVINO itself brings it to `precision`."""
    return OpenvinoRuntime(model, batch=batch, precision=precision)
