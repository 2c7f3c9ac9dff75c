"""The compiled forward pass: which runtime, which precision, which device, one fixed batch shape."""

from __future__ import annotations

import gc
import platform
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.config.cuts import PIXELS
from extract.errors import NetworkError
from extract.networks.backbones import Network, build_network
from extract.networks.pixels import Pictures, open_pictures
from extract.networks.registry import REGISTRY
from extract.networks.runtimes.selection import (
    Runtime,
    choose_runtime,
    compile_network,
    has_bfloat16,
)
from extract.settings import ExtractSettings

_LEAST_COSINE = 0.9999


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """A batch that the device may still be busy with."""

    running: Runtime
    names: list[str]
    submitted: Any
    n: int

    def result(self) -> dict[str, NDArray[Any]]:
        """Wait for the batch and fetch it: dataset name → (n, …) of the stored type."""
        outputs = self.running.fetch(self.submitted)
        return {name: output[: self.n] for name, output in zip(self.names, outputs, strict=True)}


@dataclass(slots=True, kw_only=True)
class Forward:
    """A network ready to run: submit up to `batch` pictures, and fetch their embeddings when they are needed.

    Attributes
    ----------
    running : the compiled network.
    cuts : shape of one row of every cut, by dataset name.
    weights, weights_sha256 : `imagenet`, `random:<seed>` or a file; hash of those that the cuts use.
    batch : pictures a pass; fewer are filled up with black ones, so that one shape is compiled.
    precision : what it computes in: `float32`, `bfloat16` or `float16`.
    runtime : what runs it: `tensorflow`, `jax`, `torch`, `openvino` or `ncnn`.
    device : `cpu`, or the GPU's name.
    note : what the user should know of how the precision was chosen; mostly empty.
    """

    running: Runtime
    cuts: dict[str, tuple[int, ...]]
    weights: str
    weights_sha256: str
    batch: int
    precision: str
    runtime: str
    device: str
    note: str = ""

    @property
    def versions(self) -> str:
        """What computed it, in words."""
        return f"keras {version('keras')}, {self.runtime} {self.running.version}, Python {platform.python_version()}"

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of one row of every dataset."""
        return self.cuts

    def submit(self, pictures: NDArray[np.uint8]) -> Pending:
        """Hand (n, size, size, 3) uint8 pictures to the device, n ≤ batch, without waiting where it works by itself.

        The pictures must not change until the result is fetched.
        """
        n = len(pictures)
        if n < self.batch:
            pictures = np.concatenate(
                [pictures, np.zeros((self.batch - n, *pictures.shape[1:]), np.uint8)]
            )
        submitted = self.running.submit(pictures)
        return Pending(running=self.running, names=list(self.cuts), submitted=submitted, n=n)

    def __call__(self, pictures: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        """Embed (n, size, size, 3) uint8 pictures, n ≤ batch; gives dataset name → (n, …) of the stored type."""
        return self.submit(pictures).result()


def open_forward(
    settings: ExtractSettings,
    backbone: str,
    probe: NDArray[np.uint8],
    *,
    allow_random: bool,
    precision: str | None = None,
    runtime: str | None = None,
) -> Forward | Pictures:
    """Build a backbone's network, choose its precision and its runtime, and compile it; for `pixels` there is none.

    Where the machine has bfloat16, `auto` takes it if the probe's embeddings agree with float32 at every cut; if they
    do not, it takes float32 and `Forward.note` says so. One of the two is in memory at a time.

    Parameters
    ----------
    probe : (n, size, size, 3) uint8, pictures to compile with, and to compare precisions on.
    allow_random : take `random:0` where ImageNet's weights cannot be had.
    precision, runtime : what earlier shards of this backbone were computed in and by, or None.

    Raises
    ------
    NetworkError : unknown backbone or layer, weights that cannot be used.
    NetworkError : a runtime or a precision that cannot be had here.
    """
    if backbone == PIXELS:
        return open_pictures(settings)
    build = partial(_open, settings, backbone, probe, recorded=runtime, allow_random=allow_random)
    asked = precision or settings.extract.precision
    if asked != "auto":
        return build(precision=asked)[0]
    exact, expected = build(precision="float32")
    if not has_bfloat16() or settings.extract.runtime == "ncnn":  # which has float32 alone
        return exact
    del exact
    gc.collect()
    quick, got = build(precision="bfloat16")
    cosine, cut = least_cosine(expected, got)
    if cosine >= _LEAST_COSINE:
        return quick
    del quick
    gc.collect()
    note = f"bfloat16 refused: cosine {cosine:.6f} to float32 at {cut}, {_LEAST_COSINE} is the least; float32 used"
    return replace(build(precision="float32")[0], note=note)


def _open(
    settings: ExtractSettings,
    backbone: str,
    probe: NDArray[np.uint8],
    *,
    precision: str,
    recorded: str | None,
    allow_random: bool,
) -> tuple[Forward, dict[str, NDArray[Any]]]:
    """Build and compile in one precision; gives the probe's embeddings too, so that every compilation is done with."""
    batch = settings.extract.batch
    runtime = choose_runtime(
        recorded or settings.extract.runtime,
        precision=precision,
        is_chain=_is_chain(settings, backbone),
        is_recorded=recorded is not None,
    )
    built_in = (
        "float32" if runtime == "openvino" else precision
    )  # OpenVINO brings it to the precision itself
    network = _build(settings, backbone, built_in, allow_random=allow_random)
    running = compile_network(runtime, network, batch=batch, precision=precision)
    forward = Forward(
        running=running,
        cuts=network.shapes,
        weights=network.weights,
        weights_sha256=network.weights_sha256,
        batch=batch,
        precision=precision,
        runtime=running.name,
        device=running.device,
    )
    return forward, forward(probe[:batch])


def _is_chain(settings: ExtractSettings, backbone: str) -> bool:
    chain = REGISTRY[backbone].chain if backbone in REGISTRY else ""
    return bool(chain) and all(
        cut.layer.startswith(chain) for cut in settings.extract.cuts_of(backbone)
    )


def _build(
    settings: ExtractSettings, backbone: str, precision: str, *, allow_random: bool
) -> Network:
    extract = settings.extract
    cuts = extract.cuts_of(backbone)
    weights = extract.weights_of(backbone)
    try:
        return build_network(
            cuts, size=extract.size, weights=weights, dtype=precision, stored=extract.dtype
        )
    except NetworkError:
        if weights != "imagenet" or not allow_random:
            raise
        return build_network(
            cuts, size=extract.size, weights="random:0", dtype=precision, stored=extract.dtype
        )


def least_cosine(a: dict[str, NDArray[Any]], b: dict[str, NDArray[Any]]) -> tuple[float, str]:
    """Return the smallest cosine between the rows of two sets of embeddings, and its cut; zeros in both count as 1."""
    least = {name: _cosine(a[name], b[name]) for name in a}
    cut = min(least, key=lambda name: least[name])
    return least[cut], cut


def _cosine(a: NDArray[Any], b: NDArray[Any]) -> float:
    x, y = (v.reshape(len(v), -1).astype(np.float64) for v in (a, b))
    x_norm = np.linalg.norm(x, axis=1)
    y_norm = np.linalg.norm(y, axis=1)
    cosines = np.divide(
        (x * y).sum(axis=1), x_norm * y_norm, out=np.zeros(len(x)), where=x_norm * y_norm != 0
    )
    cosines[(x_norm == 0) & (y_norm == 0)] = 1.0
    return float(np.nan_to_num(cosines, nan=-1.0).min())
