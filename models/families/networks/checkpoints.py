"""Phases of a training, its state on disk, so that a killed one goes on, and what came of it."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np

from extract.config.arrays import Float32s
from extract.files.atomic import write_atomically
from models.families.family import FitContext
from models.families.fit_results import Epoch

Arrays = list[Float32s]
_LISTS = ("best_weights", "variables")


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of a training.

    Attributes
    ----------
    model : compiled; the models of all phases share their weights.
    epochs : maximum number. patience : epochs without a lower held-out loss before it ends.
    body : pretrained part of the model, or None.
    trainable : names of the layers of the body that are trained.
    """

    model: Any
    epochs: int
    patience: int
    body: Any = None
    trainable: frozenset[str] = frozenset()

    def set_trainable(self) -> None:
        """Freeze and unfreeze the layers of the body, which the phases share."""
        if self.body is None:
            return
        for layer in self.body.layers:
            layer.trainable = layer.name in self.trainable


@dataclass
class TrainingState:
    """How far a training is.

    Attributes
    ----------
    phase : index of the current phase; the number of phases when the training is done.
    epoch : epochs done in all phases. epoch_in_phase : epochs done in the current phase.
    wait : for each tower, epochs of the current phase since its held-out loss was lowest.
    best_loss, best_epoch : lowest held-out loss of each tower and its epoch, from 1; 0 before the
        first.
    curves : for each tower, training loss and held-out loss of each epoch until it ended.
    best_weights : weights of the best epoch, of each tower its own.
    variables : variables of the model and its optimizer; empty when the training is done.
    """

    phase: int = 0
    epoch: int = 0
    epoch_in_phase: int = 0
    wait: list[int] = field(default_factory=list)
    best_loss: list[float] = field(default_factory=list)
    best_epoch: list[int] = field(default_factory=list)
    curves: list[list[tuple[float, float]]] = field(default_factory=list)
    best_weights: Arrays = field(default_factory=list)
    variables: Arrays = field(default_factory=list)

    def list_epochs(self, tower: int) -> list[Epoch]:
        """Return the learning curve of a tower."""
        best = self.best_epoch[tower]
        epochs = []
        for number, (loss, held_loss) in enumerate(self.curves[tower], 1):
            is_best = number == best
            epochs.append(Epoch(number, loss, held_loss, is_best))
        return epochs


class TrainedNetwork(NamedTuple):
    """Weights of a trained network, and the columns of Y that its outputs predict, in order."""

    columns: list[int]
    weights: Arrays


def checkpoint_path(context: FitContext, columns: Sequence[int]) -> Path | None:
    """Return the checkpoint of the training of some targets, or None where none is kept.

    The name holds the hash of all that the training depends on: with other inputs, another file.
    It begins with that of the first target.
    """
    if context.folder is None or max(columns) >= len(context.keys):
        return None
    first, *others = (context.keys[column] for column in columns)
    rest = " ".join([context.held, *others])
    name = f"{_digest(first)}-{_digest(rest)}.npz"
    return context.folder / "checkpoints" / name


def remove_checkpoints(folder: Path, keys: Iterable[str] | None = None) -> None:
    """Remove the checkpoints of the cells with these keys, or all where `keys` is None."""
    if keys is None:
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        return
    for key in keys:
        pattern = f"checkpoints/{_digest(key)}-*"
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)


def write_state(path: Path, state: TrainingState) -> None:
    """Write a state as plain arrays and JSON."""
    arrays = {}
    numbers = dict(vars(state))
    for name in _LISTS:
        for i, value in enumerate(numbers.pop(name)):
            arrays[f"{name}_{i}"] = value
    arrays["state"] = np.array(json.dumps(numbers))
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(path) as partial, partial.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def read_state(path: Path) -> TrainingState | None:
    """Read a state; None where there is none. A damaged file is removed."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            numbers = json.loads(str(arrays["state"]))
            return TrainingState(
                **numbers,
                best_weights=read_list(arrays, "best_weights"),
                variables=read_list(arrays, "variables"),
            )
    except FileNotFoundError:
        return None
    except (OSError, EOFError, ValueError, TypeError, KeyError, BadZipFile):
        path.unlink()
        return None


def write_networks(path: Path, networks: Sequence[TrainedNetwork]) -> None:
    """Write the weights of trained networks as plain arrays."""
    arrays = {}
    for n, trained in enumerate(networks):
        for i, value in enumerate(trained.weights):
            arrays[f"weight_{n}_{i}"] = value
    np.savez(path, allow_pickle=False, **arrays)


def read_networks(path: Path, columns: Sequence[list[int]]) -> list[TrainedNetwork]:
    """Read what `write_networks` wrote, given the columns of each network."""
    networks = []
    with np.load(path, allow_pickle=False) as arrays:
        for n, mine in enumerate(columns):
            weights = read_list(arrays, f"weight_{n}")
            networks.append(TrainedNetwork(mine, weights))
    return networks


def read_list(arrays: np.lib.npyio.NpzFile, name: str) -> Arrays:
    """Return the arrays `<name>_0`, `<name>_1` and so on of an .npz file."""
    n = sum(key.startswith(f"{name}_") for key in arrays)
    return [arrays[f"{name}_{i}"] for i in range(n)]


def _digest(text: str) -> str:
    digest = hashlib.sha256(text.encode())
    return digest.hexdigest()[:16]
