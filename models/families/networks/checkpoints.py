"""Trainings that a kill does not undo: their state beside the runs, until the run that they belong to is written.

`checkpoints/<key>-<what is held out>.npz`: plain arrays, and the rest as JSON. A new key, another file: what has other
inputs is never gone on with.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from extract.files.atomic import publish
from models.families.family import Where
from models.families.networks.learning import Keeper, Phase, State, read_weights, write_weights

_EVERY_SECONDS = 60.0  # what took less than this is sooner done again than written and read
_NUMBERS = [one.name for one in fields(State) if one.name != "best"]


def open_keeper(where: Where, column: int) -> Keeper:
    """Return what keeps the state of a training of some target; it keeps nothing where there is no folder to do so."""
    if where.folder is None or column >= len(where.keys):
        return Keeper()
    return FileKeeper(
        where.folder / "checkpoints" / f"{_short(where.keys[column])}-{_short(where.held)}.npz"
    )


def remove_checkpoints(folder: Path, keys: Iterable[str] | None = None) -> None:
    """Remove the checkpoints of some cells, that are written; or with None all of them."""
    if keys is None:
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    for key in keys or ():
        for path in (folder / "checkpoints").glob(f"{_short(key)}-*"):
            path.unlink(missing_ok=True)


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class FileKeeper(Keeper):
    """Keeps a state in a file: once a minute while it learns, and its best weights when it is done."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._began = time.monotonic()
        self._written = self._began

    def resume(self, phases: list[Phase]) -> State | None:
        """Read the state, and give model and optimiser what they had; a file that cannot be used is left for a new one."""
        try:
            with self._path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                state = _read_state(arrays)
                given = {name: _list(arrays, name) for name in ("model", "optimizer")}
        except FileNotFoundError:
            return None
        except (
            OSError,
            EOFError,
            ValueError,
            TypeError,
            KeyError,
            BadZipFile,
        ):  # another version's, or damaged
            self._path.unlink()
            return None
        if not _fits(state, given, phases):
            self._path.unlink()
            return None
        phase = phases[state.phase]
        phase.begin()
        if given["model"]:  # it was not done
            write_weights(phase.model.weights, given["model"])
            write_weights(phase.model.optimizer.variables, given["optimizer"])
        return state

    def keep(self, phase: Phase, state: State) -> None:
        """Write the state, where the last was written a minute ago."""
        if time.monotonic() - self._written >= _EVERY_SECONDS:
            optimizer = [
                np.asarray(_numpy(variable)) for variable in phase.model.optimizer.variables
            ]
            self._write(state, model=read_weights(phase.model), optimizer=optimizer)

    def rescue(self, state: State) -> Path:
        """Write the best weights of a training that diverged beside, so that none goes on with them."""
        self._path = self._path.with_name(f"{self._path.stem}-diverged.npz")
        self._write(state, model=[], optimizer=[])
        return self._path

    def finish(self, state: State) -> None:
        """Write the best weights alone, for the run may be stopped before it is written; not where that took no minute."""
        if time.monotonic() - self._began >= _EVERY_SECONDS or self._path.is_file():
            self._write(state, model=[], optimizer=[])

    def _write(self, state: State, **lists: list[Any]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        partial = self._path.with_name(self._path.name + ".partial")
        text = json.dumps({name: getattr(state, name) for name in _NUMBERS})
        named = {
            f"{name}_{i}": value
            for name, values in {**lists, "best": state.best}.items()
            for i, value in enumerate(values)
        }
        with partial.open("wb") as file:
            np.savez(file, allow_pickle=False, state=np.array(text), **named)
        publish(partial, self._path)
        self._written = time.monotonic()


def _fits(state: State, given: dict[str, list[Any]], phases: list[Phase]) -> bool:
    """Return whether all arrays have the shapes of what they are for; else nothing may be written, as it could not be undone."""
    if not 0 <= state.phase < len(phases):
        return False
    model = phases[state.phase].model
    pairs = [(model.weights, state.best)]
    if given["model"]:
        pairs += [(model.weights, given["model"]), (model.optimizer.variables, given["optimizer"])]
    return all(
        [tuple(v.shape) for v in variables] == [np.shape(a) for a in arrays]
        for variables, arrays in pairs
    )


def _read_state(arrays: Any) -> State:
    numbers = json.loads(str(arrays["state"]))
    return State(**{name: numbers[name] for name in _NUMBERS}, best=_list(arrays, "best"))


def _list(arrays: Any, name: str) -> list[Any]:
    n = sum(key.startswith(f"{name}_") for key in arrays)
    return [arrays[f"{name}_{i}"] for i in range(n)]


def _numpy(variable: Any) -> Any:
    import keras

    return keras.ops.convert_to_numpy(variable)
