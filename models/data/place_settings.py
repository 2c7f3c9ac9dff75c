"""The settings file of a place that is predicted."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from extract.config.cuts import CutField
from extract.config.sections import OnceEach
from extract.settings import ExtractSection, ExtractSettings


class PlaceExtractSection(ExtractSection):
    """[extract] of a place, where no key is needed."""

    cuts: Annotated[list[CutField], OnceEach] = Field(default=[])


class PlaceSettings(ExtractSettings):
    """The whole file as `predict` reads it.

    Of [extract] it takes what belongs to the machine: where weights lie, `batch`, `shard`,
    `runtime`, `engine`, `scheduler`, `workers`. Cuts, size, precision and stored type are those
    that the model was fitted on.
    """

    extract: PlaceExtractSection = PlaceExtractSection()

    @model_validator(mode="after")
    def _check_weights_used(self) -> PlaceSettings:
        """Allow weights of any backbone: the model decides which are used."""
        return self
