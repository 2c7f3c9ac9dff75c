"""Predict how long the planned runs will take, from the runs in this folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from models.store.cells import Cell, Planned


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """Predicted seconds of the runs that have something to fit.

    Attributes
    ----------
    seconds : of each run; None where nothing like it was ever fitted in this folder.
    """

    seconds: dict[Cell, float | None]

    @property
    def unknown(self) -> list[str]:
        """Models without a recorded fitting time, each once."""
        return sorted({cell.model for cell, seconds in self.seconds.items() if seconds is None})

    def total(self, workers: int) -> float:
        """Return the seconds of the known runs, shared by workers; no less than the longest."""
        known = [seconds for seconds in self.seconds.values() if seconds is not None]
        return max(sum(known) / workers, max(known, default=0.0))


_LIKENESS: tuple[Callable[[Cell], object], ...] = (
    lambda cell: cell,
    lambda cell: (cell.cut, cell.model),
    lambda cell: cell.model,
    lambda cell: cell.spec.family,
)


def forecast(planned: list[Planned]) -> Forecast:
    """Predict the seconds of every run that has something to fit.

    A target is taken to cost what it did in the same run, whatever the parameters were then; else
    in runs of the same cut and model, of the same model, or of the same family.
    """
    fitted = [p for p in planned if p.took]
    seconds: dict[Cell, float | None] = {}
    for p in planned:
        if not p.missing:
            continue
        a_target = _find_seconds(p.cell, fitted)
        seconds[p.cell] = None
        if a_target is not None:
            seconds[p.cell] = a_target * len(p.missing)
    return Forecast(seconds=seconds)


def _find_seconds(cell: Cell, fitted: list[Planned]) -> float | None:
    """Return the mean seconds of a target in the runs that are most like a cell."""
    for likeness in _LIKENESS:
        wanted = likeness(cell)
        seconds: list[float] = []
        for p in fitted:
            if likeness(p.cell) == wanted:
                seconds += p.took.values()
        if seconds:
            return float(np.mean(seconds))
    return None
