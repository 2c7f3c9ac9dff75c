"""One network learns: phases of epochs, the best weights kept, stopped when the held rows gain nothing more."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from extract.errors import DivergedError
from models.data.arrays import Floats, Ints
from models.families.family import Epoch, Task
from models.families.networks.training import (
    EpochLoss,
    clear_optimizer,
    draw_batches,
    held_loss,
    seed_dropout,
)

LOG = logging.getLogger(__name__)
ASKED = 64  # rows of a forward pass
Weights = list[NDArray[np.float32]]
Read = Callable[[Ints, np.random.Generator | None], NDArray[np.float32]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A stretch of the training.

    Attributes
    ----------
    model : compiled. body : the pretrained part of it, or None. learning : names of the body's layers that learn.
    epochs : at most. patience : epochs without a lower held loss before the phase ends.
    """

    model: Any
    body: Any
    learning: frozenset[str]
    epochs: int
    patience: int

    def begin(self) -> None:
        """Freeze and free the layers of the body, which the phases share."""
        for layer in self.body.layers if self.body is not None else ():
            layer.trainable = layer.name in self.learning


class Lesson(NamedTuple):
    """What is learnt from.

    Attributes
    ----------
    read : rows → inputs (n, …) float32; given a generator, they may be augmented by what it draws.
    labels : (n_rows, n_towers, n_outputs + 1), see `label_outputs`.
    train, held : rows to learn from, and rows that decide when to stop.
    """

    read: Read
    labels: NDArray[np.float32]
    train: Ints
    held: Ints
    batch: int
    task: Task
    seed: int
    min_delta: float


@dataclass(slots=True)
class State:
    """How far a training is: what a checkpoint holds besides the weights and the optimiser of the moment.

    Attributes
    ----------
    phase : number of the phase. epoch : epochs done, in all phases. inside : epochs done in this one.
    waited : epochs since the held loss was lowest. lowest : that loss, a mean over towers. best : weights of then.
    curve : (loss of each tower, held loss of each tower) of each epoch. best_epoch : 0 before the first.
    """

    phase: int = 0
    epoch: int = 0
    inside: int = 0
    waited: int = 0
    lowest: float = float("inf")
    best_epoch: int = 0
    best: Weights = field(default_factory=list)
    curve: list[tuple[list[float], list[float]]] = field(default_factory=list)

    def curves(self) -> list[list[Epoch]]:
        """Return the learning curve of each tower."""
        n_towers = len(self.curve[0][0]) if self.curve else 0
        return [
            [
                Epoch(e, loss[t], held[t], e == self.best_epoch)
                for e, (loss, held) in enumerate(self.curve, 1)
            ]
            for t in range(n_towers)
        ]


class Keeper:
    """Keeps a training's state across a kill; this one keeps nothing. `models.families.checkpoints` has one that does."""

    def resume(self, phases: list[Phase]) -> State | None:  # noqa: ARG002
        """Return the state that was kept, with the model as it was then; None to begin."""
        return None

    def keep(self, phase: Phase, state: State) -> None:
        """Hear that an epoch is done."""

    def rescue(self, state: State) -> Path | None:  # noqa: ARG002
        """Write the best weights of a training that diverged, and say where."""
        return None

    def finish(self, state: State) -> None:
        """Hear that the training is done."""


def learn(phases: list[Phase], lesson: Lesson, keeper: Keeper, name: str) -> State:
    """Train through all phases, and give the state whose `best` weights are those of the least held loss.

    Every epoch draws its batches, augmentation and dropout from its own seed, so that a training that was resumed goes on
    as if it had not been stopped. A phase ends when the held loss has not fallen by `min_delta` for `patience` epochs.

    Parameters
    ----------
    phases : their models share all weights, which are as they should be at the start.
    name : of target and fold, for progress and errors.

    Raises
    ------
    DivergedError : a loss is no number.
    """
    state = keeper.resume(phases) or State(best=read_weights(phases[-1].model))
    for number in range(state.phase, len(phases)):
        phase = phases[number]
        phase.begin()
        if state.phase != number or not state.inside:
            state.phase = number
            state.inside = 0
            state.waited = 0
            clear_optimizer(phase.model)
        while state.inside < phase.epochs and state.waited < phase.patience:
            try:
                _run_epoch(phase, lesson, state, name)
            except DivergedError as error:
                path = keeper.rescue(state) if state.best_epoch else None
                raise DivergedError(
                    f"{error}{f' Those weights are in {path}.' if path else ''}"
                ) from None
            keeper.keep(phase, state)
    keeper.finish(state)
    return state


def _run_epoch(phase: Phase, lesson: Lesson, state: State, name: str) -> None:
    model = phase.model
    rng = np.random.default_rng([lesson.seed, state.epoch])
    seed_dropout(model, lesson.seed, state.epoch)
    epoch = EpochLoss(model)
    for rows, inputs, weight in _read_ahead(lesson, rng):
        epoch.teach(inputs, lesson.labels[rows] * weight[:, None, None])
    loss = epoch.mean
    held = held_loss(
        run_network(model, lesson.read, lesson.held), lesson.labels[lesson.held], lesson.task
    )
    state.epoch = state.epoch + 1
    state.inside = state.inside + 1
    state.waited = state.waited + 1
    check_finite(loss, held, f"{name}, epoch {state.epoch}", best=state.best_epoch)
    state.curve.append((loss.tolist(), held.tolist()))
    if held.mean() < state.lowest - lesson.min_delta:
        state.lowest = float(held.mean())
        state.best_epoch = state.epoch
        state.waited = 0
        state.best = read_weights(model)
    tell_epoch(
        name,
        state.epoch,
        float(loss.mean()),
        float(held.mean()),
        is_best=state.best_epoch == state.epoch,
    )


def check_finite(loss: Floats, held: Floats, where: str, *, best: int) -> None:
    """Refuse losses that are no numbers.

    Raises
    ------
    DivergedError : one is not; names where, and the epoch whose weights were best before.
    """
    if not (np.isfinite(loss).all() and np.isfinite(held).all()):
        raise DivergedError(
            f"{where}: the training diverged: expected a finite loss, got {float(np.mean(loss))} on the training "
            f"rows and {float(np.mean(held))} on the held ones"
            f"{f'; the best weights were those of epoch {best}' if best else ''}. Lower its rate in "
            "[models.params], or look for extreme labels or features."
        )


def tell_epoch(name: str, epoch: int, loss: float, held: float, *, is_best: bool) -> None:
    """Log a line of progress."""
    LOG.info(
        "%s: epoch %d, loss %.4f, held %.4f%s",
        name,
        epoch,
        loss,
        held,
        " (best)" if is_best else "",
    )


def _read_ahead(
    lesson: Lesson, rng: np.random.Generator
) -> Iterator[tuple[Ints, NDArray[np.float32], NDArray[np.float32]]]:
    """Return (rows, inputs, weight) of the batches of an epoch; the next is read while one is learnt."""
    batches = [
        (lesson.train[places], weight)
        for places, weight in draw_batches(len(lesson.train), lesson.batch, rng)
    ]
    with ThreadPoolExecutor(1, "read") as pool:
        ahead = pool.submit(lesson.read, batches[0][0], rng)
        for i, (rows, weight) in enumerate(batches):
            inputs = ahead.result()
            if i + 1 < len(batches):
                ahead = pool.submit(lesson.read, batches[i + 1][0], rng)
            yield rows, inputs, weight


def run_network(model: Any, read: Read, rows: Ints) -> NDArray[np.float32]:
    """Run a network forward: (n_rows, n_towers, n_outputs)."""
    pieces = []
    for start in range(0, len(rows), ASKED):
        asked = np.minimum(
            np.arange(start, start + ASKED), len(rows) - 1
        )  # filled up, so that one shape is compiled
        outputs = model.predict_on_batch(read(rows[asked], None))
        pieces.append(np.asarray(outputs, np.float32)[: len(rows) - start])
    return np.concatenate(pieces)


def read_weights(model: Any) -> Weights:
    """Copy all weights of a model, in its order."""
    return [np.array(w, np.float32) for w in model.get_weights()]


def write_weights(variables: Any, values: Sequence[Any]) -> None:
    """Return variables their values, in their order; copies, since TensorFlow may go on to work in an array that it was given."""
    for variable, value in zip(variables, values, strict=True):
        variable.assign(np.array(value))
