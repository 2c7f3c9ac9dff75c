"""Run a chain of 3 × 3 convolutions on ncnn, whose Winograd transforms need fewer products."""

from __future__ import annotations

import tempfile
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import keras
import ncnn
import numpy as np
from joblib import cpu_count
from numpy.typing import NDArray

from extract.config.arrays import Float32s, Pixels
from extract.errors import NetworkError
from extract.networks.backbones import FrozenNetwork, find_preprocess
from extract.networks.graph import find_parents
from extract.networks.pixels import pool

Array = Float32s

_ACTIVATIONS = {"linear": 0, "relu": 1}
_PLAIN = {
    "kernel_size": (3, 3),
    "strides": (1, 1),
    "dilation_rate": (1, 1),
    "groups": 1,
    "padding": "same",
    "use_bias": True,
}


@dataclass(frozen=True, slots=True)
class PictureBatch:
    """A batch in flight: rows of each output, and the pictures still to be embedded into them."""

    rows: list[NDArray[Any]]
    pictures: list[Future[None]]

    def __del__(self) -> None:
        """Cancel what nobody will fetch: a run that is stopped need not wait for it."""
        for picture in self.pictures:
            picture.cancel()


class NcnnRuntime:
    """Convolutions of a network, and a thread a core, which takes one picture after the other.

    A 3 × 3 convolution takes 144 multiplications for 4 × 4 values, and 36 on transformed ones
    (Lavin and Gray 2016, arXiv:1509.09308).
    """

    name = "ncnn"
    version = ncnn.__version__
    device = "cpu"

    def __init__(
        self,
        network: FrozenNetwork,
        *,
        batch: int,  # noqa: ARG002
        precision: str,  # noqa: ARG002
    ) -> None:
        self._net = _load(*convert_chain(network.body))
        self._preprocess = find_preprocess(network.cuts[0].backbone)
        depths = [layer.name for layer in network.body.layers]
        outputs = [(i, cut.layer, cut.pooling) for i, cut in enumerate(network.cuts)]
        # The deepest last: each goes on from the one before.
        self._outputs = sorted(outputs, key=lambda output: depths.index(output[1]))
        self._picture = tuple(network.model.input_shape[1:])
        self._shapes = network.shapes.values()
        self._dtypes = [np.dtype(output.dtype) for output in network.model.outputs]
        self._pool = ThreadPoolExecutor(cpu_count(), "ncnn")

    def submit(self, pictures: Pixels) -> PictureBatch:
        """Hand each picture to the next thread that is free; see `Runtime`."""
        if pictures.shape[1:] != self._picture:
            expected = ", ".join(map(str, self._picture))
            raise ValueError(f"pictures: expected shape (n, {expected}), got {pictures.shape}")
        types = zip(self._shapes, self._dtypes, strict=True)
        rows = [np.empty((len(pictures), *shape), dtype) for shape, dtype in types]
        running = []
        for i, picture in enumerate(pictures):
            of_picture = [values[i] for values in rows]
            running.append(self._pool.submit(self._embed, picture, of_picture))
        return PictureBatch(rows, running)

    def fetch(self, submitted: PictureBatch) -> list[NDArray[Any]]:
        """Wait for the pictures' rows; see `Runtime`."""
        for picture in submitted.pictures:
            picture.result()
        return submitted.rows

    def _embed(self, picture: Pixels, rows: list[NDArray[Any]]) -> None:
        """Embed one picture into its row of every output."""
        scaled = self._preprocess(picture.astype(np.float32))
        planes = np.ascontiguousarray(scaled.transpose(2, 0, 1))
        run = self._net.create_extractor()
        run.input("pictures", ncnn.Mat(planes))
        for i, layer, pooling in self._outputs:
            code, map_ = run.extract(layer)
            if code != 0:
                raise RuntimeError(f"ncnn ended with code {code} at layer {layer!r}")
            channels_last = np.asarray(map_).transpose(1, 2, 0)
            pooled = pool(channels_last[np.newaxis], pooling)
            largest = np.finfo(self._dtypes[i]).max
            rows[i][...] = np.clip(pooled[0], -largest, largest)  # as `store` does


def _load(graph: str, weights: list[Array]) -> Any:
    net = ncnn.Net()
    net.opt.num_threads = 1
    for kind in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_storage"):
        setattr(net.opt, f"use_{kind}", False)
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "network.bin"
            path.write_bytes(b"".join(values.tobytes() for values in weights))
            is_read = net.load_param_mem(graph) == 0 and net.load_model(str(path)) == 0
    except OSError as error:
        raise NetworkError(
            f"the network cannot be written for ncnn ({error}). Make room for temporary files, "
            'name another folder by TMPDIR, or set [extract] runtime = "keras".'
        ) from error
    if not is_read:
        raise NetworkError(
            'ncnn cannot read the network that was written for it. Set [extract] runtime = "keras".'
        )
    return net


def convert_chain(body: keras.Model) -> tuple[str, list[Array]]:
    """Write a chain of 3 × 3 convolutions and poolings as ncnn reads it.

    Returns
    -------
    Its graph, and the arrays of its weights in order. Source: ncnn's wiki, "param and model file
    structure" and "operators".

    Raises
    ------
    NetworkError : a layer of another kind, or one that does not follow the one before.
    """
    parents = find_parents(body)
    lines = ["Input pictures 0 1 pictures"]
    weights: list[Array] = []
    source = "pictures"
    for before, layer in pairwise(body.layers):
        operator = _convert_layer(layer)
        if operator is None or parents[layer.name] != [before]:
            raise NetworkError(
                f"layer {layer.name!r}: ncnn runs nothing but 3 × 3 convolutions and poolings "
                'here, one after the other. Set [extract] runtime = "auto".'
            )
        kind, options = operator
        lines.append(f"{kind} {layer.name} 1 1 {source} {layer.name} {options}")
        source = layer.name
        if kind == "Convolution":
            kernel, bias = layer.get_weights()
            is_float32 = np.zeros(1, np.float32)  # 0: float32 follows, not packed
            weights += [is_float32, kernel.transpose(3, 2, 0, 1), bias]
    return "\n".join(["7767517", f"{len(lines)} {len(lines)}", *lines, ""]), weights


def _convert_layer(layer: keras.layers.Layer) -> tuple[str, str] | None:
    """Return a layer's kind and options in ncnn; None where it is another kind of layer."""
    if isinstance(layer, keras.layers.MaxPooling2D) and layer.padding == "valid":
        height, width = layer.pool_size
        down, along = layer.strides
        return "Pooling", f"0=0 1={width} 11={height} 2={along} 12={down} 5=1"
    if type(layer) is not keras.layers.Conv2D:
        return None
    config = layer.get_config()
    is_plain = all(config[name] == value for name, value in _PLAIN.items())
    if not is_plain or config["activation"] not in _ACTIVATIONS:
        return None
    size = int(np.prod(layer.kernel.shape))
    activation = _ACTIVATIONS[config["activation"]]
    return "Convolution", f"0={layer.filters} 1=3 3=1 4=1 5=1 6={size} 9={activation}"
