"""What an explanation costs beside the passes that it cannot do without: forward, and backward
after the cut.

Run by `make bench-explain`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import keras
import numpy as np

from benchmarks.rows import Row, save_rows
from extract.config.cuts import Cut
from extract.networks.backbones import build_network
from extract.networks.registry import Origin
from extract.networks.tails import build_tail
from models.explaining.explained_model import ExplainedModel
from models.explaining.heat_maps import explain
from models.explaining.methods.gradients import read_gradients, run_network
from models.explaining.tile_maps import pool_maps

GOAL = 2.0
_REPEATS = 3


def measure_ratio(ours: Callable[[], object], least: Callable[[], object]) -> float:
    """Return the median of the ratios of seconds, the two timed in turn, after one run of each."""
    ours(), least()
    ratios = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        ours()
        between = time.perf_counter()
        least()
        ratios.append((between - start) / (time.perf_counter() - between))
    return median(ratios)


class KerasFamily:
    """A fitted family as far as an explanation by gradients asks."""

    def __init__(self, network: keras.Model) -> None:
        self._network = network

    def network(self, column: int) -> keras.Model:  # noqa: ARG002
        """Return the network."""
        return self._network


def explain_network(network: keras.Model, maps: Any, *, is_pooled: bool) -> ExplainedModel:
    """Ask a network about every map."""
    rows = pool_maps(maps, "avg" if is_pooled else "map")
    grid = None if is_pooled else maps.shape[1:]
    model: Any = KerasFamily(network)
    return ExplainedModel(
        model=model,
        pooling="avg" if is_pooled else "map",
        grid=grid,
        own=rows,
        rows=rows,
        n_tiles=np.ones(len(rows), int),
        n_core=rows.shape[1],
        columns=np.zeros(len(rows), int),
        reference=rows.mean(axis=0),
    )


def measure_head(n: int) -> Row:
    """A head on averages: maps by the truncated network, then Grad-CAM; beside the forward pass to
    the cut alone.
    """
    pictures = np.random.default_rng(0).integers(0, 255, (n, 224, 224, 3), np.uint8)
    body = build_network(
        [Cut("mobilenetv2", "block_13_expand_relu", "map")], size=224, weights="random:0"
    ).model
    given = keras.Input((body.output_shape[-1],))
    head = keras.Model(given, keras.layers.Dense(1)(keras.layers.Dense(64, "relu")(given)))

    def ours() -> Any:
        maps = run_network(body, pictures)
        return explain(explain_network(head, maps, is_pooled=True), maps, "gradients")

    ratio = measure_ratio(ours, lambda: run_network(body, pictures))
    what = (
        f"{n} tiles, mobilenetv2/block_13_expand_relu:avg: pictures to heat ÷ forward pass to the "
        "cut"
    )
    return Row("head", what, ratio, at_most=GOAL)


def measure_tail(n: int) -> Row:
    """A tail on stored maps: Grad-CAM at its last convolution; beside its forward and backward pass
    to the cut.
    """
    body = build_tail(Origin(backbone="vgg16", layer="block5_conv1", size=224, weights="random:0"))
    flow = keras.layers.Dense(64, "relu")(keras.layers.Flatten()(body.output))
    network = keras.Model(body.inputs, keras.layers.Dense(1)(flow))
    maps = np.random.default_rng(0).random((n, *body.input_shape[1:]), np.float32)
    explained = explain_network(network, maps, is_pooled=False)
    ratio = measure_ratio(
        lambda: explain(explained, maps, "gradients"), lambda: read_gradients(network, maps)
    )
    what = (
        f"{n} tiles, vgg16/block5_conv1:map: stored maps to heat ÷ forward and backward pass of "
        "the tail"
    )
    return Row("tail", what, ratio, at_most=GOAL)


def measure(*, quick: bool) -> Iterator[Row]:
    """Measure both."""
    n = 64 if quick else 256
    yield measure_head(n)
    yield measure_tail(n)


def main() -> None:
    """Measure, print the table, and keep it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer tiles")
    parser.add_argument("--out", type=Path, default=Path("artifacts/bench-explain.json"))
    asked = parser.parse_args()
    print(save_rows(asked.out, measure(quick=asked.quick)))


if __name__ == "__main__":
    main()
