"""Training of a Keras network by `fit`: batches, phases, early stopping and checkpoints."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from extract.config.arrays import Bools, Float32s, Floats, Ints
from extract.errors import DivergedError
from models.data.features import Features
from models.data.folds import Folds
from models.families.networks.checkpoints import (
    Arrays,
    Phase,
    TrainingState,
    read_state,
    write_state,
)
from models.families.networks.towers import copy_towers, read_variables

LOG = logging.getLogger(__name__)
CHECKPOINT_SECONDS = 60.0  # a shorter training is repeated sooner than written and read


class Batches(keras.utils.PyDataset):
    """Rows of some features as float32 batches, with labels and weights where there are any.

    Parameters
    ----------
    rows : numbers of the rows to serve.
    labels : (n_rows, n_outputs), NaN where missing. weight : (n_rows,).
    seed : of the order of the rows, which is another in each epoch; None keeps their order.
    """

    def __init__(
        self,
        X: Features,
        rows: Ints,
        batch_size: int,
        *,
        labels: Floats | None = None,
        weight: Floats | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        self._X = X
        self._rows = rows
        self._batch_size = batch_size
        self._labels = labels
        self._weight = weight
        self._seed = seed
        self.start(0)

    def __len__(self) -> int:
        """Return the number of batches."""
        return -(-len(self._rows) // self._batch_size)

    def __getitem__(self, index: int) -> tuple[Float32s, ...]:
        """Return (inputs,), or (inputs, labels, weights) of one batch."""
        start = index * self._batch_size
        rows = self._order[start : start + self._batch_size]
        inputs = self._X.rows(rows).array()
        if self._X.grid is not None:
            inputs = inputs.reshape(-1, *self._X.grid)
        if self._labels is None or self._weight is None:
            return (inputs,)
        labels = self._labels[rows].astype(np.float32)
        return inputs, labels, self._weight[rows].astype(np.float32)

    def start(self, epoch: int) -> None:
        """Put the rows into the order of an epoch."""
        self._epoch = epoch
        self._order = self._rows
        if self._seed is not None:
            self._order = np.random.default_rng([self._seed, epoch]).permutation(self._rows)

    def on_epoch_end(self) -> None:
        """Put the rows into the order of the next epoch."""
        self.start(self._epoch + 1)


class ResumableStopping(keras.callbacks.Callback):
    """Early stopping of each tower, that goes on from a state and keeps it up to date.

    It keeps the learning curves and the best weights, refuses losses that are not finite, and
    writes checkpoints. The training ends when every tower has.

    Parameters
    ----------
    state : of an earlier phase, of a killed training, or new.
    names : of target and fold of each tower, for progress and errors.
    path : of the checkpoint, or None.
    """

    def __init__(
        self,
        state: TrainingState,
        patience: int,
        min_delta: float,
        *,
        names: Sequence[str],
        path: Path | None,
    ) -> None:
        super().__init__()
        self._state = state
        self._patience = patience
        self._min_delta = min_delta
        self._names = names
        self._path = path
        self._written = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Take in the losses of an epoch.

        Raises
        ------
        DivergedError : a loss of a tower that has not ended is not finite.
        """
        state = self._state
        losses = np.atleast_1d(logs["errors"]).tolist()
        held_losses = np.atleast_1d(logs["val_errors"]).tolist()
        is_better = np.zeros(len(self._names), bool)
        for tower, (loss, held) in enumerate(zip(losses, held_losses, strict=True)):
            if state.wait[tower] >= self._patience:
                continue
            self._check_finite(tower, epoch, loss, held)
            state.curves[tower].append((loss, held))
            state.wait[tower] += 1
            if held < state.best_loss[tower] - self._min_delta:
                is_better[tower] = True
                state.best_loss[tower] = held
                state.best_epoch[tower] = epoch + 1
                state.wait[tower] = 0
        if is_better.any():
            copy_towers(state.best_weights, self.model, is_better)
        state.epoch = epoch + 1
        state.epoch_in_phase += 1
        self._log(epoch, losses, held_losses)
        self.model.stop_training = min(state.wait) >= self._patience
        is_due = time.monotonic() - self._written >= CHECKPOINT_SECONDS
        if self._path is not None and is_due:
            state.variables = read_variables(_variables(self.model))
            write_state(self._path, state)
            self._written = time.monotonic()

    def _check_finite(self, tower: int, epoch: int, loss: float, held: float) -> None:
        if np.isfinite([loss, held]).all():
            return
        best = self._state.best_epoch[tower]
        before = f"; the best weights were those of epoch {best}" if best else ""
        raise DivergedError(
            f"{self._names[tower]}, epoch {epoch + 1}: the training diverged: expected a finite "
            f"loss, got {loss} on the training rows and {held} on the held ones{before}. Lower its "
            "learning_rate in [models.params], or look for extreme labels or features."
        )

    def _log(self, epoch: int, losses: list[float], held_losses: list[float]) -> None:
        texts = [f"{loss:.4f}/{held:.4f}" for loss, held in zip(losses, held_losses, strict=True)]
        LOG.info("%s, epoch %d: loss/held %s", self._names[0], epoch + 1, " ".join(texts))


def train(
    phases: Sequence[Phase],
    batches: Batches,
    held: Batches,
    *,
    min_delta: float,
    names: Sequence[str],
    path: Path | None,
) -> TrainingState:
    """Train through all phases and keep each tower's weights with the lowest held-out loss.

    Order of the rows and dropout follow from seed and epoch, so that a resumed training ends as
    if it had not been stopped. Each phase starts from the best weights so far.

    Parameters
    ----------
    phases : their model holds the weights to start from.
    batches, held : to train on, and to stop by.
    min_delta : a held-out loss counts as lower when it is lower by this.
    names : of target and fold of each tower. path : of the checkpoint; None to keep none.

    Raises
    ------
    DivergedError : a loss is not finite.
    """
    began = time.monotonic()
    state = _resume(phases, path)
    n_towers = len(names)
    if state is None:
        state = TrainingState(
            wait=[0] * n_towers,
            best_loss=[math.inf] * n_towers,
            best_epoch=[0] * n_towers,
            curves=[[] for _ in names],
            best_weights=read_variables(phases[-1].model.weights),
        )
    for phase in phases[state.phase :]:
        phase.set_trainable()
        if not state.epoch_in_phase:
            phase.model.set_weights(state.best_weights)
            clear_optimizer(phase.model)
        stopping = ResumableStopping(state, phase.patience, min_delta, names=names, path=path)
        if state.epoch_in_phase < phase.epochs and min(state.wait) < phase.patience:
            batches.start(state.epoch)
            phase.model.fit(
                batches,
                validation_data=held,
                initial_epoch=state.epoch,
                epochs=state.epoch - state.epoch_in_phase + phase.epochs,
                shuffle=False,
                verbose=0,
                callbacks=[stopping],
            )
        state.phase += 1
        state.epoch_in_phase = 0
        state.wait = [0] * n_towers
    state.variables = []
    if path is not None and (path.is_file() or time.monotonic() - began >= CHECKPOINT_SECONDS):
        write_state(path, state)
    return state


def _resume(phases: Sequence[Phase], path: Path | None) -> TrainingState | None:
    """Read a checkpoint into the model of its phase; one of other shapes is removed."""
    state = None if path is None else read_state(path)
    if path is None or state is None:
        return None
    phase = phases[min(state.phase, len(phases) - 1)]
    phase.set_trainable()
    variables = _variables(phase.model) if state.variables else []
    shapes = [tuple(v.shape) for v in [*phase.model.weights, *variables]]
    if shapes != [np.shape(a) for a in [*state.best_weights, *state.variables]]:
        path.unlink()
        return None
    write_variables(variables, state.variables)
    return state


def _variables(model: Any) -> list[Any]:
    return [*model.variables, *model.optimizer.variables]


def write_variables(variables: Sequence[Any], values: Arrays) -> None:
    """Assign values to Keras variables; copies, since TensorFlow may work in a given array."""
    for variable, value in zip(variables, values, strict=True):
        variable.assign(np.array(value))


def clear_optimizer(model: Any) -> None:
    """Set the optimizer of a compiled model back to its first step."""
    for variable in model.optimizer.variables:
        if "learning_rate" not in variable.path:
            variable.assign(np.zeros(variable.shape, dtype=str(variable.dtype)))


def split_rows(folds: Folds, is_known: Bools) -> tuple[Ints, Ints]:
    """Return (training rows, held-out rows) of the first inner fold with the most known targets.

    Without two inner folds that have labels, all rows with a label are both.

    Parameters
    ----------
    is_known : (n_rows, n_targets), where there is a label.
    """
    usable = np.flatnonzero(is_known.any(axis=1))
    best = (usable, usable)
    most = 0
    for train_rows, held_rows in folds.splits():
        is_in_both = is_known[train_rows].any(axis=0) & is_known[held_rows].any(axis=0)
        if is_in_both.sum() > most:
            most = int(is_in_both.sum())
            best = (np.intersect1d(train_rows, usable), np.intersect1d(held_rows, usable))
    return best
