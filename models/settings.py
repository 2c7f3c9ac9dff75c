"""The [models] section: which models, on which splits, with how many folds."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from extract.config.cuts import JOINED, CellCut, Cut, CutField
from extract.config.sections import SettingsPath, Strict, check_once
from extract.config.suggestions import suggest
from extract.settings import ExtractSettings
from models.data.finding_codes import check_finding_codes
from models.data.folds import FoldOptions
from models.data.model_names import (
    STACK,
    ModelSpec,
    check_estimator_name,
    check_model,
    parse_model,
)
from models.families.estimator_classes import check_trusted
from models.families.estimator_settings import EstimatorSection
from models.families.family import Family
from models.families.params import check_params
from models.families.pca import Reduced
from models.families.registry import build_model, find_family
from models.families.training_rows import Task

Split = Literal["random", "area", "knndm", "block", "group"]
STRICTNESS: tuple[Split, ...] = ("random", "area", "knndm", "block", "group")
_MAP_EXAMPLES = {
    "tail": ("maps of a network", "vgg16/block5_conv1:map"),
    "cnn": ("maps", "pixels/100:map"),
    "finetune": ("pictures", "pixels/224:map"),
}


class ModelsSection(Strict):
    """[models]: the models, the kinds of split, the folds, and where the fits run."""

    names: list[str] | None = Field(default=None, min_length=1)
    splits: list[Split] = Field(default=["area"], min_length=1)
    folds: int = Field(default=5, ge=2)
    block_m: float = Field(default=2000, gt=0)
    buffer_m: float = Field(default=0, ge=0)
    group: str | None = None
    predict_at: SettingsPath | None = None
    weights: Literal["tile", "area"] = "area"
    maps: Literal["all", "networks"] = "all"
    region: str | None = None
    seed: int = Field(default=0, ge=0, lt=2**31)
    keep: Literal["best", "all"] | list[str] = "best"
    engine: Literal["local", "dask"] = "local"
    scheduler: str | None = None
    workers: int | None = Field(default=None, ge=1, le=4096)
    threads: int | None = Field(default=None, ge=1)
    memory_gib: float | None = Field(default=None, gt=0)
    knn_sample: int | None = Field(default=None, ge=1)
    accept: list[str] = Field(default=[])
    params: dict[str, dict[str, Any]] = Field(default={})
    trust: list[str] = Field(default=[])
    estimators: dict[str, EstimatorSection] = Field(default={})
    joined: dict[str, list[CutField]] = Field(default={})

    @field_validator("names", "keep")
    @classmethod
    def _check_names(cls, value: list[str] | str | None) -> list[str] | str | None:
        if not isinstance(value, list):
            return value
        return check_once(value)

    @field_validator("params")
    @classmethod
    def _check_params(cls, value: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        return {family: check_params(family, params) for family, params in value.items()}

    @field_validator("estimators")
    @classmethod
    def _check_estimators(cls, value: dict[str, EstimatorSection]) -> dict[str, EstimatorSection]:
        for name in value:
            check_estimator_name(name)
        return value

    @field_validator("joined")
    @classmethod
    def _check_joined(cls, value: dict[str, list[Cut]]) -> dict[str, list[Cut]]:
        for name, cuts in value.items():
            if re.fullmatch(r"[a-z][a-z0-9_]*", name) is None:
                raise ValueError(
                    f"{name!r}: expected a name of small letters, digits and _, as 'both'"
                )
            if len(set(cuts)) < max(2, len(cuts)):
                raise ValueError(f"{name}: expected two different cuts or more")
            maps = [str(cut) for cut in cuts if cut.pooling == "map"]
            if maps:
                raise ValueError(
                    f"{name}: expected vectors, got {maps[0]!r}; take ':flat' or ':avg'"
                )
        return value

    @field_validator("splits", "accept", "trust")
    @classmethod
    def _check_once(cls, value: list[str]) -> list[str]:
        return check_once(value)

    @field_validator("accept")
    @classmethod
    def _check_accept(cls, value: list[str]) -> list[str]:
        check_finding_codes(value)
        return value

    @model_validator(mode="after")
    def _check_together(self) -> ModelsSection:
        if STACK in (self.names or ()) and self.folds < 3:
            raise ValueError(
                "names: 'stack' learns from folds that its members have not seen, and needs at "
                f"least 3; folds is {self.folds}"
            )
        if (self.engine == "dask") != (self.scheduler is not None):
            raise ValueError(
                "engine 'dask' and scheduler go together: set engine = \"dask\" and scheduler to "
                "its address, as 'tcp://10.0.0.1:8786', or neither"
            )
        for key, split in (("group", "group"), ("predict_at", "knndm")):
            is_set = getattr(self, key) is not None
            if is_set != (split in self.splits):
                raise ValueError(
                    f"the split {split!r} and {key} go together: add {split!r} to splits and set "
                    f"{key}, or neither"
                )
        return self

    def build(self, spec: ModelSpec, task: Task = "number") -> Family:
        """Return an unfitted model with the parameters of these settings."""
        section = self.estimators.get(spec.family)
        if section is not None:
            model = section.build(seed=self.seed, task=task)
            return Reduced(model, spec.pca, self.seed) if spec.pca else model
        return build_model(
            spec,
            seed=self.seed,
            sample=self.knn_sample,
            task=task,
            params=self.params.get(spec.family),
        )

    def tasks(self, spec: ModelSpec) -> Collection[Task]:
        """Return what a model predicts."""
        section = self.estimators.get(spec.family)
        if section is not None:
            return section.class_names
        of_stack: tuple[Task, ...] = ("number",)
        if spec.family == STACK:
            return of_stack
        return find_family(spec.family)().tasks

    @property
    def fold_options(self) -> FoldOptions:
        """How folds are made."""
        return FoldOptions(
            splits=tuple(self.splits),
            n_folds=self.folds,
            seed=self.seed,
            block_m=self.block_m,
            buffer_m=self.buffer_m,
            group=self.group,
            predict_at=self.predict_at,
        )

    @property
    def memory_bytes(self) -> int | None:
        """What the features of a cut may fill [bytes]; None for half of the free memory."""
        return None if self.memory_gib is None else int(self.memory_gib * 2**30)

    @property
    def farthest(self) -> Split:
        """The asked split that holds out farthest: group, block, knndm, area, then random."""
        return max(self.splits, key=STRICTNESS.index)


class FitSettings(ExtractSettings):
    """The whole file as models reads it; [reports] is left to the package that owns it."""

    models: ModelsSection = ModelsSection()
    reports: Any = None

    @model_validator(mode="after")
    def _check_names(self) -> FitSettings:
        self._check_estimators()
        self._check_joined()
        self._check_known("names", self.models.names)
        self._check_known("keep", self.models.keep)
        self._check_group("region", self.models.region)
        self._check_group("group", self.models.group)
        named = [parse_model(name) for name in self.models.names or ()]
        seeing = [s for s in named if not (s.is_baseline or s.groups or s.family == STACK)]
        members = [s for s in seeing if "number" in self.models.tasks(s)]
        if STACK in map(str, named) and not members:
            raise ValueError(
                "[models] names: 'stack' combines models that see pictures and nothing else, and "
                "none is named: add one, as 'ridge', or remove 'stack'"
            )
        for name, spec in zip(self.models.names or (), named, strict=True):
            self._check_feed(name, spec)
        return self

    def _check_group(self, key: str, name: str | None) -> None:
        """Check that a column of areas that a key of [models] names is one of [tiles] groups."""
        groups = self.tiles.groups
        if name is None or name in groups:
            return
        known = ", ".join(groups) or "none"
        raise ValueError(
            f"[models] {key}: {name!r} is none of [tiles] groups ({known}).{suggest(name, groups)}"
        )

    def _check_estimators(self) -> None:
        """Check that the packages of the estimators are trusted; nothing is imported."""
        for name, section in self.models.estimators.items():
            for class_name in section.class_names.values():
                try:
                    check_trusted(class_name, self.models.trust)
                except ValueError as error:
                    raise ValueError(f"[models.estimators.{name}] {error}") from None

    def _check_joined(self) -> None:
        """Check that the cuts that are joined are made."""
        for name, cuts in self.models.joined.items():
            for cut in cuts:
                if cut not in self.extract.cuts:
                    known = [str(one) for one in self.extract.cuts]
                    raise ValueError(
                        f"[models] joined: {name}: {str(cut)!r} is none of [extract] cuts "
                        f"({', '.join(known)}).{suggest(str(cut), known)}"
                    )

    def _check_known(self, key: str, names: list[str] | str | None) -> None:
        """Check that every family that a key of [models] names is there."""
        if not isinstance(names, list):
            return
        for name in names:
            try:
                check_model(name, self.models.estimators)
            except ValueError as error:
                raise ValueError(f"[models] {key}: {error}") from None

    def _check_feed(self, name: str, spec: ModelSpec) -> None:
        """Check that the settings have what a model is fed with."""
        if not any(spec.suits(cut) for cut in self.cuts):
            kind, example = _MAP_EXAMPLES[spec.family]
            raise ValueError(
                f"[models] names: {name!r} is fed with {kind}, and no cut is one: add one to "
                f"[extract] cuts, as {example!r}, or remove {name!r}"
            )
        needs_groups = spec.groups or spec.feed in ("groups", "region")
        if needs_groups and not self.tiles.groups:
            raise ValueError(
                f"[models] names: {name!r} needs area descriptors: name their columns in [tiles] "
                f"groups, or remove {name!r}"
            )
        if spec.feed == "place" and not self._has_places:
            raise ValueError(
                "[models] names: 'location' needs coordinates, and the settings name none: set x "
                "and y (or grid) in [tiles], or remove 'location'"
            )

    @property
    def cuts(self) -> list[Cut]:
        """The cuts that models are fitted on: those that are made, and those that are joined."""
        joined = [Cut(JOINED, name, "flat") for name in self.models.joined]
        return [*self.extract.cuts, *joined]

    def parts_of(self, cut: CellCut) -> list[Cut]:
        """Return the cuts whose columns stand side by side in one; none of `NO_CUT`."""
        if not isinstance(cut, Cut):
            return []
        return self.models.joined[cut.layer] if cut.backbone == JOINED else [cut]

    @property
    def _has_places(self) -> bool:
        return self.tiles.x is not None or self.tiles.grid is not None

    @property
    def model_names(self) -> list[str]:
        """The models asked for; else every family, with the baselines that the table allows."""
        if self.models.names is not None:
            return self.models.names
        names = ["mean"]
        if self._has_places:
            names.append("location")
        if self.tiles.groups:
            names += ["region", "geodemographic"]
        names += ["metadata", "ridge", "ridge@area", "knn", "forest", "xgboost", "head"]
        names += self.models.estimators
        if self.models.folds > 2:
            names.append(STACK)
        return names
