"""The settings file of a place that is predicted: its tiles; how their features are made is the model's to say."""

from __future__ import annotations

from pydantic import Field, model_validator

from extract import settings as shared
from extract.config.cuts import CutField


class PlaceExtract(shared.ExtractSection):
    """[extract] of a place: nothing has to be said; `cuts` tell which features baselines ask for rejected tiles."""

    cuts: list[CutField] = Field(default=[])


class PlaceSettings(shared.ExtractSettings):
    """The whole file as `predict` reads it.

    Of [extract] it takes what belongs to the machine: where weights lie, `batch`, `shard`, `runtime`, `engine`, `scheduler`,
    `workers`. Cuts, size, precision and stored type are those that the model was fitted on.
    """

    extract: PlaceExtract = PlaceExtract()

    @model_validator(mode="after")
    def _weights_used(self) -> PlaceSettings:
        """Let weights be named of any backbone: the model says which it needs."""
        return self
