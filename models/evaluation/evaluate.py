"""Cells on the same rows at one level, scored and resampled once, for all that is said about them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from models.data.arrays import Floats
from models.evaluation.bootstrap import (
    Bootstrap,
    Counts,
    UnitSums,
    bootstrap_scores,
    draw_units,
    sum_units,
)
from models.evaluation.levels import Level
from models.evaluation.scores import score_columns
from models.families.registry import parse_model

Sees = Literal["none", "pictures", "pictures and groups"]


class CellName(NamedTuple):
    """A cell within one split and target."""

    cut: str
    model: str

    @property
    def is_baseline(self) -> bool:
        """True where no picture is seen through a network."""
        return parse_model(self.model).is_baseline

    @property
    def sees(self) -> Sees:
        """Return whether pictures are seen, alone or with the area descriptors."""
        spec = parse_model(self.model)
        return "none" if spec.is_baseline else "pictures and groups" if spec.groups else "pictures"

    @property
    def is_area(self) -> bool:
        """True where a row of the model is an area, so that there is no score of tiles."""
        return parse_model(self.model).area


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """Some cells at one level, on the same rows.

    Attributes
    ----------
    cells : name of each of n_cells. scores : name of the score → (n_cells,).
    counts : the resamples that the intervals are made from.
    """

    level: Level
    cells: list[CellName]
    scores: dict[str, Floats]
    sums: UnitSums
    counts: Counts
    drawn: Bootstrap


def evaluate_level(level: Level, cells: list[CellName], *, seed: int) -> Evaluated:
    """Score every cell and draw its units again; the same units and seed give the same resamples."""
    sums = sum_units(level.truth, level.predicted, level.unit)
    counts = draw_units(len(sums.n), seed)
    return Evaluated(
        level=level,
        cells=cells,
        sums=sums,
        counts=counts,
        drawn=bootstrap_scores(sums, counts),
        scores=score_columns(level.truth, level.predicted, training_mean=level.training_mean),
    )
