"""Choose and load the runtime of a built network; the contract of all runtimes."""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, Protocol

import keras

from extract.config.arrays import Array, Pixels
from extract.errors import NetworkError
from extract.networks.backbones import FrozenNetwork

_BACKENDS = ("tensorflow", "jax", "torch")
_CLASSES = {
    "tensorflow": "TensorFlowRuntime",
    "jax": "JaxRuntime",
    "torch": "TorchRuntime",
    "ncnn": "NcnnRuntime",
    "openvino": "OpenvinoRuntime",
}


class Gpu(NamedTuple):
    """The accelerator that Keras's backend uses: its name, and whether it computes in bfloat16."""

    name: str
    has_bfloat16: bool


class Runtime(Protocol):
    """A network compiled for one batch shape on one device.

    Attributes
    ----------
    name, version : `tensorflow`, `jax`, `torch`, `openvino` or `ncnn`, and its version.
    device : `cpu`, or the GPU's name.
    """

    name: str
    version: str
    device: str

    def submit(self, pictures: Pixels) -> Any:
        """Start on (batch, size, size, 3) pictures; return what `fetch` takes."""

    def fetch(self, submitted: Any) -> list[Array]:
        """Wait for a batch, and copy its outputs to this process's memory, in the model's order."""


def is_installed(name: str) -> bool:
    """Return whether a package is installed; a folder of that name is not enough."""
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
            'For OpenVINO set [extract] runtime = "openvino".'
        )
    gpu: Gpu | None = _import_runtime(backend).find_gpu()
    return gpu


def _import_runtime(name: str) -> ModuleType:
    return importlib.import_module(f"extract.networks.runtimes.{name}_runtime")


def has_bfloat16() -> bool:
    """Return whether the GPU, or a CPU with AVX512-BF16 or AMX, computes in bfloat16."""
    gpu = find_gpu()
    if gpu is not None:
        return gpu.has_bfloat16
    info = Path("/proc/cpuinfo")
    text = info.read_text() if info.is_file() else ""
    return "avx512_bf16" in text or "amx_bf16" in text


def choose_runtime(asked: str, *, precision: str, is_chain: bool, is_recorded: bool = False) -> str:
    """Choose what runs the network, by rule and not by timing, so that all workers choose alike.

    Parameters
    ----------
    asked : `auto`, `keras`, or the name of a runtime. `auto` takes on a CPU, if installed, ncnn for
        a chain of 3 × 3 convolutions in float32, or OpenVINO for the precisions that it has, where
        Keras runs on TensorFlow, whose networks it reads; else Keras's backend.
    precision : what the network computes in.
    is_chain : whether the used part is a chain of 3 × 3 convolutions and poolings.
    is_recorded : whether finished shards ask, and not the settings.

    Raises
    ------
    NetworkError : not installed, or cannot compute so.
    """
    backend = keras.backend.backend()
    if asked == "auto":
        return _choose_automatically(backend, precision, is_chain=is_chain)
    if asked in ("keras", backend):
        return backend
    if asked not in ("ncnn", "openvino"):
        raise NetworkError(
            f"runtime {asked!r}: the shards that are there were made with it, and Keras runs on "
            f"{backend!r} now. Set KERAS_BACKEND={asked}, or start anew with --fresh (FRESH=1 for "
            "make)."
        )
    if not is_installed(asked):
        who = f'[extract] runtime = "{asked}"'
        remedy = 'write runtime = "auto"'
        if is_recorded:
            who = "the shards that are there were made with it"
            remedy = "start anew with --fresh (FRESH=1 for make)"
        raise NetworkError(
            f'{asked} is not installed here, and {who}: pip install ".[{asked}]", or {remedy}.'
        )
    if asked == "openvino" and not _has_precision(precision):
        raise NetworkError(
            f'[extract] precision = "{precision}": this CPU lacks it, so OpenVINO would take '
            'another. Write precision = "float32", or runtime = "keras".'
        )
    if asked == "ncnn" and not is_chain:
        raise NetworkError(
            '[extract] runtime = "ncnn": of all networks it runs vgg16 and vgg19, up to '
            'block5_pool, and a cut is another. Write runtime = "auto".'
        )
    if asked == "ncnn" and precision != "float32":
        raise NetworkError(
            f'[extract] runtime = "ncnn": it computes in float32, and precision is "{precision}". '
            'Write runtime = "auto", or precision = "float32".'
        )
    return asked


def _choose_automatically(backend: str, precision: str, *, is_chain: bool) -> str:
    if find_gpu() is not None:
        return backend
    if is_chain and precision == "float32" and is_installed("ncnn"):
        return "ncnn"
    if backend == "tensorflow" and _has_precision(precision) and is_installed("openvino"):
        return "openvino"
    return backend


def _has_precision(precision: str) -> bool:
    """Return whether OpenVINO has a precision on this CPU."""
    return precision == "float32" or (precision == "bfloat16" and has_bfloat16())


def compile_network(runtime: str, network: FrozenNetwork, *, batch: int, precision: str) -> Runtime:
    """Compile a network for batches of one size; its Keras model is no longer needed after that.

    Raises
    ------
    NetworkError : the runtime cannot be loaded, or does not take the network.
    """
    try:
        module = _import_runtime(runtime)
    except ImportError as error:
        raise NetworkError(
            f"{runtime} is installed, and cannot be loaded: {error}. Install it anew, or set "
            '[extract] runtime = "keras".'
        ) from None
    opened: Runtime = getattr(module, _CLASSES[runtime])(network, batch=batch, precision=precision)
    return opened
