"""The compiled forward pass: which precision, which device, one fixed batch shape."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from extract.backbones import BackboneError, Network, build_network
from extract.settings import Settings

_LEAST_COSINE = 0.9999


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """A batch that the device may still be busy with."""

    names: list[str]
    outputs: list[Any]
    n: int

    def result(self) -> dict[str, NDArray[Any]]:
        """Wait for the batch and fetch it: dataset name → (n, …) of the stored type."""
        return {name: np.asarray(output)[:self.n] for name, output in zip(self.names, self.outputs, strict=True)}


@dataclass(slots=True, kw_only=True)
class Forward:
    """A network ready to run: submit up to `batch` pictures, and fetch their embeddings when they are needed.

    Attributes
    ----------
    network : the network and its cuts.
    batch : pictures a pass; fewer are filled up with black ones, so that one shape is compiled.
    precision : what it computes in: `float32`, `bfloat16` or `float16`.
    device : `cpu`, or the GPU's name.
    note : what the user should know of how the precision was chosen; mostly empty.
    """

    network: Network
    batch: int
    precision: str
    device: str
    note: str = ""

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of one row of every cut, by dataset name."""
        return self.network.shapes

    @property
    def weights(self) -> str:
        """What the weights are: `imagenet`, `random:<seed>` or a file."""
        return self.network.weights

    @property
    def weights_sha256(self) -> str:
        """Hash of the weights that the cuts use."""
        return self.network.weights_sha256

    @property
    def versions(self) -> str:
        """What computed it, in words."""
        return f"keras {keras.__version__} on {keras.backend.backend()}, Python {platform.python_version()}"

    def submit(self, pictures: NDArray[np.uint8]) -> Pending:
        """Hand (n, size, size, 3) uint8 pictures to the device, n ≤ batch, without waiting where it works by itself."""
        n = len(pictures)
        if n < self.batch:
            pictures = np.concatenate([pictures, np.zeros((self.batch - n, *pictures.shape[1:]), np.uint8)])
        outputs = self.network.model.predict_on_batch(pictures)
        return Pending(names=list(self.shapes), outputs=outputs if isinstance(outputs, list) else [outputs], n=n)

    def __call__(self, pictures: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        """Embed (n, size, size, 3) uint8 pictures, n ≤ batch; gives dataset name → (n, …) of the stored type."""
        return self.submit(pictures).result()


def open_forward(settings: Settings, backbone: str, probe: NDArray[np.uint8], *, allow_random: bool,
                 precision: str | None = None) -> Forward:
    """Build a backbone's network, choose its precision and compile it.

    Parameters
    ----------
    probe : (n, size, size, 3) uint8, pictures to compile with, and to compare precisions on.
    allow_random : take `random:0` where ImageNet's weights cannot be had.
    precision : what earlier shards of this backbone were computed in, or None.
    """
    weights = settings.extract.weights_of(backbone)
    asked = precision or settings.extract.precision
    if asked != "auto":
        forward = _build(settings, backbone, weights, asked, allow_random=allow_random)
        forward(probe)
        return forward
    if not has_bfloat16():
        return open_forward(settings, backbone, probe, allow_random=allow_random, precision="float32")
    exact = _build(settings, backbone, weights, "float32", allow_random=allow_random)
    quick = _build(settings, backbone, weights, "bfloat16", allow_random=allow_random)
    return quick if least_cosine(exact(probe), quick(probe)) >= _LEAST_COSINE else exact


def _build(settings: Settings, backbone: str, weights: str, precision: str, *, allow_random: bool) -> Forward:
    extract = settings.extract
    cuts = extract.cuts_of(backbone)
    try:
        network = build_network(cuts, size=extract.size, weights=weights, dtype=precision, stored=extract.dtype)
    except BackboneError:
        if weights != "imagenet" or not allow_random:
            raise
        network = build_network(cuts, size=extract.size, weights="random:0", dtype=precision, stored=extract.dtype)
    return Forward(network=network, batch=extract.batch, precision=precision, device=name_device())


def least_cosine(a: dict[str, NDArray[Any]], b: dict[str, NDArray[Any]]) -> float:
    """Give the smallest cosine between the rows of two sets of embeddings; rows of zeros in both count as 1."""
    least = 1.0
    for name in a:
        x, y = (v[name].reshape(len(v[name]), -1).astype(np.float64) for v in (a, b))
        norms = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
        cosines = np.divide((x * y).sum(axis=1), norms, out=np.ones(len(x)), where=norms > 0)
        least = min(least, float(np.nan_to_num(cosines, nan=-1.0).min()))
    return least


def has_bfloat16() -> bool:
    """Tell whether this machine computes in bfloat16: a GPU, or a CPU with AVX512-BF16 or AMX."""
    if name_device() != "cpu":
        return True
    info = Path("/proc/cpuinfo")
    text = info.read_text() if info.is_file() else ""
    return "avx512_bf16" in text or "amx_bf16" in text


def name_device() -> str:
    """Name the device that the networks run on: `cpu`, or what Keras calls the GPU."""
    gpus: list[str] = keras.distribution.list_devices("gpu")
    return gpus[0] if gpus else "cpu"
