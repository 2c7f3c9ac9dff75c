"""[reports]: what the page is called."""

from __future__ import annotations

from pydantic import Field

from extract.settings import Strict
from models.settings import Settings as ModelsRoomSettings


class ReportsSettings(Strict):
    """[reports]: the title of the page; the experiment's name stands in where there is none."""

    title: str | None = Field(default=None, min_length=1)


class Settings(ModelsRoomSettings):
    """The whole file, as the reports read it."""

    reports: ReportsSettings = ReportsSettings()

    @property
    def title(self) -> str:
        """Title of the page."""
        return self.reports.title or self.name
