"""What the fitting loop tells while it works: to nobody, to a log, or to the display of the command line."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from models.execution.forecast import Forecast
from models.store.cells import Planned
from models.store.fitted import Fitted

LOG = logging.getLogger(__name__)


class Watch:
    """Hears what happens, and says nothing; a display overrides what it shows.

    Attributes
    ----------
    seconds : stage → seconds that it took.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def note(self, text: str) -> None:
        """Hear what the user should know: folds that were made, cells that are stale."""
        LOG.info("%s", text)

    def plan(self, planned: list[Planned], expected: Forecast, workers: int) -> None:
        """Hear what will be fitted, what it may take, and how many runs at a time."""

    def finish(self, fitted: Fitted, area_r2: dict[str, float]) -> None:
        """Hear that a run is on disk, and the R² over areas of each target that was fitted."""
        LOG.info("%s: %s, %.1f s", fitted.plan.cell, ", ".join(area_r2), fitted.seconds)

    def progress(self, done: int, total: int) -> None:
        """Hear how far a stage after the fits is."""

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage, and log it."""
        start = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - start
        LOG.info("%s: %.2f s", name, self.seconds[name])


class Heard(Watch):
    """Keeps what it hears of a plan.

    Attributes
    ----------
    notes : what the user should know. expected, workers : what the fits may take, and how many at a time.
    """

    def __init__(self) -> None:
        super().__init__()
        self.notes: list[str] = []
        self.expected = Forecast(seconds={}, source="")
        self.workers = 1

    def note(self, text: str) -> None:
        """Keep a note."""
        self.notes.append(text)

    def plan(self, planned: list[Planned], expected: Forecast, workers: int) -> None:  # noqa: ARG002
        """Keep the forecast."""
        self.expected = expected
        self.workers = max(1, workers)
