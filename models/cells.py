"""The cells: what the settings ask for, what each depends on, and which are done."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from extract.tiles import Tiles
from models.design import NONE, read_source
from models.folds import Folds, hash_array, hash_folds
from models.registry import STACK, ModelSpec, build_model, parse_model
from models.runs import read_cells
from models.settings import Settings

ALL = "all"  # the cut of a stack: it is fed by the cells of every cut
# Libraries whose version decides what a family gives; a new one makes its cells stale.
_LIBRARIES = {"forest": ("scikit-learn",), "xgboost": ("xgboost", "xgboost-cpu"), "head": ("keras",)}


class Cell(NamedTuple):
    """One run to make, for all its targets: a split, a cut (or `none`, `all`) and a model."""

    split: str
    cut: str
    model: str

    @property
    def spec(self) -> ModelSpec:
        """What the model's name says."""
        return parse_model(self.model)


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A run with its keys.

    Attributes
    ----------
    inputs : what every target of the run depends on.
    keys : target → hash of everything that its numbers depend on.
    missing : targets to fit; those done and up to date are not among them.
    stale : of the missing ones, those done earlier from other inputs.
    """

    cell: Cell
    inputs: dict[str, Any]
    keys: dict[str, str]
    missing: list[str]
    stale: list[str]


def list_cells(settings: Settings) -> list[Cell]:
    """Give every run that the settings ask for: baselines, then cut by cut so that each is read once, stacks last."""
    specs, splits = [parse_model(name) for name in settings.model_names], settings.models.splits
    blind = [str(s) for s in specs if s.is_baseline]
    seeing = [str(s) for s in specs if not s.is_baseline and s.family != STACK]
    stacks = [Cell(split, ALL, STACK) for split in splits if STACK in settings.model_names]
    return [*(Cell(split, NONE, m) for split in splits for m in blind),
            *(Cell(split, cut, m) for cut in settings.extract.cuts for split in splits for m in seeing), *stacks]


def stack_members(cells: list[Cell], split: str) -> list[Cell]:
    """Cells that a stack combines: those that see pictures and nothing else, so that it can be held against the baselines."""
    return [c for c in cells if c.split == split and c.cut not in (NONE, ALL) and not c.spec.groups]


def plan_cells(settings: Settings, tiles: Tiles, folds: dict[str, Folds]) -> list[Planned]:
    """Give every run with its keys, and which of its targets have to be fitted."""
    cells = list_cells(settings)
    planned: dict[Cell, Planned] = {}
    shared = _Shared(settings, tiles, folds)
    for cell in cells:
        if cell.cut == ALL:
            inputs = {"members": [list(c) for c in stack_members(cells, cell.split)]}
            below = [planned[c] for c in stack_members(cells, cell.split)]
            keys = {t: _hash({**inputs, "keys": [p.keys[t] for p in below]}) for t in settings.targets.columns}
        else:
            inputs = shared.inputs(cell)
            keys = {t: _hash({**inputs, "labels_sha256": shared.labels[t]}) for t in settings.targets.columns}
        done = read_cells(settings.folder, *cell)
        missing = [t for t, key in keys.items() if done.get(t, {}).get("key") != key]
        planned[cell] = Planned(cell=cell, inputs=inputs, keys=keys, missing=missing, stale=[t for t in missing if t in done])
    return list(planned.values())


class _Shared:
    """Hashes that many cells share, each made once."""

    def __init__(self, settings: Settings, tiles: Tiles, folds: dict[str, Folds]) -> None:
        self._settings, self._tiles = settings, tiles
        self._folds = {split: hash_folds(tiles.id.to_numpy(), one) for split, one in folds.items()}
        self._sources: dict[str, dict[str, str]] = {}
        self.labels = {t: hash_array(tiles.targets[t].to_numpy()) for t in settings.targets.columns}
        self._area = _hash(tiles.area.tolist())
        self._groups = _hash(tiles.groups.astype(str).to_dict("list"))

    def inputs(self, cell: Cell) -> dict[str, Any]:
        """Everything that the run's numbers depend on, but for the labels."""
        spec, asked = cell.spec, self._settings.models
        if cell.cut not in self._sources:
            self._sources[cell.cut] = read_source(self._settings.folder, self._tiles, cell.cut, self._settings.extract.backbones)
        inputs: dict[str, Any] = {**self._sources[cell.cut], "cut": cell.cut, "model": cell.model,
                                  "folds_sha256": self._folds[cell.split], "weights": asked.weights,
                                  "params": json.loads(json.dumps(build_model(spec, seed=asked.seed).get_params())),
                                  "nested": self._is_nested(cell)}
        if spec.area or asked.weights == "area":
            inputs["area_sha256"] = self._area
        if spec.groups or spec.feed in ("groups", "region"):
            inputs |= {"groups_sha256": self._groups, "region": asked.region if spec.feed == "region" else None}
        if spec.feed == "place":
            inputs["xy_sha256"] = hash_array(self._tiles.xy)
        return inputs | {"versions": _versions_of(spec.family)}

    def _is_nested(self, cell: Cell) -> bool:
        """True where a stack needs the run's nested predictions."""
        return STACK in self._settings.model_names and cell in stack_members([cell], cell.split)


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _versions_of(family: str) -> dict[str, str]:
    """Major and minor version of the libraries that decide what a family gives."""
    found = {}
    for name in _LIBRARIES.get(family, ()):
        try:
            found[name.removesuffix("-cpu")] = ".".join(version(name).split(".")[:2])
        except PackageNotFoundError:
            continue
    return found


def tabulate_cells(planned: list[Planned]) -> pd.DataFrame:
    """Give one row a run: split, cut, model, and how many of its targets are done, stale and missing."""
    rows = [{**p.cell._asdict(), "done": len(p.keys) - len(p.missing), "stale": len(p.stale),
             "missing": len(p.missing) - len(p.stale)} for p in planned]
    return pd.DataFrame(rows).astype(dict.fromkeys(("done", "stale", "missing"), np.int64))
