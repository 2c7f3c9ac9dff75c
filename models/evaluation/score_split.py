"""Every cell of one split and target: scores and intervals at both levels, scores by tile count, and who beats whom."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.data.arrays import Floats, Ints
from models.evaluation.bootstrap import Bootstrap
from models.evaluation.evaluate import CellName, Evaluated, evaluate_level
from models.evaluation.levels import Level, LevelName, area_level, tile_level
from models.evaluation.scores import score_columns
from models.evaluation.verdicts import compare_cells, measure_r2

Row = dict[str, Any]
BY_TILES_COLUMNS = ("split", "cut", "model", "target", "tiles_low", "tiles_high", "n", "rmse", "r2")
TILE_BINS = ((1, 1), (2, 4), (5, 9), (10, 19), (20, None))  # tiles of an area, both ends included


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """The tiles of one split and target.

    Attributes
    ----------
    truth : (n,), NaN where the label is missing. area : (n,), number of each tile's area.
    unit : (n,), number of what is drawn again: areas, or blocks on the split `block`.
    training_mean : (n,), mean label of the rows that the models of the tile's fold were trained on.
    """

    truth: Floats
    area: Ints
    unit: Ints
    training_mean: Floats


@dataclass(frozen=True, slots=True)
class Scored:
    """Rows for `scores.csv`, `scores_by_tiles.csv`, `comparisons.csv` and `winners.csv`."""

    scores: list[Row] = field(default_factory=list)
    by_tiles: list[Row] = field(default_factory=list)
    comparisons: list[Row] = field(default_factory=list)
    winners: list[Row] = field(default_factory=list)


def score_split(
    labelled: Labelled, predicted: NDArray[np.float32], cells: list[CellName], *, seed: int
) -> Scored:
    """Score and compare every cell of one split and target.

    A cell is scored on its own rows: those with a label and its prediction. Cells are compared on the rows that all of them
    have. A cell without any such row is left out.

    Parameters
    ----------
    predicted : (n, n_cells), NaN where a cell says nothing. cells : name of each column. seed : of the resamples.

    Raises
    ------
    ValueError : shapes that differ.
    """
    if predicted.shape != (len(labelled.truth), len(cells)):
        raise ValueError(
            f"predictions: expected {(len(labelled.truth), len(cells))}, tiles × cells; got {predicted.shape}"
        )
    known = np.isfinite(predicted) & np.isfinite(labelled.truth)[:, None]
    columns = np.flatnonzero(known.any(axis=0))
    scored = Scored()
    groups = [
        _evaluate(labelled, predicted, known[:, which[0]], which, cells, seed=seed)
        for which in _same_rows(known, columns)
    ]
    for group in groups:
        for one in group.values():
            _score_level(scored, one)
    if len(groups) > 1:
        is_shared = np.logical_and.reduce(known[:, columns], axis=1)
        groups = (
            [_evaluate(labelled, predicted, is_shared, columns, cells, seed=seed)]
            if is_shared.any()
            else []
        )
    for one in groups[0].values() if groups else ():
        rows, winners = compare_cells(measure_r2(one))
        scored.comparisons.extend(rows)
        scored.winners.extend(winners)
    return scored


def _same_rows(known: NDArray[np.bool_], columns: Ints) -> Iterator[Ints]:
    """Return the columns that have the same rows, together."""
    if len(columns):
        group = np.unique(np.packbits(known[:, columns], axis=0), axis=1, return_inverse=True)[
            1
        ].ravel()
        for g in range(int(group.max()) + 1):
            yield columns[group == g]


def _evaluate(
    labelled: Labelled,
    predicted: NDArray[np.float32],
    is_row: NDArray[np.bool_],
    columns: Ints,
    cells: list[CellName],
    *,
    seed: int,
) -> dict[LevelName, Evaluated]:
    """Score some cells on some rows at each level; `@area` models have no tiles."""
    names = [cells[c] for c in columns]
    tiles = tile_level(
        labelled.truth[is_row],
        predicted[np.ix_(is_row, columns)],
        area=labelled.area[is_row],
        unit=labelled.unit[is_row],
        training_mean=labelled.training_mean[is_row],
    )
    of_tiles = [i for i, name in enumerate(names) if not name.is_area]
    evaluated: dict[LevelName, Evaluated] = {}
    if of_tiles:
        evaluated["tile"] = evaluate_level(
            tiles.cells(of_tiles), [names[i] for i in of_tiles], seed=seed
        )
    return evaluated | {"area": evaluate_level(area_level(tiles), names, seed=seed)}


def _score_level(scored: Scored, one: Evaluated) -> None:
    values = {**one.scores, "spearman": one.sums.rho, **_ends(one.drawn)}
    for i, cell in enumerate(one.cells):
        row = {**cell._asdict(), "level": one.level.name, "n": len(one.level.truth)}
        scored.scores.append(row | {name: float(value[i]) for name, value in values.items()})
    if one.level.name == "area":
        scored.by_tiles.extend(_by_tiles(one.level, one.cells))


def _ends(drawn: Bootstrap) -> dict[str, Floats]:
    intervals = {"r2": drawn.r2, "rmse": drawn.rmse, "spearman": drawn.spearman}
    return {
        f"{name}_{end}": values
        for name, interval in intervals.items()
        for end, values in interval._asdict().items()
    }


def _by_tiles(level: Level, cells: list[CellName]) -> Iterator[Row]:
    """Score the areas that have few tiles, and those that have many, apart."""
    for low, high in TILE_BINS:
        is_in = (level.n_tiles >= low) & (level.n_tiles <= (high or np.inf))
        values = (
            score_columns(level.truth[is_in], level.predicted[is_in], training_mean=None)
            if is_in.any()
            else {}
        )
        for i, cell in enumerate(cells):
            yield {
                **cell._asdict(),
                "tiles_low": low,
                "tiles_high": high,
                "n": int(is_in.sum()),
                **{name: float(values[name][i]) if values else np.nan for name in ("rmse", "r2")},
            }
