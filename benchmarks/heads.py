"""Seconds an epoch of a head, a tail and a whole network, on the same tiles in one run: `make bench-heads`."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.rows import Row, render_table
from extract.config.cuts import parse_cut
from extract.networks.backbones import build_network
from extract.networks.registry import Origin
from models.families.networks.finetune import build_programs
from models.families.networks.head import build_program
from models.families.networks.learning import Phase
from models.families.networks.tail import build_tail_program
from models.families.networks.training import EpochLoss, draw_batches

BATCH, HIDDEN, N_TARGETS = 32, (64, 64), 7
GOAL = 20  # times faster is an epoch of a head than of the same head behind the frozen network


class Made(NamedTuple):
    """The same tiles as pictures, maps and vectors, and a label of each."""

    pictures: NDArray[np.float32]
    maps: NDArray[np.float32]
    vectors: NDArray[np.float32]
    y: NDArray[np.float32]


def make_tiles(n: int, size: int) -> Made:
    """Draw pictures, and embed them by a random VGG16."""
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (n, size, size, 3), dtype=np.uint8)
    cuts = [parse_cut("vgg16/block5_conv1:map"), parse_cut("vgg16/block5_pool:avg")]
    model = build_network(cuts, size=size, weights="random:0").model
    maps, vectors = (
        np.asarray(one, np.float32) for one in model.predict(pictures, batch_size=BATCH, verbose=0)
    )
    return Made(pictures.astype(np.float32), maps, vectors, rng.normal(size=n).astype(np.float32))


def time_epoch(
    model: Any, inputs: NDArray[np.float32], y: NDArray[np.float32], n_towers: int = 1
) -> float:
    """Seconds of an epoch, after a step that compiles."""
    labels = np.stack(
        [np.tile(y[:, None], (1, n_towers)), np.ones((len(y), n_towers), np.float32)], axis=2
    )
    epoch = EpochLoss(model)
    epoch.teach(inputs[:BATCH], labels[:BATCH])
    start = time.perf_counter()
    for rows, weight in draw_batches(len(y), BATCH, np.random.default_rng(0)):
        epoch.teach(inputs[rows], labels[rows] * weight[:, None, None])
    _ = epoch.mean
    return time.perf_counter() - start


def measure(n: int, size: int) -> list[Row]:
    """Time everything, and hold it against the head behind the frozen network."""
    made, on = make_tiles(n, size), f"{n} tiles of {size} × {size}, VGG16"
    options: dict[str, Any] = {"dropout": 0.5, "task": "number"}
    towers = {
        t: build_program(made.vectors.shape[1], t, 1, HIDDEN, rate=1e-3, is_joint=False, **options)
        for t in (1, N_TARGETS)
    }
    head = {t: time_epoch(program, made.vectors, made.y, t) for t, program in towers.items()}
    origin = Origin(backbone="vgg16", layer="block5_conv1", size=size, weights="random:0")
    tail_program, _ = build_tail_program(origin, 1, 1, HIDDEN, pool="avg", rate=1e-4, **options)
    tail = time_epoch(tail_program, made.maps, made.y)
    whole = Origin(backbone="vgg16", layer="", size=size, weights="random:0")
    phases, _ = build_programs(
        whole, 1, 1, HIDDEN, pool="avg", rates=(1e-5, 1e-6), frozen="", **options
    )
    frozen, free = (_time_phase(phase, made) for phase in phases)
    seconds = {
        "head": head[1],
        f"head, {N_TARGETS} targets": head[N_TARGETS],
        "tail from block5_conv1": tail,
        "the same head behind the frozen network": frozen,
        "finetune, all layers": free,
    }
    rows = [Row(f"{name}: s an epoch", on, value, digits=3) for name, value in seconds.items()]
    return [
        *rows,
        Row(
            "head over the same head behind the frozen network, times faster",
            on,
            frozen / head[1],
            at_least=GOAL,
            digits=0,
        ),
        Row(
            "tail over the same head behind the frozen network, times faster",
            on,
            frozen / tail,
            digits=1,
        ),
        Row("tail over finetune, times faster", on, free / tail, digits=1),
    ]


def _time_phase(phase: Phase, made: Made) -> float:
    phase.begin()
    return time_epoch(phase.model, made.pictures, made.y)


def main() -> None:
    """Print the table, and write `artifacts/bench-heads.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="few small tiles: shows that it runs, and no more"
    )
    n, size = (32, 64) if parser.parse_args().quick else (96, 224)
    rows = measure(n, size)
    print(render_table(rows))
    out = Path("artifacts/bench-heads.json")
    out.parent.mkdir(exist_ok=True)
    document = [
        {"number": row.item, "on": row.what, "value": row.value, "goal": row.at_least}
        for row in rows
    ]
    out.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
