"""Every cell of one split and target: scores and intervals at both levels, scores by tile count,
and comparisons.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields

import numpy as np

from extract.config.arrays import Array, Bools, Float32s, Floats, Ints
from models.evaluation.comparisons import Row, compare_cells
from models.evaluation.evaluate import CellName, Evaluated, evaluate_level
from models.evaluation.levels import Level, area_level, tile_level
from models.evaluation.scores import score_columns

BY_TILES_COLUMNS = ("split", "cut", "model", "target", "tiles_low", "tiles_high", "n", "rmse", "r2")
TILE_BINS = ((1, 1), (2, 4), (5, 9), (10, 19), (20, None))  # tiles of an area, both ends included


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """The tiles of one split and target.

    Attributes
    ----------
    truth : (n,), NaN where the label is missing; of classes their numbers, −1 where it is missing.
    area : (n,), number of each tile's area.
    unit : (n,), number of what a resample draws: areas, or blocks on the split `block`.
    training_mean : (n,), mean label of the rows that the models of the tile's fold were trained on;
        None for classes.
    """

    truth: Array
    area: Ints
    unit: Ints
    training_mean: Floats | None = None

    @property
    def is_labelled(self) -> Bools:
        """(n,), whether the label is known."""
        if self.truth.dtype.kind == "i":
            return self.truth >= 0
        return np.isfinite(self.truth)

    def tiles(self, is_row: Bools, predicted: Array) -> Level:
        """Return some rows, with what cells predict of them."""
        training_mean = self.training_mean
        if training_mean is not None:
            training_mean = training_mean[is_row]
        return tile_level(
            self.truth[is_row],
            predicted,
            area=self.area[is_row],
            unit=self.unit[is_row],
            training_mean=training_mean,
        )


@dataclass(frozen=True, slots=True)
class Scored:
    """Rows for `scores.csv`, `scores_by_tiles.csv`, `comparisons.csv` and `winners.csv`."""

    scores: list[Row] = field(default_factory=list)
    by_tiles: list[Row] = field(default_factory=list)
    comparisons: list[Row] = field(default_factory=list)
    winners: list[Row] = field(default_factory=list)

    def extend(self, more: Scored, **columns: str) -> None:
        """Append the rows of another, each with some columns more."""
        for field_ in fields(self):
            mine = getattr(self, field_.name)
            theirs = getattr(more, field_.name)
            mine.extend({**columns, **row} for row in theirs)


def score_split(
    labelled: Labelled, predicted: Float32s, cells: list[CellName], *, seed: int
) -> Scored:
    """Score and compare every cell of one split and target.

    A cell is scored on its own rows: those with a label and its prediction. Cells are compared on
    the rows that all of them have. A cell without any such row is left out. An area's class is the
    most frequent of its tiles.

    Parameters
    ----------
    predicted : (n, n_cells), or of classes (n, n_cells, n_classes) probabilities; NaN where a cell
        says nothing.
    cells : name of each column. seed : of the resamples.

    Raises
    ------
    ValueError : shapes that differ.
    """
    expected = (len(labelled.truth), len(cells))
    shape = predicted.shape[:2]
    if shape != expected:
        raise ValueError(f"predictions: expected {expected}, tiles × cells; got {shape}")
    is_predicted = np.isfinite(predicted)
    if predicted.ndim == 3:
        is_predicted = np.all(is_predicted, axis=2)
    known = is_predicted & labelled.is_labelled[:, None]
    has_rows = known.any(axis=0)
    columns = np.flatnonzero(has_rows)
    scored = Scored()
    shared: list[Evaluated] = []
    groups = _group_same_rows(known, columns)
    for group in groups:
        first = group[0]
        shared = _evaluate(labelled, predicted, known[:, first], group, cells, seed=seed)
        for evaluated in shared:
            _add_scores(scored, evaluated)
    if len(groups) > 1:
        is_shared = np.all(known[:, columns], axis=1)
        shared = _evaluate(labelled, predicted, is_shared, columns, cells, seed=seed)
    for evaluated in shared:
        rows, winners = compare_cells(evaluated)
        scored.comparisons.extend(rows)
        scored.winners.extend(winners)
    return scored


def _group_same_rows(known: Bools, columns: Ints) -> list[Ints]:
    """Group the columns that have the same rows."""
    groups: dict[bytes, list[int]] = {}
    for column in columns.tolist():
        rows = known[:, column].tobytes()
        groups.setdefault(rows, []).append(column)
    return [np.array(group) for group in groups.values()]


def _evaluate(
    labelled: Labelled,
    predicted: Float32s,
    is_row: Bools,
    columns: Ints,
    cells: list[CellName],
    *,
    seed: int,
) -> list[Evaluated]:
    """Evaluate some cells on some rows at each level; `@area` models have no tiles."""
    if not is_row.any():
        return []
    names = [cells[column] for column in columns]
    some = predicted[np.ix_(is_row, columns)]
    tiles = labelled.tiles(is_row, some)
    of_areas = evaluate_level(area_level(tiles), names, seed=seed)
    with_tiles = [i for i, name in enumerate(names) if not name.is_area]
    if not with_tiles:
        return [of_areas]
    names = [names[i] for i in with_tiles]
    of_tiles = evaluate_level(tiles.cells(with_tiles), names, seed=seed)
    return [of_tiles, of_areas]


def _add_scores(scored: Scored, evaluated: Evaluated) -> None:
    rows = evaluated.rows
    n = len(rows.truth)
    for i, cell in enumerate(evaluated.cells):
        row = {
            "cut": cell.cut,
            "model": cell.model,
            "level": rows.name,
            "n": n,
        }
        for name, values in evaluated.scores.items():
            row[name] = float(values[i])
        scored.scores.append(row)
    if rows.name == "area" and evaluated.score == "r2":
        by_tiles = _score_by_tiles(rows, evaluated.cells)
        scored.by_tiles.extend(by_tiles)


def _score_by_tiles(rows: Level, cells: list[CellName]) -> Iterator[Row]:
    """Score areas of few tiles and areas of many apart."""
    nothing = np.full(len(cells), np.nan)
    for low, high in TILE_BINS:
        is_in = rows.n_tiles >= low
        if high is not None:
            is_in &= rows.n_tiles <= high
        values = {"rmse": nothing, "r2": nothing}
        if is_in.any():
            truth = rows.truth[is_in]
            values = score_columns(truth, rows.predicted[is_in], training_mean=None)
        for i, cell in enumerate(cells):
            yield {
                "cut": cell.cut,
                "model": cell.model,
                "tiles_low": low,
                "tiles_high": high,
                "n": np.count_nonzero(is_in),
                "rmse": float(values["rmse"][i]),
                "r2": float(values["r2"][i]),
            }
