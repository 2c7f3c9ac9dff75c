"""[reports]: what the page is called."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from extract.settings import Strict
from models.settings import Settings as ModelsRoomSettings

Direction = Literal["more deprived", "less deprived"]


class ReportsSettings(Strict):
    """[reports]: the title of the page (the experiment's name stands in), and which way the indices point."""

    title: str | None = Field(default=None, min_length=1)
    higher_is: Direction | dict[str, Direction] | None = None


class Settings(ModelsRoomSettings):
    """The whole file, as the reports read it."""

    reports: ReportsSettings = ReportsSettings()

    @property
    def title(self) -> str:
        """Title of the page."""
        return self.reports.title or self.name
