"""Run a chain of 3 × 3 convolutions on ncnn, whose Winograd transforms multiply a quarter as often, in float32."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
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

from extract.errors import NetworkError
from extract.networks.backbones import Network, find_preprocess

Array = NDArray[np.float32]

# What is stored of a cut's map, (channels, h, w): pooled as `extract.networks.backbones` pools it, channels last.
_POOL: dict[str, Callable[[Array], Array]] = {
    "avg": lambda map_: map_.mean(axis=(1, 2)),
    "max": lambda map_: map_.max(axis=(1, 2)),
    "map": lambda map_: map_.transpose(1, 2, 0),
    "flat": lambda map_: map_.transpose(1, 2, 0).ravel(),
}
_ACTIVATIONS = {"linear": 0, "relu": 1}


@dataclass(frozen=True, slots=True)
class Submitted:
    """A batch in flight: rows of each output, and the pictures that are still to be embedded into them."""

    rows: list[NDArray[Any]]
    pictures: list[Future[None]]

    def __del__(self) -> None:
        """Leave out what nobody will fetch: a run that is stopped need not wait for it."""
        for picture in self.pictures:
            picture.cancel()


class NcnnRuntime:
    """A network's convolutions, and a thread a core, each of which takes one picture after the other by itself.

    A 3 × 3 convolution takes 144 multiplications for 4 × 4 values, and 36 on transformed ones (Lavin and Gray 2016, Fast
    Algorithms for Convolutional Neural Networks, arXiv:1509.09308).
    """

    name = "ncnn"
    version = ncnn.__version__
    device = "cpu"

    def __init__(self, network: Network) -> None:
        graph, weights = convert_chain(network.body)
        self._net = _load(graph, weights)
        self._preprocess = find_preprocess(network.cuts[0].backbone)
        depths = {layer.name: depth for depth, layer in enumerate(network.body.layers)}
        # The deepest last: each goes on from the one before.
        self._outputs = sorted(
            ((i, cut.layer, _POOL[cut.pooling]) for i, cut in enumerate(network.cuts)),
            key=lambda output: depths[output[1]],
        )
        self._picture = tuple(network.model.input_shape[1:])
        self._shapes = [
            (tuple(out.shape[1:]), np.dtype(out.dtype)) for out in network.model.outputs
        ]
        self._pool = ThreadPoolExecutor(cpu_count(), "ncnn")

    def submit(self, pictures: NDArray[np.uint8]) -> Submitted:
        """Hand each picture to the next thread that is free; see `Runtime`."""
        if pictures.shape[1:] != self._picture:
            raise ValueError(
                f"pictures: expected shape (n, {', '.join(map(str, self._picture))}), got {pictures.shape}"
            )
        rows = [np.empty((len(pictures), *shape), dtype) for shape, dtype in self._shapes]
        return Submitted(
            rows,
            [
                self._pool.submit(self._embed, picture, [row[i] for row in rows])
                for i, picture in enumerate(pictures)
            ],
        )

    def fetch(self, submitted: Submitted) -> list[NDArray[Any]]:
        """Wait for the pictures' rows; see `Runtime`."""
        for picture in submitted.pictures:
            picture.result()
        return submitted.rows

    def _embed(self, picture: NDArray[np.uint8], rows: list[NDArray[Any]]) -> None:
        """Embed one picture into its row of every output."""
        planes = np.ascontiguousarray(
            self._preprocess(picture.astype(np.float32)).transpose(2, 0, 1)
        )
        run = self._net.create_extractor()
        run.input("pictures", ncnn.Mat(planes))
        for i, layer, pool in self._outputs:
            code, map_ = run.extract(layer)
            if code != 0:
                raise RuntimeError(f"ncnn ended with code {code} at layer {layer!r}")
            largest = np.finfo(rows[i].dtype).max
            rows[i][...] = np.clip(pool(np.asarray(map_)), -largest, largest)  # as `Store` does


def _load(graph: str, weights: list[Array]) -> Any:
    net = ncnn.Net()
    net.opt.num_threads = 1
    for kind in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_storage"):
        setattr(net.opt, f"use_{kind}", False)
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "network.bin"
            with path.open("wb") as file:
                for values in weights:
                    file.write(values.tobytes())
            if net.load_param_mem(graph) != 0 or net.load_model(str(path)) != 0:
                raise NetworkError(
                    'ncnn cannot read the network that was written for it. Set [extract] runtime = "keras".'
                )
    except OSError as error:
        raise NetworkError(
            f"the network cannot be written for ncnn ({error}). Make room for temporary files, name another "
            'folder by TMPDIR, or set [extract] runtime = "keras".'
        ) from error
    return net


def convert_chain(body: keras.Model) -> tuple[str, list[Array]]:
    """Write a network of 3 × 3 convolutions and poolings, one after the other, as ncnn reads it.

    Returns
    -------
    Its graph, and the arrays of its weights in order. Source: ncnn's wiki, "param and model file structure" and "operators".

    Raises
    ------
    NetworkError : a layer that is no such, or does not follow the one before.
    """
    lines = ["Input pictures 0 1 pictures"]
    weights = list[Array]()
    names = {body.layers[0].name: "pictures"}
    for before, layer in pairwise(body.layers):
        written = (
            _write_layer(layer)
            if layer._inbound_nodes[0].parent_nodes[0].operation is before
            else None
        )
        if written is None:
            raise NetworkError(
                f"layer {layer.name!r}: ncnn runs nothing but 3 × 3 convolutions and poolings here, one "
                'after the other. Set [extract] runtime = "auto".'
            )
        kind, options = written
        lines.append(f"{kind} {layer.name} 1 1 {names[before.name]} {layer.name} {options}")
        names[layer.name] = layer.name
        if kind == "Convolution":
            kernel, bias = layer.get_weights()
            weights += [
                np.zeros(1, np.float32),
                kernel.transpose(3, 2, 0, 1),
                bias,
            ]  # 0: float32 follows, not packed
    return "\n".join(["7767517", f"{len(lines)} {len(lines)}", *lines, ""]), weights


def _write_layer(layer: keras.layers.Layer) -> tuple[str, str] | None:
    """Return a layer's kind and options as ncnn has them; None where it is another kind of layer."""
    if isinstance(layer, keras.layers.MaxPooling2D) and layer.padding == "valid":
        return (
            "Pooling",
            f"0=0 1={layer.pool_size[1]} 11={layer.pool_size[0]} 2={layer.strides[1]} 12={layer.strides[0]} 5=1",
        )
    plain = {
        "kernel_size": (3, 3),
        "strides": (1, 1),
        "dilation_rate": (1, 1),
        "groups": 1,
        "padding": "same",
        "use_bias": True,
    }
    if type(layer) is not keras.layers.Conv2D or any(
        getattr(layer, name) != value for name, value in plain.items()
    ):
        return None
    activation = _ACTIVATIONS.get(layer.activation.__name__)
    size = int(np.prod(layer.kernel.shape))
    return (
        None
        if activation is None
        else ("Convolution", f"0={layer.filters} 1=3 3=1 4=1 5=1 6={size} 9={activation}")
    )


def compile_network(network: Network, *, batch: int, precision: str) -> NcnnRuntime:  # noqa: ARG001  (all are called alike)
    """Convert and load a network of float32 weights."""
    return NcnnRuntime(network)
