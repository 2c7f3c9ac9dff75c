"""Open and run a compiled network: its runtime, precision and device, and one batch shape."""

from __future__ import annotations

import gc
import logging
import platform
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from typing import Any

import numpy as np

from extract.config.arrays import Array, Pixels
from extract.config.cuts import Cut
from extract.config.stored_type import describe_loss
from extract.errors import NetworkError
from extract.networks.backbones import FrozenNetwork, build_network
from extract.networks.registry import REGISTRY
from extract.networks.runtimes.selection import (
    Runtime,
    choose_runtime,
    compile_network,
    has_bfloat16,
)
from extract.settings import ExtractSettings

LOG = logging.getLogger(__name__)
_LEAST_COSINE = 0.9999
_LOSS_ROWS = 8  # pictures of the probe by which the stored type is judged
# share of a cut's columns that the stored type may lose: some hardly vary from picture to picture,
# on 8 LiDAR tiles 1 of 1280 of MobileNetV2's out_relu:max
_MOST_LOST = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingRows:
    """Rows of a batch that the device may still be computing."""

    compiled: Runtime
    names: list[str]
    submitted: Any
    n: int

    def result(self) -> dict[str, Array]:
        """Wait for the batch and fetch it: dataset name → (n, …) of the stored type."""
        outputs = self.compiled.fetch(self.submitted)
        return {name: rows[: self.n] for name, rows in zip(self.names, outputs, strict=True)}


@dataclass(slots=True, kw_only=True)
class Forward:
    """A network ready to run: submit up to `batch` pictures, fetch their embeddings later.

    Attributes
    ----------
    compiled : the compiled network.
    shapes : shape of one row of every cut, by dataset name.
    weights, weights_sha256 : `imagenet`, `random:<seed>` or a file; hash of those that are used.
    batch : pictures a pass; black ones fill up smaller batches, so that one shape is compiled.
    precision : what it computes in: `float32`, `bfloat16` or `float16`.
    float32_cuts : dataset names of cuts that the stored type would lose, separated by blanks.
    note : what the user should know of how precision and types were chosen; mostly empty.
    """

    compiled: Runtime
    shapes: dict[str, tuple[int, ...]]
    weights: str
    weights_sha256: str
    batch: int
    precision: str
    float32_cuts: str = ""
    note: str = ""

    @property
    def runtime(self) -> str:
        """Name of what runs it: `tensorflow`, `jax`, `torch`, `openvino` or `ncnn`."""
        return self.compiled.name

    @property
    def device(self) -> str:
        """Where it runs: `cpu`, or the GPU's name."""
        return self.compiled.device

    @property
    def versions(self) -> str:
        """Versions of what computes, in words."""
        runtime = f"{self.runtime} {self.compiled.version}"
        return f"keras {version('keras')}, {runtime}, Python {platform.python_version()}"

    def submit(self, pictures: Pixels) -> PendingRows:
        """Send pictures to the device, and return without waiting where it works by itself.

        Parameters
        ----------
        pictures : (n, size, size, 3) uint8, n ≤ batch; not to be changed until they are fetched.
        """
        n = len(pictures)
        if n < self.batch:
            black = np.zeros((self.batch - n, *pictures.shape[1:]), np.uint8)
            pictures = np.concatenate([pictures, black])
        submitted = self.compiled.submit(pictures)
        names = list(self.shapes)
        return PendingRows(compiled=self.compiled, names=names, submitted=submitted, n=n)

    def __call__(self, pictures: Pixels) -> dict[str, Array]:
        """Embed (n, size, size, 3) uint8 pictures, n ≤ batch: dataset name → (n, …)."""
        return self.submit(pictures).result()


def open_forward(
    settings: ExtractSettings,
    backbone: str,
    probe: Pixels,
    *,
    allow_random: bool,
    precision: str | None = None,
    runtime: str | None = None,
    float32_cuts: str | None = None,
) -> Forward:
    """Build a backbone's network, choose its precision and runtime, and compile it.

    Where the machine has bfloat16, `auto` takes it if the probe's embeddings agree with float32 at
    every cut; otherwise it takes float32 and `Forward.note` says so. One of the two is in memory at
    a time.

    Parameters
    ----------
    probe : (n, size, size, 3) uint8, pictures to compile with, and to compare precisions on.
    allow_random : take `random:0` where ImageNet's weights cannot be had.
    precision, runtime, float32_cuts : what earlier shards of this backbone were computed in, by and
        with; None where there are none. Cuts whose numbers [extract] dtype would lose are then
        found by the probe, and stored as float32.

    Raises
    ------
    NetworkError : unknown backbone or layer, weights that cannot be used.
    NetworkError : a runtime or a precision that cannot be had here.
    """
    build = partial(
        _open,
        settings,
        backbone,
        probe,
        recorded=runtime,
        allow_random=allow_random,
        float32_cuts=float32_cuts,
    )
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
    note = (
        f"bfloat16 refused: cosine {cosine:.6f} to float32 at {cut}, {_LEAST_COSINE} is the least; "
        "float32 used"
    )
    chosen = build(precision="float32")[0]
    return replace(chosen, note="; ".join(filter(None, [note, chosen.note])))


def _open(
    settings: ExtractSettings,
    backbone: str,
    probe: Pixels,
    *,
    precision: str,
    recorded: str | None,
    allow_random: bool,
    float32_cuts: str | None,
) -> tuple[Forward, dict[str, Array]]:
    """Build, compile and run on the probe, so that every compilation is done; return its rows too.

    OpenVINO takes a network of float32, and brings it to the precision itself.
    """
    extract = settings.extract
    runtime = choose_runtime(
        recorded or extract.runtime,
        precision=precision,
        is_chain=_is_chain(extract.cuts_of(backbone)),
        is_recorded=recorded is not None,
    )
    dtype = "float32" if runtime == "openvino" else precision
    build = partial(_build, settings, backbone, dtype, allow_random=allow_random)
    losses: dict[str, str] = {}
    names = (float32_cuts or "").split()
    network = build(float32_cuts=names)
    if float32_cuts is None:
        losses = find_losses(network, probe[:_LOSS_ROWS], extract.dtype)
        names = list(losses)
    if losses:
        network = build(float32_cuts=names)
    forward = Forward(
        compiled=compile_network(runtime, network, batch=extract.batch, precision=precision),
        shapes=network.shapes,
        weights=network.weights,
        weights_sha256=network.weights_sha256,
        batch=extract.batch,
        precision=precision,
        float32_cuts=" ".join(names),
        note="; ".join(f"{cut}: {loss}; stored as float32" for cut, loss in losses.items()),
    )
    return forward, forward(probe[: extract.batch])


def find_losses(network: FrozenNetwork, probe: Pixels, dtype: str) -> dict[str, str]:
    """Return, for each cut of which a stored type would lose numbers, what it loses, in words.

    Parameters
    ----------
    probe : (n, size, size, 3) uint8, some pictures.
    """
    if dtype == "float32":
        return {}
    losses = {}
    for name, rows in network.embed_exactly(probe).items():
        loss = describe_loss(rows, dtype, most_lost=_MOST_LOST)
        if loss:
            losses[name] = loss
    return losses


def _is_chain(cuts: list[Cut]) -> bool:
    """Return whether all cuts lie in a network's chain of 3 × 3 convolutions and poolings."""
    backbone = REGISTRY.get(cuts[0].backbone)
    if backbone is None or not backbone.chain:
        return False
    return all(cut.layer.startswith(backbone.chain) for cut in cuts)


def _build(
    settings: ExtractSettings,
    backbone: str,
    dtype: str,
    *,
    allow_random: bool,
    float32_cuts: list[str],
) -> FrozenNetwork:
    extract = settings.extract
    weights = extract.weights_of(backbone)
    build = partial(
        build_network,
        extract.cuts_of(backbone),
        size=extract.size,
        dtype=dtype,
        stored=extract.dtype,
        float32_cuts=float32_cuts,
    )
    try:
        return build(weights=weights)
    except NetworkError as error:
        if weights != "imagenet" or not allow_random:
            raise
        LOG.warning("%s: %s Random weights are taken.", backbone, error)
        return build(weights="random:0")


def least_cosine(a: dict[str, Array], b: dict[str, Array]) -> tuple[float, str]:
    """Return the smallest cosine between the rows of two sets of embeddings, and its cut."""
    return min((_least_cosine_of(a[name], b[name]), name) for name in a)


def _least_cosine_of(a: Array, b: Array) -> float:
    """Return the smallest cosine of two arrays' rows; zeros in both count as 1, NaN as −1."""
    x = a.reshape(len(a), -1).astype(np.float64)
    y = b.reshape(len(b), -1).astype(np.float64)
    product = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    is_zero = ~x.any(axis=1) & ~y.any(axis=1)
    inner = (x * y).sum(axis=1)
    cosines = np.where(is_zero, 1.0, inner / np.where(product == 0, 1.0, product))
    return float(np.nan_to_num(cosines, nan=-1.0).min())
