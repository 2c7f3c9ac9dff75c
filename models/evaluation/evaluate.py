"""Cells on the same rows at one level: their scores, intervals and replicates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import numpy as np

from extract.config.arrays import Floats
from models.data.model_names import parse_model
from models.evaluation.bootstrap import (
    TAILS,
    Counts,
    Interval,
    UnitSums,
    bootstrap_scores,
    draw_units,
    sum_draws,
    sum_units,
)
from models.evaluation.class_scores import ClassSums, sum_classes
from models.evaluation.levels import Level
from models.evaluation.scores import score_columns
from models.evaluation.training_variance import TRAINING_VARIANCE, widen

Sees = Literal["none", "pictures", "pictures and groups"]
ENOUGH = 500  # replicates of a mean; the ends of an interval need more


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
        """Whether pictures are seen, alone or with the area descriptors."""
        spec = parse_model(self.model)
        if spec.is_baseline:
            return "none"
        if spec.groups:
            return "pictures and groups"
        return "pictures"

    @property
    def is_area(self) -> bool:
        """True where a row of the model is an area, so that there is no score of tiles."""
        return parse_model(self.model).area


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """Some cells at one level, scored on the same rows and drawn in the same resamples.

    Attributes
    ----------
    rows : what was scored. cells : name of each of n_cells. n_units : areas or blocks that were
        drawn.
    score : the score that ranks; greater is better. scores : every score and end of an interval →
        (n_cells,).
    replicates : (n_replicates, n_cells), the score that ranks in each resample.
    correct : computes what the best cell can be expected to keep where it was not chosen.
    training_variance : variance of a difference over data sets, beside that over the replicates.
    """

    rows: Level
    cells: list[CellName]
    score: Literal["r2", "balanced_accuracy"]
    scores: dict[str, Floats]
    replicates: Floats
    correct: Callable[[], float]
    n_units: int
    training_variance: float = TRAINING_VARIANCE

    @property
    def values(self) -> Floats:
        """The score that ranks: (n_cells,)."""
        return self.scores[self.score]


def evaluate_level(rows: Level, cells: list[CellName], *, seed: int) -> Evaluated:
    """Score every cell and resample its units; the same units and seed give the same resamples."""
    n_units = int(rows.unit.max()) + 1
    counts = draw_units(n_units, seed)
    if rows.predicted.ndim == 3:
        return _evaluate_classes(rows, cells, counts)
    return _evaluate_numbers(rows, cells, counts)


def _evaluate_numbers(rows: Level, cells: list[CellName], counts: Counts) -> Evaluated:
    sums = sum_units(rows.truth, rows.predicted, rows.unit)
    drawn = bootstrap_scores(sums, counts)
    scores = score_columns(rows.truth, rows.predicted, training_mean=rows.training_mean)
    scores["spearman"] = sums.rho
    intervals = {"r2": drawn.r2, "rmse": drawn.rmse, "spearman": drawn.spearman}
    for name, interval in intervals.items():
        _add_interval(scores, name, interval)
    return Evaluated(
        rows=rows,
        cells=cells,
        score="r2",
        scores=scores,
        replicates=drawn.r2_replicates,
        correct=partial(correct_r2, sums, counts, drawn.r2_replicates),
        n_units=counts.shape[1],
    )


def _evaluate_classes(rows: Level, cells: list[CellName], counts: Counts) -> Evaluated:
    n_units = counts.shape[1]
    predicted = np.moveaxis(rows.predicted, 1, 0)
    sums = [sum_classes(rows.truth, probability, rows.unit) for probability in predicted]
    every_unit = np.ones((1, n_units), dtype=np.uint16)
    observed = [one.draw(every_unit).scores() for one in sums]
    drawn = [one.draw(counts).scores() for one in sums]
    scores: dict[str, Floats] = {}
    for name in observed[0]:
        scores[name] = np.concatenate([one[name] for one in observed])
        ends = np.array([np.quantile(one[name], TAILS) for one in drawn])
        low, high = ends.T
        _add_interval(scores, name, Interval(low, high))
    replicates = np.column_stack([one["balanced_accuracy"] for one in drawn])
    return Evaluated(
        rows=rows,
        cells=cells,
        score="balanced_accuracy",
        scores=scores,
        replicates=replicates,
        correct=partial(correct_balanced_accuracy, sums, counts, replicates),
        n_units=n_units,
    )


def _add_interval(scores: dict[str, Floats], name: str, interval: Interval) -> None:
    widened = widen(interval, scores[name], name)
    scores[f"{name}_low"] = widened.low
    scores[f"{name}_high"] = widened.high


def correct_r2(sums: UnitSums, counts: Counts, replicates: Floats) -> float:
    """Compute the R² that the best cell can be expected to keep where it was not chosen.

    In each replicate the best cell is chosen on the units drawn, and scored on those left out; the
    errors of all replicates are set against their spread around the common mean.

    Returns
    -------
    NaN where no replicate leaves units out.

    References
    ----------
    Tsamardinos et al. 2018, Machine Learning 107:1895, doi:10.1007/s10994-018-5714-4 (bootstrap
    bias corrected cross-validation).
    """
    replicates = replicates[:ENOUGH]
    is_known = np.isfinite(replicates).all(axis=1)
    drawn = counts[:ENOUGH][is_known]
    is_left_out = drawn == 0
    chosen = np.argmax(replicates[is_known], axis=1)
    errors = sum_draws(is_left_out, sums.errors)
    replicate = np.arange(len(chosen))
    error = errors[replicate, chosen].sum()
    squares = sum_draws(is_left_out, sums.squares[:, None])
    total = squares.sum()
    if total > 0:
        return float(1 - error / total)
    return np.nan


def correct_balanced_accuracy(sums: list[ClassSums], counts: Counts, replicates: Floats) -> float:
    """Compute the balanced accuracy that the best cell can be expected to keep, as `correct_r2`."""
    chosen = np.argmax(replicates[:ENOUGH], axis=1)
    is_left_out = counts[:ENOUGH] == 0
    hits = np.stack([sum_draws(is_left_out, one.hits) for one in sums])
    replicate = np.arange(len(chosen))
    found = hits[chosen, replicate].sum(axis=0)
    drawn = sum_draws(is_left_out, sums[0].true)
    true = drawn.sum(axis=0)
    occurs = true > 0
    if not occurs.any():
        return np.nan
    recall = found[occurs] / true[occurs]
    return float(recall.mean())
