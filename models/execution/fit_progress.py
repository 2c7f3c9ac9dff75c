"""Follow a fit: by a log, or by a live display in the terminal."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

import numpy as np
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from models.execution.forecast import Forecast
from models.store.cells import Cell, Planned
from models.store.fitted import Fitted

LOG = logging.getLogger(__name__)
_TRAINING_LOG = logging.getLogger("models.families.networks.training")
_STAGE_WORDS = {"score": "scoring", "keep": "keeping"}  # stages after the fits


class FitProgress:
    """Log the progress of a fit, and keep what a plan says.

    Attributes
    ----------
    seconds : stage → seconds that it took.
    notes : what the user should know of the plan, as folds that were made and stale cells.
    expected : how long the missing runs may take.
    workers : how many runs are fitted at a time.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.notes: list[str] = []
        self.expected = Forecast(seconds={})
        self.workers = 1

    def note(self, text: str) -> None:
        """Take a note for the user."""
        self.notes.append(text)
        LOG.info("%s", text)

    def plan(self, planned: list[Planned], expected: Forecast, workers: int) -> None:  # noqa: ARG002
        """Take the runs of the grid, how long those to fit may take, and how many run at a time."""
        self.expected = expected
        self.workers = max(1, workers)

    def finish(self, fitted: Fitted, area_r2: dict[str, float]) -> None:
        """Take a run that is on disk, and the R² over areas of each fitted target."""
        LOG.info("%s: %s, %.1f s", fitted.plan.cell, ", ".join(area_r2), fitted.seconds)

    def progress(self, done: int, total: int) -> None:
        """Take how far a stage after the fits is."""

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage, and log it."""
        start = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - start
        LOG.info("%s: %.2f s", name, self.seconds[name])


class FitDisplay(FitProgress):
    """Show a live table of the best of each target on the farthest split, and a bar under it.

    It is a context manager.
    """

    def __init__(self, console: Console, farthest: str) -> None:
        super().__init__()
        self._console = console
        self._farthest = farthest
        self._bar = Progress(
            TextColumn("cells {task.fields[cells]}"),
            BarColumn(),
            TextColumn("{task.fields[left]}"),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
            console=console,
        )
        self._task = self._bar.add_task("reading", total=None, cells="", left="")
        self._best: dict[str, tuple[float, Cell]] = {}
        self._waiting: list[Cell] = []
        self._stage = "scoring"
        self._n_cells = 0
        self._n_done = 0
        self._took: dict[Cell, float] = {}
        self._epochs = _EpochHandler(self._show_epoch)
        self._live = Live(self._bar, console=console, transient=True, refresh_per_second=4)

    def __enter__(self) -> FitDisplay:
        """Begin to show; also the epochs of trainings in this process."""
        self._live.start()
        _TRAINING_LOG.addHandler(self._epochs)
        _TRAINING_LOG.setLevel(logging.INFO)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Clear what was shown."""
        _TRAINING_LOG.removeHandler(self._epochs)
        _TRAINING_LOG.setLevel(logging.NOTSET)
        self._live.stop()

    def note(self, text: str) -> None:
        """Print a line above the display, to stay."""
        self._console.print(text, soft_wrap=True, markup=False, highlight=False)

    def plan(self, planned: list[Planned], expected: Forecast, workers: int) -> None:
        """Count the cells, and rank those that are done."""
        super().plan(planned, expected, workers)
        self._waiting = [p.cell for p in planned if p.missing]
        self._n_cells = sum(len(p.keys) for p in planned)
        self._n_done = sum(len(p.done) for p in planned)
        for p in planned:
            scores = {}
            for target, one in p.done.items():
                if one.get("area_r2") is not None:
                    scores[target] = float(one["area_r2"])
            self._rank(p.cell, scores)
        self._show()

    def finish(self, fitted: Fitted, area_r2: dict[str, float]) -> None:
        """Count a run, and rank its cells."""
        cell = fitted.plan.cell
        self._waiting.remove(cell)
        self._n_done += len(area_r2)
        self._took[cell] = fitted.seconds
        self._rank(cell, area_r2)
        self._show()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Show the name of a stage after the fits, and time it."""
        if name in _STAGE_WORDS:
            self._stage = _STAGE_WORDS[name]
            self._show()
        with super().stage(name):
            yield

    def progress(self, done: int, total: int) -> None:
        """Show how far a stage after the fits is."""
        self._bar.update(self._task, description=f"{self._stage} {done}/{total}")

    def _show_epoch(self, epoch: str) -> None:
        running = str(self._waiting[0]) if self._waiting else self._stage
        self._bar.update(self._task, description=f"{running}: {epoch}")

    def _rank(self, cell: Cell, area_r2: dict[str, float]) -> None:
        if cell.split != self._farthest:
            return
        for target, r2 in area_r2.items():
            best, _ = self._best.get(target, (-np.inf, cell))
            if np.isfinite(r2) and r2 > best:
                self._best[target] = (r2, cell)

    def _show(self) -> None:
        running = ", ".join(str(cell) for cell in self._waiting[: self.workers])
        self._bar.update(
            self._task,
            total=self._n_cells,
            completed=self._n_done,
            description=running or self._stage,
            cells=f"{self._n_done}/{self._n_cells}",
            left=self._describe_left(),
        )
        if not self._best:
            self._live.update(self._bar)
            return
        title = f"split {self._farthest}"
        table = Table("target", "best so far", "R² over areas", title=title)
        for target, (r2, cell) in self._best.items():
            table.add_row(target, f"{cell.model} on {cell.cut}", f"{r2:.3f}")
        self._live.update(Group(table, self._bar))

    def _describe_left(self) -> str:
        """Return the time left: the forecast times what finished runs took of theirs.

        A run that nobody knows of is taken to last as long as the finished ones did.
        """
        forecast = 0.0
        took = 0.0
        for cell, seconds in self._took.items():
            expected = self.expected.seconds.get(cell)
            if expected:
                forecast += expected
                took += seconds
        pace = took / forecast if forecast else 1.0
        usual = float(np.mean(list(self._took.values()))) if self._took else 0.0
        left = 0.0
        for cell in self._waiting:
            expected = self.expected.seconds.get(cell)
            left += usual if expected is None else pace * expected
        if not left:
            return ""
        return f"about {format_seconds(left / self.workers)} left"


class _EpochHandler(logging.Handler):
    """Pass on what a training logs of an epoch."""

    def __init__(self, show: Callable[[str], None]) -> None:
        super().__init__()
        self._show = show

    def emit(self, record: logging.LogRecord) -> None:
        self._show(record.getMessage())


def format_seconds(seconds: float | None) -> str:
    """Write a duration as a person would; `unknown` for None."""
    if seconds is None:
        return "unknown"
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
