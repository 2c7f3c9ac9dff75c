"""A whole network trained from the pictures: the head first, then everything."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.config.suggestions import suggest
from extract.networks.registry import Origin
from models.data.arrays import Ints
from models.data.features import Features
from models.families.family import Task
from models.families.networks.augmentation import augment_pictures
from models.families.networks.learning import Phase, read_weights
from models.families.networks.map_network import MapNetwork, Program
from models.families.networks.tail import Pool, build_head
from models.families.networks.training import compile_program, training_policy


class Finetune(MapNetwork):
    """The network that its name gives, end to end, from the pictures of a cut of `pixels`.

    First the head is trained while the network is frozen, then all layers; the network's batch norms keep what they had
    measured. The weights of the least loss on the first inner fold, over both stretches, are kept.

    Parameters
    ----------
    hidden, pool, dropout, batch, min_delta, patience, joint, seed : as `models.families.networks.tail.Tail` has them.
    warm_epochs, warm_rate : how long the head is trained alone, and Adam's rate then. epochs, rate : of all layers after it.
    frozen : the last layer of the network that stays as it is; none if empty.
    zoom : training pictures are drawn larger or smaller by a factor between these. flips : each is mirrored, left to
        right and top to bottom, or not.
    """

    name = "finetune"

    def __init__(
        self,
        hidden: tuple[int, ...] = (64, 64),
        pool: Pool = "flat",
        dropout: float = 0.5,
        warm_rate: float = 1e-5,
        rate: float = 1e-6,
        warm_epochs: int = 2,
        epochs: int = 50,
        batch: int = 32,
        min_delta: float = 1e-5,
        patience: int = 3,
        frozen: str = "",
        zoom: tuple[float, float] = (0.8, 1.2),
        flips: bool = True,
        joint: bool = False,
        seed: int = 0,
        task: Task = "number",
    ) -> None:
        self.hidden = hidden
        self.pool = pool
        self.dropout = dropout
        self.warm_rate = warm_rate
        self.rate = rate
        self.warm_epochs = warm_epochs
        self.epochs = epochs
        self.batch = batch
        self.min_delta = min_delta
        self.patience = patience
        self.frozen = frozen
        self.zoom = zoom
        self.flips = flips
        self.joint = joint
        self.seed = seed
        self.task = task

    def check(self, X: Features) -> None:
        """Refuse what are no pictures.

        Raises
        ------
        ValueError : vectors, maps, or no network named.
        """
        super().check(X)
        if X.origin is None or X.origin.layer:
            raise ValueError(
                "finetune: expected pictures, of a cut as 'pixels/224:map', and a network, as in 'finetune:vgg16'"
            )

    def read(self, X: Features, rows: Ints, rng: np.random.Generator | None) -> NDArray[np.float32]:
        """Return pictures 0 … 255, augmented where they are to be learnt from."""
        pictures = super().read(X, rows, rng)
        return (
            pictures
            if rng is None
            else augment_pictures(pictures, rng, zoom=self.zoom, flips=self.flips)
        )

    def build(self, n_towers: int, n_outputs: int) -> Program:
        """Return the network; the same shapes and origin give the same one, so that folds share its compilation."""
        phases, start = build_programs(
            self.origin_,
            n_towers,
            n_outputs,
            tuple(self.hidden),
            pool=self.pool,
            dropout=self.dropout,
            rates=(self.warm_rate, self.rate),
            frozen=self.frozen,
            task=self.task,
        )
        lengths = ((self.warm_epochs, self.warm_epochs + 1), (self.epochs, self.patience))
        return Program(
            phases=[
                replace(phase, epochs=epochs, patience=patience)
                for phase, (epochs, patience) in zip(phases, lengths, strict=True)
            ],
            start=start,
        )


@lru_cache(maxsize=2)
def build_programs(
    origin: Origin,
    n_towers: int,
    n_outputs: int,
    hidden: tuple[int, ...],
    *,
    pool: Pool,
    dropout: float,
    rates: tuple[float, float],
    frozen: str,
    task: Task,
) -> tuple[list[Phase], list[Any]]:
    """Return two compiled models of the same layers, one to train the head alone and one to train all, and the body's start.

    Raises
    ------
    ValueError : `frozen` is no layer of the network.
    """
    import keras

    from extract.networks.tails import build_preprocess, build_tail

    with training_policy():
        body = build_tail(origin)
        given = keras.Input((origin.size, origin.size, 3), dtype="float32")
        flow = body(build_preprocess(origin.backbone)(given))
        outputs = build_head(flow, n_towers, n_outputs, hidden, pool=pool, dropout=dropout)
    names = [layer.name for layer in body.layers]
    if frozen and frozen not in names:
        raise ValueError(
            f"finetune: frozen: {origin.backbone} has no layer {frozen!r}.{suggest(frozen, names)}"
        )
    free = frozenset(names[names.index(frozen) + 1 :] if frozen else names)
    phases = []
    for learning, rate in zip((frozenset[str](), free), rates, strict=True):
        phase = Phase(
            model=keras.Model(given, outputs), body=body, learning=learning, epochs=0, patience=0
        )
        phase.begin()
        compile_program(phase.model, rate, task)
        phases.append(phase)
    return phases, read_weights(body)
