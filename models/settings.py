"""The [models] section: which models, on which splits, with how many folds."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from extract.config.sections import Strict, check_once
from extract.config.suggestions import suggest
from extract.settings import ExtractSettings
from models.auditing.audit import check_codes
from models.families.family import Family, Task
from models.families.params import check_params
from models.families.registry import STACK, ModelSpec, build_model, parse_model

Split = Literal["random", "area", "block"]
STRICTNESS: tuple[Split, ...] = ("random", "area", "block")


class ModelsSection(Strict):
    """[models]: names of the models, kinds of split, and what makes the folds."""

    names: list[str] | None = Field(default=None, min_length=1)
    splits: list[Split] = Field(default=["area"], min_length=1)
    folds: int = Field(default=5, ge=2)
    block_m: float = Field(default=2000, gt=0)
    buffer_m: float = Field(default=0, ge=0)
    weights: Literal["tile", "area"] = "tile"
    maps: Literal["all", "networks"] = "all"
    region: str | None = None
    seed: int = Field(default=0, ge=0, lt=2**31)
    keep: Literal["best", "all"] | list[str] = "best"
    engine: Literal["local", "dask"] = "local"
    scheduler: str | None = None
    workers: int | None = Field(default=None, ge=1)
    threads: int | None = Field(default=None, ge=1)
    memory_gib: float | None = Field(default=None, gt=0)
    knn_sample: int | None = Field(default=None, ge=1)
    accept: list[str] = Field(default=[])
    params: dict[str, dict[str, Any]] = Field(default={})

    @field_validator("names", "keep")
    @classmethod
    def _known(cls, value: Any) -> Any:
        if value is None or isinstance(value, str):
            return value
        for name in value:
            parse_model(name)
        return check_once(value)

    @field_validator("accept")
    @classmethod
    def _findings(cls, value: list[str]) -> list[str]:
        check_codes(value)
        return check_once(value)

    @field_validator("params")
    @classmethod
    def _params(cls, value: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        return {family: check_params(family, params) for family, params in value.items()}

    @field_validator("splits")
    @classmethod
    def _once(cls, value: list[Split]) -> list[Split]:
        return check_once(value)

    @model_validator(mode="after")
    def _stackable(self) -> ModelsSection:
        if STACK in (self.names or ()) and self.folds < 3:
            raise ValueError(
                f"names: 'stack' learns from folds that its members have not seen, and needs at least 3; "
                f"folds is {self.folds}"
            )
        return self

    @model_validator(mode="after")
    def _reachable(self) -> ModelsSection:
        if (self.engine == "dask") != (self.scheduler is not None):
            raise ValueError(
                "engine 'dask' and scheduler go together: set engine = \"dask\" and scheduler to its address, as "
                "'tcp://10.0.0.1:8786', or neither"
            )
        return self

    def build(self, spec: ModelSpec, task: Task = "number") -> Family:
        """Return an unfitted model, as these settings want it."""
        return build_model(
            spec,
            seed=self.seed,
            sample=self.knn_sample,
            task=task,
            params=self.params.get(spec.family),
        )

    @property
    def memory_bytes(self) -> int | None:
        """What the features of a cut may fill [bytes]; None for half of what is free when they are read."""
        return None if self.memory_gib is None else int(self.memory_gib * 2**30)

    @property
    def strictest(self) -> Split:
        """The hardest of the asked splits: block, then area, then random."""
        return max(self.splits, key=STRICTNESS.index)


class FitSettings(ExtractSettings):
    """The whole file as models reads it; [reports] is left to the room that owns it."""

    models: ModelsSection = ModelsSection()
    reports: Any = None

    @model_validator(mode="after")
    def _feeds(self) -> FitSettings:
        groups = self.tiles.groups
        region = self.models.region
        if region is not None and region not in groups:
            raise ValueError(
                f"[models] region: {region!r} is none of [tiles] groups ({', '.join(groups) or 'none'})."
                f"{suggest(region, groups)}"
            )
        named = [parse_model(name) for name in self.models.names or ()]
        if STACK in map(str, named) and all(
            spec.is_baseline or spec.groups or spec.family == STACK for spec in named
        ):
            raise ValueError(
                "[models] names: 'stack' combines models that see pictures and nothing else, and none is named: "
                "add one, as 'ridge', or remove 'stack'"
            )
        for name, spec in zip(self.models.names or (), named, strict=True):
            if not any(spec.suits(cut) for cut in self.extract.cuts):
                kind, example = (
                    ("maps of a network", "vgg16/block5_conv1:map")
                    if spec.family == "tail"
                    else ("maps", "pixels/100:map")
                    if spec.family == "cnn"
                    else ("pictures", "pixels/224:map")
                )
                raise ValueError(
                    f"[models] names: {name!r} is fed with {kind}, and no cut is one: add one to [extract] cuts, as "
                    f"{example!r}, or remove {name!r}"
                )
            if (spec.groups or spec.feed in ("groups", "region")) and not groups:
                raise ValueError(
                    f"[models] names: {name!r} needs area descriptors: name their columns in [tiles] groups, "
                    f"or remove {name!r}"
                )
            if spec.feed == "place" and self.tiles.x is None and self.tiles.grid is None:
                raise ValueError(
                    "[models] names: 'location' needs coordinates, and the settings name none: set x and y "
                    "(or grid) in [tiles], or remove 'location'"
                )
        return self

    @property
    def model_names(self) -> list[str]:
        """Names of the models: those asked for, or every family with the baselines that the table allows."""
        if self.models.names is not None:
            return self.models.names
        place = ["location"] if self.tiles.x is not None or self.tiles.grid is not None else []
        groups = ["region", "geodemographic"] if self.tiles.groups else []
        stack = [STACK] if self.models.folds > 2 else []
        return [
            "mean",
            *place,
            *groups,
            "metadata",
            "ridge",
            "ridge@area",
            "knn",
            "forest",
            "xgboost",
            "head",
            *stack,
        ]
