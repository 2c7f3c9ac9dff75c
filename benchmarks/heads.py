"""Seconds an epoch of a head, a tail and a whole network on the same tiles: `make bench-heads`."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.rows import Row, save_rows
from extract.config.cuts import Cut
from extract.networks.backbones import build_network
from extract.networks.registry import Origin
from models.families.networks.checkpoints import Phase
from models.families.networks.finetune import Finetune
from models.families.networks.head import Head
from models.families.networks.network_family import NetworkFamily
from models.families.networks.tail import Tail

BATCH = 32
GOAL = 20  # times faster is an epoch of a head than of the same head behind the frozen network
CUTS = [Cut("vgg16", "block5_conv1", "map"), Cut("vgg16", "block5_pool", "avg")]


class EmbeddedTiles(NamedTuple):
    """The same tiles as pictures, maps and vectors, and a label of each: (n, 1)."""

    pictures: NDArray[np.float32]
    maps: NDArray[np.float32]
    vectors: NDArray[np.float32]
    y: NDArray[np.float32]


def embed_tiles(n: int, size: int) -> EmbeddedTiles:
    """Draw pictures, and embed them by a random VGG16."""
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (n, size, size, 3), dtype=np.uint8)
    model = build_network(CUTS, size=size, weights="random:0").model
    maps, vectors = model.predict(pictures, batch_size=BATCH, verbose=0)
    y = rng.normal(size=(n, 1)).astype(np.float32)
    return EmbeddedTiles(pictures.astype(np.float32), maps, vectors, y)


def build_phases(
    model: NetworkFamily, inputs: NDArray[np.float32], origin: Origin | None
) -> list[Phase]:
    """Build and compile the network of a family for some inputs."""
    model.shape_ = inputs.shape[1:]
    phases, _ = model.build(1, origin)
    return phases


def time_epoch(phase: Phase, inputs: NDArray[np.float32], y: NDArray[np.float32]) -> float:
    """Return the seconds of an epoch, after one that compiles."""
    phase.set_trainable()
    phase.model.fit(inputs, y, batch_size=BATCH, epochs=1, verbose=0)
    start = time.perf_counter()
    phase.model.fit(inputs, y, batch_size=BATCH, epochs=1, verbose=0)
    return time.perf_counter() - start


def measure(n: int, size: int) -> list[Row]:
    """Time everything, and compare it with the head behind the frozen network."""
    tiles = embed_tiles(n, size)
    on = f"{n} tiles of {size} × {size}, VGG16"
    origin = Origin(backbone="vgg16", layer="block5_conv1", size=size, weights="random:0")
    whole = Origin(backbone="vgg16", layer="", size=size, weights="random:0")
    head_phase = build_phases(Head(), tiles.vectors, None)[0]
    tail_phase = build_phases(Tail(pool="avg"), tiles.maps, origin)[0]
    finetune = Finetune(pool="avg", zoom=(1.0, 1.0), flips=False)
    frozen_phase, free_phase = build_phases(finetune, tiles.pictures, whole)
    head = time_epoch(head_phase, tiles.vectors, tiles.y)
    tail = time_epoch(tail_phase, tiles.maps, tiles.y)
    frozen = time_epoch(frozen_phase, tiles.pictures, tiles.y)
    free = time_epoch(free_phase, tiles.pictures, tiles.y)
    behind = "the same head behind the frozen network"
    return [
        Row("head: s an epoch", on, head, digits=3),
        Row("tail from block5_conv1: s an epoch", on, tail, digits=3),
        Row(f"{behind}: s an epoch", on, frozen, digits=3),
        Row("finetune, all layers: s an epoch", on, free, digits=3),
        Row(f"head over {behind}, times faster", on, frozen / head, at_least=GOAL, digits=0),
        Row(f"tail over {behind}, times faster", on, frozen / tail, digits=1),
        Row("tail over finetune, times faster", on, free / tail, digits=1),
    ]


def main() -> None:
    """Print the table, and write `artifacts/bench-heads.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few small tiles: a test run")
    n, size = (32, 64) if parser.parse_args().quick else (96, 224)
    out = Path("artifacts/bench-heads.json")
    print(save_rows(out, measure(n, size)))


if __name__ == "__main__":
    main()
