"""The [models] section: which models, on which splits, with how many folds."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from extract import settings as shared
from models.registry import NAMES, check_name

Split = Literal["random", "area", "block"]
STRICTNESS: tuple[Split, ...] = ("random", "area", "block")


class ModelsSettings(shared.Strict):
    """[models]: names of the models, kinds of split, and what makes the folds."""

    names: list[str] = Field(default=list(NAMES), min_length=1)
    splits: list[Split] = Field(default=["area"], min_length=1)
    folds: int = Field(default=5, ge=2)
    block_m: float = Field(default=2000, gt=0)
    seed: int = Field(default=0, ge=0, lt=2**31)
    keep: Literal["best", "all"] | list[str] = "best"

    @field_validator("names", "keep")
    @classmethod
    def _known(cls, value: Any) -> Any:
        if isinstance(value, str):
            return value
        for name in value:
            check_name(name)
        return _check_once(value)

    @field_validator("splits")
    @classmethod
    def _once(cls, value: list[Split]) -> list[Split]:
        return _check_once(value)

    @property
    def strictest(self) -> Split:
        """The hardest of the asked splits: block, then area, then random."""
        return max(self.splits, key=STRICTNESS.index)


def _check_once(value: list[Any]) -> list[Any]:
    twice = sorted({name for name in value if value.count(name) > 1})
    if twice:
        raise ValueError(f"{', '.join(twice)} is listed twice: name each once")
    return value


class Settings(shared.Settings):
    """The whole file as models reads it; [reports] is left to the room that owns it."""

    models: ModelsSettings = ModelsSettings()
    reports: Any = None
