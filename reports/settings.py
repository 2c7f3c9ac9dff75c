"""The section [reports] of the settings file."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from extract.config.sections import SettingsPath, Strict
from models.settings import FitSettings

Direction = Literal["more deprived", "less deprived"]


class ReportsSection(Strict):
    """[reports]: the page's title, which way the indices point, and the areas' polygons.

    `title` is the experiment's name where it is left out. `boundaries` is a GeoPackage, GeoJSON or
    Shapefile; its column `boundaries_code` holds the area codes of the tile table.
    """

    title: str | None = Field(default=None, min_length=1)
    higher_is: Direction | dict[str, Direction] | None = None
    boundaries: SettingsPath | None = None
    boundaries_code: str | None = None

    @model_validator(mode="after")
    def _together(self) -> ReportsSection:
        if (self.boundaries is None) != (self.boundaries_code is None):
            raise ValueError(
                "boundaries and boundaries_code go together: name the file of the polygons and its "
                "column of area codes, or neither"
            )
        return self


class ReportSettings(FitSettings):
    """The whole settings file, with the section of the reports."""

    reports: ReportsSection = ReportsSection()

    @property
    def title(self) -> str:
        """Return the title of the page."""
        return self.reports.title or self.name
