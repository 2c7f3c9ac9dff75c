"""The cells: what the settings ask for, what each depends on, and which are done."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from itertools import product
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
import pandas as pd

from extract.config.cuts import ALL_CUTS, NO_CUT, CellCut, Cut
from extract.errors import FitError
from extract.files.hashing import hash_text
from extract.tables.tile_table import Tiles
from models.data.cut_data import read_source
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
    **dict.fromkeys(("forest", "extratrees", "logistic", "svm"), ("scikit-learn",)),
    **dict.fromkeys(("xgboost", "xgboost:joint"), ("xgboost", "xgboost-cpu")),
    **dict.fromkeys(("head", "head:joint", "cnn", "tail", "finetune"), ("keras",)),
}


Inputs: TypeAlias = dict[str, Any]
"""What numbers depend on: its name → hash or value."""
Entry: TypeAlias = dict[str, Any]
"""What `run.json` says of one target of a run."""


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
    inputs: Inputs
    depends: dict[str, Inputs]
    is_nested: bool
    keys: dict[str, str]
    missing: list[str]
    stale: dict[str, list[str]]
    done: dict[str, Entry]
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
    splits = settings.models.splits
    specs = [parse_model(name) for name in settings.model_names]
    blind = [spec for spec in specs if spec.is_baseline]
    seeing = [spec for spec in specs if not spec.is_baseline and spec.family != STACK]
    cells = [Cell(split, NO_CUT, str(spec)) for split, spec in product(splits, blind)]
    for cut in settings.cuts:
        suited = [str(spec) for spec in seeing if spec.suits(cut, maps=settings.models.maps)]
        cells += [Cell(split, cut, model) for split, model in product(splits, suited)]
    if STACK in settings.model_names:
        cells += [Cell(split, ALL_CUTS, STACK) for split in splits]
    return cells


def stack_members(cells: list[Cell], split: str) -> list[Cell]:
    """Cells that a stack combines: those that see pictures and nothing else, so that it can be held
    against the baselines.
    """
    return [c for c in cells if c.split == split and isinstance(c.cut, Cut) and not c.spec.groups]


def plan_cells(settings: FitSettings, tiles: Tiles, folds: dict[str, Folds]) -> list[Planned]:
    """Return every run with its keys, and which of its targets have to be fitted."""
    cells = list_cells(settings)
    planned: dict[Cell, Planned] = {}
    current = CurrentInputs(settings, tiles, folds)
    for cell in cells:
        if cell.cut is ALL_CUTS:
            able = [one for one, plan in planned.items() if plan.has_numbers]
            members = [planned[member] for member in stack_members(able, cell.split)]
            inputs = _stack_inputs(settings, members)
            depends = _stack_depends(tiles, members)
        else:
            inputs = current.read(cell)
            depends = current.depends(cell)
        if depends:  # a stack of classes there is none
            planned[cell] = _check_done(settings, cell, inputs, depends)
    return list(planned.values())


def _stack_inputs(settings: FitSettings, members: list[Planned]) -> Inputs:
    return {
        "members": [str(member.cell) for member in members],
        "weights": settings.models.weights,
        "revision": stack.REVISION,
    }


def _stack_depends(tiles: Tiles, members: list[Planned]) -> dict[str, Inputs]:
    depends: dict[str, Inputs] = {}
    for target in map(str, tiles.targets):
        keys = {str(member.cell): member.keys[target] for member in members}
        depends[target] = {"member_keys": keys}
    return depends


def _check_done(
    settings: FitSettings, cell: Cell, inputs: Inputs, depends: dict[str, Inputs]
) -> Planned:
    """Hold a run against what is on disk."""
    run = read_finished(settings.folder, *cell)
    done: dict[str, Entry] = run.get("cells", {})
    has_stack = STACK in settings.model_names
    is_nested = has_stack and cell in stack_members([cell], cell.split)
    keys = {target: _hash([inputs, more]) for target, more in depends.items()}
    missing = []
    stale = {}
    for target, more in depends.items():
        needs_nested = is_nested and more.get("task") != "class"
        entry = done.get(target)
        if entry is None:
            missing.append(target)
        elif entry["key"] != keys[target]:
            missing.append(target)
            old = {**run["inputs"], **entry["depends"]}
            new = {**inputs, **more}
            stale[target] = name_changes(old, new, cell=cell.names, target=target)
        elif needs_nested and not entry["is_nested"]:
            missing.append(target)
            stale[target] = ["a stack now needs their nested predictions"]
    return Planned(
        cell=cell,
        inputs=inputs,
        depends=depends,
        is_nested=is_nested,
        keys=keys,
        stale=stale,
        missing=missing,
        done={target: done[target] for target in keys if target not in missing},
        took={target: float(done[target]["seconds"]) for target in keys if target in done},
    )


class CurrentInputs:
    """What runs would be fitted from now; hashes that many cells share are made once."""

    def __init__(self, settings: FitSettings, tiles: Tiles, folds: dict[str, Folds]) -> None:
        self._settings = settings
        self._tiles = tiles
        self._folds = {split: hash_folds(tiles.id.to_numpy(), one) for split, one in folds.items()}
        self._sources: dict[CellCut, dict[str, str]] = {}
        self._area = _hash_texts(tiles.area)
        groups = [[name, _hash_texts(column)] for name, column in tiles.groups.items()]
        self._groups = _hash(groups)
        self._labels = hash_labels(tiles)

    def read(self, cell: Cell) -> Inputs:
        """Return everything that the run's numbers depend on, but for the labels.

        Raises
        ------
        FitError : as `read_source`. ValueError : as `hash_origin`.
        """
        spec = cell.spec
        asked = self._settings.models
        model = asked.build(spec)
        inputs: Inputs = {
            **self._source(cell.cut),
            "folds_sha256": self._folds[cell.split],
            "weights": asked.weights,
            "revision": model.revision,
            "params": _list_params(model),
        }
        if spec.feed != "metadata":
            inputs.pop("pictures_sha256", None)
        origin = find_origin(self._settings, spec, cell.cut)
        if origin is not None:
            inputs["network_sha256"] = hash_origin(origin)
        if spec.area or asked.weights == "area":
            inputs["area_sha256"] = self._area
        if spec.groups or spec.feed in ("groups", "region"):
            inputs["groups_sha256"] = self._groups
            inputs["region"] = asked.region if spec.feed == "region" else None
        if spec.feed == "place":
            inputs["xy_sha256"] = hash_array(self._tiles.xy)
        section = asked.estimators.get(spec.family)
        inputs["versions"] = section.read_versions() if section else _versions_of(spec.family)
        return inputs

    def depends(self, cell: Cell) -> dict[str, Inputs]:
        """Return what the numbers of each target depend on besides.

        Raises
        ------
        FitError : the model predicts none of the targets.
        """
        tasks = self._settings.models.tasks(cell.spec)
        depends: dict[str, Inputs] = {}
        for target in self._tiles.target_names:
            task = self._tiles.kind(target)
            if task not in tasks:
                continue
            depends[target] = {"labels_sha256": self._labels[target]}
            if task == "class":
                depends[target]["task"] = task
        if not depends:
            raise FitError(_describe_useless(cell, self._settings))
        return depends

    def _source(self, cut: CellCut) -> dict[str, str]:
        if cut not in self._sources:
            settings = self._settings
            parts = settings.parts_of(cut)
            backbones = settings.extract.backbones
            source = read_source(settings.folder, self._tiles, parts, backbones)
            self._sources[cut] = source
        return self._sources[cut]


def _list_params(model: Family) -> Inputs:
    """Return what numbers depend on of a model's parameters, as JSON gives it back."""
    params = {}
    for name, value in model.get_params().items():
        is_of_the_machine = name.endswith(("n_jobs", "task"))
        if not is_of_the_machine and not isinstance(value, Family):
            params[name] = value
    return json.loads(json.dumps(params))


class HasLabels(Protocol):
    """What has labels: numbers and classes, a column a target."""

    @property
    def targets(self) -> pd.DataFrame:
        """Numbers."""

    @property
    def classes(self) -> pd.DataFrame:
        """Classes."""


def _describe_useless(cell: Cell, settings: FitSettings) -> str:
    """Say why a model that predicts none of the targets is refused, and what to do."""
    is_of_classes = "class" in settings.models.tasks(cell.spec)
    predicts = "classes" if is_of_classes else "numbers"
    remedy = f"List one as {predicts} in [targets]"
    if cell.spec.family in settings.models.estimators:
        missing = "estimator" if is_of_classes else "classes"
        remedy = f"Name a class as {missing} in [models.estimators.{cell.spec.family}]"
    return (
        f"[models] names: {cell.model!r} predicts {predicts}, and none of the targets. "
        f"{remedy}, or remove {cell.model!r}."
    )


def hash_labels(labels: HasLabels) -> dict[str, str]:
    """Return the hash of the labels of each target."""
    hashes = {}
    for target, numbers in labels.targets.items():
        hashes[str(target)] = hash_array(numbers.to_numpy(np.float64))
    for target, classes in labels.classes.items():
        hashes[str(target)] = _hash(classes.tolist())
    return hashes


def _hash_texts(column: pd.Series) -> str:
    text = "\0".join(map(str, column.tolist()))
    return hash_text(text)


def _hash(value: Any) -> str:
    text = json.dumps(value, sort_keys=True)
    return hash_text(text)


@lru_cache
def _versions_of(family: str) -> dict[str, str]:
    """Major and minor version of the libraries that decide what a family gives."""
    found = {}
    for name, whole in read_versions(_LIBRARIES.get(family, ())).items():
        parts = whole.split(".")
        found[name] = ".".join(parts[:2])
    return found


def read_versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the versions of those packages that are installed."""
    found = {}
    for name in packages:
        try:
            found[name.removesuffix("-cpu")] = version(name)
        except PackageNotFoundError:
            continue
    return found
