"""The cells: what the settings ask for, what each depends on, and which are done."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from extract.config.cuts import ALL_CUTS, NO_CUT, CellCut, Cut
from extract.errors import FitError
from extract.tables.tile_table import Tiles
from models.data.design import read_source
from models.data.fold_file import hash_array, hash_folds
from models.data.folds import Folds
from models.data.model_names import STACK, ModelSpec, parse_model
from models.families import stack
from models.families.family import Family
from models.settings import FitSettings
from models.store.feature_origin import find_origin, hash_origin
from models.store.runs import read_finished
from models.store.staleness import name_changes

# Libraries whose version decides what a family gives; a new one makes its cells stale.
_LIBRARIES = {
    "forest": ("scikit-learn",),
    "extratrees": ("scikit-learn",),
    **dict.fromkeys(("xgboost", "xgboost:joint"), ("xgboost", "xgboost-cpu")),
    **dict.fromkeys(("head", "head:joint", "cnn", "tail", "finetune"), ("keras",)),
}


class Cell(NamedTuple):
    """One run to make, for all its targets: a split, a cut (or none, or all of them) and a
    model.
    """

    split: str
    cut: CellCut
    model: str

    @property
    def spec(self) -> ModelSpec:
        """What the model's name says."""
        return parse_model(self.model)

    @property
    def names(self) -> tuple[str, str, str]:
        """Split, cut and model as they stand in files and tables."""
        return self.split, str(self.cut), self.model

    def as_texts(self) -> dict[str, str]:
        """Return the names by their columns: `split`, `cut`, `model`."""
        return dict(zip(self._fields, self.names, strict=True))

    def __str__(self) -> str:
        """Return the run's name as the user sees it."""
        return " ".join(self.names)


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A run with its keys.

    Attributes
    ----------
    inputs : what every target of the run depends on.
    depends : target → what it depends on besides: its labels, or the keys of a stack's members.
    is_nested : a stack asks for the run's nested predictions.
    keys : target → hash of everything that its numbers depend on.
    missing : targets to fit; those done and up to date are not among them.
    stale : of the missing ones, those done earlier from other inputs, and what has changed since.
    done : targets that are done and up to date → `seconds`, `area_r2`, and what else `run.json`
        says of each.
    took : targets that were fitted, whether up to date or not → seconds.
    """

    cell: Cell
    inputs: dict[str, Any]
    depends: dict[str, dict[str, Any]]
    is_nested: bool
    keys: dict[str, str]
    missing: list[str]
    stale: dict[str, list[str]]
    done: dict[str, dict[str, Any]]
    took: dict[str, float]

    @property
    def has_numbers(self) -> bool:
        """Whether some target of the run is a number, which a stack can combine."""
        return any(inputs.get("task") != "class" for inputs in self.depends.values())


def list_cells(settings: FitSettings) -> list[Cell]:
    """Return every run that the settings ask for: baselines, then cut by cut so that each is read
    once, stacks last.

    What needs maps is fitted on the cuts of pooling `map` alone: a tail on those of networks, a
    whole network on pictures. What needs none is fitted on them too, as long vectors, unless
    `[models] maps` leaves them to networks.
    """
    specs = [parse_model(name) for name in settings.model_names]
    splits = settings.models.splits
    blind = [str(s) for s in specs if s.is_baseline]
    seeing = [str(s) for s in specs if not s.is_baseline and s.family != STACK]
    stacks = [Cell(split, ALL_CUTS, STACK) for split in splits if STACK in settings.model_names]
    return [
        *(Cell(split, NO_CUT, m) for split in splits for m in blind),
        *(
            Cell(split, cut, m)
            for cut in settings.extract.cuts
            for split in splits
            for m in seeing
            if parse_model(m).suits(cut, maps=settings.models.maps)
        ),
        *stacks,
    ]


def stack_members(cells: list[Cell], split: str) -> list[Cell]:
    """Cells that a stack combines: those that see pictures and nothing else, so that it can be held
    against the baselines.
    """
    return [c for c in cells if c.split == split and isinstance(c.cut, Cut) and not c.spec.groups]


def plan_cells(settings: FitSettings, tiles: Tiles, folds: dict[str, Folds]) -> list[Planned]:
    """Return every run with its keys, and which of its targets have to be fitted."""
    cells = list_cells(settings)
    numbers = list(map(str, tiles.targets))
    planned: dict[Cell, Planned] = {}
    shared = _Shared(settings, tiles, folds)
    for cell in cells:
        if cell.cut is ALL_CUTS:
            able = [c for c, p in planned.items() if p.has_numbers]
            below = [planned[c] for c in stack_members(able, cell.split)]
            inputs = {
                "members": [str(p.cell) for p in below],
                "weights": settings.models.weights,
                "revision": stack.REVISION,
            }
            depends: dict[str, dict[str, Any]] = {
                t: {"member_keys": {str(p.cell): p.keys[t] for p in below}} for t in numbers
            }
        else:
            inputs = shared.inputs(cell)
            depends = shared.depends(cell)
        is_nested = STACK in settings.model_names and cell in stack_members([cell], cell.split)
        if depends:  # a stack of classes there is none
            planned[cell] = _check_done(settings, cell, inputs, depends, is_nested=is_nested)
    return list(planned.values())


def _check_done(
    settings: FitSettings,
    cell: Cell,
    inputs: dict[str, Any],
    depends: dict[str, dict[str, Any]],
    *,
    is_nested: bool,
) -> Planned:
    """Hold a run against what is on disk."""
    run = read_finished(settings.folder, *cell)
    done: dict[str, dict[str, Any]] = run.get("cells", {})
    keys = {t: _hash([inputs, more]) for t, more in depends.items()}
    deep = {t for t, more in depends.items() if is_nested and more.get("task") != "class"}
    fresh = {
        t
        for t, key in keys.items()
        if done.get(t, {}).get("key") == key and (done[t]["is_nested"] or t not in deep)
    }
    stale = {
        t: name_changes(
            {**run["inputs"], **done[t]["depends"]},
            {**inputs, **depends[t]},
            cell=cell.names,
            target=t,
        )
        or ["a stack now needs their nested predictions"]
        for t in keys
        if t in done and t not in fresh
    }
    return Planned(
        cell=cell,
        inputs=inputs,
        depends=depends,
        is_nested=is_nested,
        keys=keys,
        stale=stale,
        missing=[t for t in keys if t not in fresh],
        done={t: done[t] for t in keys if t in fresh},
        took={t: float(done[t]["seconds"]) for t in keys if t in done},
    )


class _Shared:
    """Hashes that many cells share, each made once."""

    def __init__(self, settings: FitSettings, tiles: Tiles, folds: dict[str, Folds]) -> None:
        self._settings = settings
        self._tiles = tiles
        self._folds = {split: hash_folds(tiles.id.to_numpy(), one) for split, one in folds.items()}
        self._sources: dict[CellCut, dict[str, str]] = {}
        self.labels = hash_labels(tiles)
        self._area = _hash_texts(tiles.area)
        self._groups = _hash([[name, _hash_texts(column)] for name, column in tiles.groups.items()])

    def inputs(self, cell: Cell) -> dict[str, Any]:
        """Everything that the run's numbers depend on, but for the labels."""
        spec = cell.spec
        asked = self._settings.models
        model = asked.build(spec)
        source = self._source(cell.cut)
        source = {
            k: v for k, v in source.items() if k != "pictures_sha256" or spec.feed == "metadata"
        }
        params = {
            k: v
            for k, v in model.get_params().items()
            if not (k.endswith(("n_jobs", "task")) or isinstance(v, Family))
        }
        inputs: dict[str, Any] = {
            **source,
            "folds_sha256": self._folds[cell.split],
            "weights": asked.weights,
            "revision": model.revision,
            "params": json.loads(json.dumps(params)),
        }
        origin = find_origin(self._settings, spec, cell.cut)
        if origin is not None:
            inputs["network_sha256"] = hash_origin(origin)
        if spec.area or asked.weights == "area":
            inputs["area_sha256"] = self._area
        if spec.groups or spec.feed in ("groups", "region"):
            inputs |= {
                "groups_sha256": self._groups,
                "region": asked.region if spec.feed == "region" else None,
            }
        if spec.feed == "place":
            inputs["xy_sha256"] = hash_array(self._tiles.xy)
        section = asked.estimators.get(spec.family)
        versions = section.read_versions() if section else _versions_of(spec.family)
        return inputs | {"versions": versions}

    def depends(self, cell: Cell) -> dict[str, dict[str, Any]]:
        """What the numbers of each target depend on besides.

        Raises
        ------
        FitError : the model predicts none of the targets.
        """
        tasks = self._settings.models.tasks(cell.spec)
        depends: dict[str, dict[str, Any]] = {}
        for target in map(str, self._tiles.target_names):
            task = self._tiles.kind(target)
            if task not in tasks:
                continue
            depends[target] = {"labels_sha256": self.labels[target]}
            if task == "class":
                depends[target]["task"] = task
        if not depends:
            key = "classes" if "number" in tasks else "estimator"
            raise FitError(
                f"[models] names: {cell.model!r} predicts none of the targets. Name a class as "
                f"{key} in [models.estimators.{cell.spec.family}], or remove {cell.model!r}."
            )
        return depends

    def _source(self, cut: CellCut) -> dict[str, str]:
        if cut not in self._sources:
            self._sources[cut] = read_source(
                self._settings.folder, self._tiles, cut, self._settings.extract.backbones
            )
        return self._sources[cut]


def hash_labels(tiles: Tiles) -> dict[str, str]:
    """Return the hash of the labels of each target."""
    numbers = {str(t): hash_array(tiles.targets[t].to_numpy(np.float64)) for t in tiles.targets}
    return numbers | {str(t): _hash(tiles.classes[t].tolist()) for t in tiles.classes}


def _hash_texts(column: pd.Series) -> str:
    return hashlib.sha256("\0".join(map(str, column.tolist())).encode()).hexdigest()


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


@lru_cache
def _versions_of(family: str) -> dict[str, str]:
    """Major and minor version of the libraries that decide what a family gives."""
    found = {}
    for name in _LIBRARIES.get(family, ()):
        try:
            found[name.removesuffix("-cpu")] = ".".join(version(name).split(".")[:2])
        except PackageNotFoundError:
            continue
    return found
