"""What runs a network once it is built: which runtimes there are, which one is taken, and what it has to offer."""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import keras
import numpy as np
from numpy.typing import NDArray

from extract.errors import NetworkError
from extract.networks.backbones import Network

_BACKENDS = ("tensorflow", "jax", "torch")


class Gpu(NamedTuple):
    """The accelerator that Keras's backend uses: its name, and whether it computes in bfloat16."""

    name: str
    has_bfloat16: bool


class Runtime(Protocol):
    """A network compiled for one batch shape on one device.

    Attributes
    ----------
    name, version : `tensorflow`, `jax`, `torch`, `openvino` or `ncnn`, and which. `device` : `cpu`, or the GPU's name.
    """

    name: str
    version: str
    device: str

    def submit(self, pictures: NDArray[np.uint8]) -> Any:
        """Start on (batch, size, size, 3) pictures, which must not change meanwhile; gives what `fetch` takes."""

    def fetch(self, submitted: Any) -> list[NDArray[Any]]:
        """Wait for a batch, and copy its outputs to this process's memory, in the order of the model's."""


def is_installed(name: str) -> bool:
    """Return whether a package is installed; a folder that only has its name is none."""
    spec = find_spec(name)
    return spec is not None and spec.origin is not None


def find_gpu() -> Gpu | None:
    """Return the GPU that Keras's backend computes on, if any.

    Raises
    ------
    NetworkError : a backend of Keras that is not supported here.
    """
    backend = keras.backend.backend()
    if backend not in _BACKENDS:
        raise NetworkError(
            f"KERAS_BACKEND: expected one of {', '.join(_BACKENDS)}, got {backend!r}. "
            'OpenVINO is had by [extract] runtime = "openvino".'
        )
    gpu: Gpu | None = importlib.import_module(
        f"extract.networks.runtimes.{backend}_runtime"
    ).find_gpu()
    return gpu


def has_bfloat16() -> bool:
    """Return whether this machine computes in bfloat16: a GPU that has it, or a CPU with AVX512-BF16 or AMX."""
    gpu = find_gpu()
    if gpu is not None:
        return gpu.has_bfloat16
    info = Path("/proc/cpuinfo")
    text = info.read_text() if info.is_file() else ""
    return "avx512_bf16" in text or "amx_bf16" in text


def choose_runtime(asked: str, *, precision: str, is_chain: bool, is_recorded: bool = False) -> str:
    """Choose what runs the network; by rule and not by timing, so that all workers choose the same.

    Parameters
    ----------
    asked : `auto` (on a CPU, of those that are installed: ncnn for a chain of 3 × 3 convolutions in float32, OpenVINO for
        what it has the precision of, where Keras runs on TensorFlow, whose networks it reads; else Keras's backend), `keras`,
        or the name of a runtime.
    precision : what the network computes in.
    is_chain : whether the network is 3 × 3 convolutions and poolings one after the other, as far as it is used.
    is_recorded : shards that are there ask, and not the settings.

    Raises
    ------
    NetworkError : not there, or cannot compute so.
    """
    gpu = find_gpu()
    backend = keras.backend.backend()
    has_precision = precision == "float32" or (precision == "bfloat16" and has_bfloat16())
    if asked == "auto":
        fit = {
            "ncnn": is_chain and precision == "float32",
            "openvino": has_precision and backend == "tensorflow",
        }
        return next(
            (name for name, does in fit.items() if does and gpu is None and is_installed(name)),
            backend,
        )
    if asked in ("ncnn", "openvino") and not is_installed(asked):
        who, way_out = (
            (
                "the shards that are there were made with it",
                "start anew with --fresh (FRESH=1 for make)",
            )
            if is_recorded
            else (f'[extract] runtime = "{asked}"', 'write runtime = "auto"')
        )
        raise NetworkError(
            f'{asked} is not installed here, and {who}: pip install ".[{asked}]", or {way_out}.'
        )
    if asked == "ncnn" and not is_chain:
        raise NetworkError(
            '[extract] runtime = "ncnn": of all networks it runs vgg16 and vgg19, up to block5_pool, and a '
            'cut is another. Write runtime = "auto".'
        )
    if asked == "ncnn" and precision != "float32":
        raise NetworkError(
            f'[extract] runtime = "ncnn": it computes in float32, and precision is "{precision}". Write '
            'runtime = "auto", or precision = "float32".'
        )
    if asked == "openvino" and not has_precision:
        raise NetworkError(
            f'[extract] precision = "{precision}": this CPU has it not, so OpenVINO would take another. '
            'Write precision = "float32", or runtime = "keras".'
        )
    if asked not in ("keras", "ncnn", "openvino", backend):
        raise NetworkError(
            f"runtime {asked!r}: the shards that are there were made with it, and Keras runs on {backend!r} "
            f"now. Set KERAS_BACKEND={asked}, or start anew with --fresh (FRESH=1 for make)."
        )
    return backend if asked == "keras" else asked


def compile_network(runtime: str, network: Network, *, batch: int, precision: str) -> Runtime:
    """Compile a network for batches of one size; its Keras model is needed no more.

    Raises
    ------
    NetworkError : the runtime cannot be loaded, or does not take the network.
    """
    try:
        module = importlib.import_module(f"extract.networks.runtimes.{runtime}_runtime")
    except ImportError as error:
        raise NetworkError(
            f"{runtime} is installed, and cannot be loaded: {error}. Install it anew, or set [extract] "
            'runtime = "keras".'
        ) from None
    compiled: Runtime = module.compile_network(network, batch=batch, precision=precision)
    return compiled
