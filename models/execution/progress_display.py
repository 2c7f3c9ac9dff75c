"""What the terminal shows while models are fitted: cells done, runs at work, time left, the best so far of each target."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

import numpy as np
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from models.execution.forecast import Forecast
from models.execution.progress import Watch
from models.store.cells import Cell, Planned
from models.store.fitted import Fitted

_TRAINING = logging.getLogger("models.families.networks.training")
_DOING = {
    "score": "scoring",
    "keep": "keeping",
}  # stages that follow the fits, as the display names them


class Display(Watch):
    """A live table of the best of each target on the strictest split, and a bar under it; a context manager."""

    def __init__(self, console: Console, strictest: str) -> None:
        super().__init__()
        self._console = console
        self._strictest = strictest
        columns = (
            TextColumn("cells {task.fields[cells]}"),
            BarColumn(),
            TextColumn("{task.fields[left]}"),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
        )
        self._bar = Progress(*columns, console=console)
        self._task = self._bar.add_task("reading", total=None, cells="", left="")
        self._best: dict[str, tuple[float, Cell]] = {}
        self._waiting: list[Cell] = []
        self._doing = "scoring"
        self._expected: dict[Cell, float] = {}
        self._workers = 1
        self._n_cells = 0
        self._n_done = 0
        self._spent = 0.0
        self._planned = 0.0
        self._epochs = _Epochs(self._say)
        self._live = Live(self._bar, console=console, transient=True, refresh_per_second=4)

    def __enter__(self) -> Display:
        """Begin to show; epochs of trainings in this process too."""
        self._live.start()
        _TRAINING.addHandler(self._epochs)
        _TRAINING.setLevel(logging.INFO)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        """Clear what was shown."""
        _TRAINING.removeHandler(self._epochs)
        _TRAINING.setLevel(logging.NOTSET)
        self._live.stop()

    def note(self, text: str) -> None:
        """Print a line above the display, to stay."""
        self._console.print(text, soft_wrap=True, markup=False, highlight=False)

    def plan(self, planned: list[Planned], expected: Forecast, workers: int) -> None:
        """Take over what is to do, and the scores of what is done."""
        self._workers = workers
        self._expected = dict(expected.seconds)
        self._waiting = [p.cell for p in planned if p.missing]
        self._n_cells = sum(len(p.keys) for p in planned)
        self._n_done = sum(len(p.done) for p in planned)
        for p in planned:
            self._rank(
                p.cell,
                {
                    t: float(one["area_r2"])
                    for t, one in p.done.items()
                    if one.get("area_r2") is not None
                },
            )
        self._show()

    def finish(self, fitted: Fitted, area_r2: dict[str, float]) -> None:
        """Count a run, and rank its cells."""
        cell = fitted.plan.cell
        self._waiting.remove(cell)
        self._n_done += len(area_r2)
        self._spent = self._spent + fitted.seconds
        self._planned = self._planned + self._expected.pop(cell, 0.0)
        self._rank(cell, area_r2)
        self._show()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Show the name of a stage after the fits, for which there are no cells at work."""
        if name in _DOING:
            self._doing = _DOING[name]
            self._show()
        with super().stage(name):
            yield

    def progress(self, done: int, total: int) -> None:
        """Show how far it is."""
        self._bar.update(self._task, description=f"{self._doing} {done}/{total}")

    def _say(self, epoch: str) -> None:
        running = str(self._waiting[0]) if self._waiting else self._doing
        self._bar.update(self._task, description=f"{running}: {epoch}")

    def _rank(self, cell: Cell, area_r2: dict[str, float]) -> None:
        for target, r2 in area_r2.items() if cell.split == self._strictest else ():
            if np.isfinite(r2) and (target not in self._best or r2 > self._best[target][0]):
                self._best[target] = (r2, cell)

    def _show(self) -> None:
        running = ", ".join(str(cell) for cell in self._waiting[: self._workers]) or self._doing
        self._bar.update(
            self._task,
            total=self._n_cells,
            completed=self._n_done,
            description=running,
            cells=f"{self._n_done}/{self._n_cells}",
            left=self._name_left(),
        )
        table = Table("target", "best so far", "R² over areas", title=f"split {self._strictest}")
        for target, (r2, cell) in self._best.items():
            table.add_row(target, f"{cell.model} on {cell.cut}", f"{r2:.3f}")
        self._live.update(Group(table, self._bar) if self._best else self._bar)

    def _name_left(self) -> str:
        """Return the time left: what was predicted, held against what the finished runs took."""
        pace = self._spent / self._planned if self._planned else 1.0
        return (
            f"about {name_seconds(sum(self._expected.values()) * pace / self._workers)} left"
            if self._waiting
            else ""
        )


class _Epochs(logging.Handler):
    """Passes on what a training logs of an epoch."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__()
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        self._say(record.getMessage())


def name_seconds(seconds: float) -> str:
    """Write a duration as a person would."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
