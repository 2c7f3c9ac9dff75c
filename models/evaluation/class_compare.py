"""Which model of classes is really better: balanced accuracy, paired over the same resamples of areas or blocks."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.data.arrays import Floats, Ints
from models.data.classes import commonest
from models.evaluation.bootstrap import draw_units, sum_draws
from models.evaluation.compare import ENOUGH
from models.evaluation.evaluate import CellName
from models.evaluation.verdicts import Measured


class Guess(NamedTuple):
    """What one cell takes each row for: (n_tiles,) and (n_areas,), number of the likeliest class; −1 where it says nothing."""

    cell: CellName
    tile: Ints
    area: Ints


class Truth(NamedTuple):
    """Each (n_tiles,): number of the class, −1 where it is missing; number of the area, and of what is drawn again."""

    code: Ints
    area: Ints
    unit: Ints


class Counted(NamedTuple):
    """Rows of each unit and class: true (n_units, n_classes), and found by each cell (n_units, n_classes, n_cells)."""

    true: Floats
    found: Floats


def measure_guesses(guesses: list[Guess], truth: Truth, *, seed: int) -> list[Measured]:
    """Return balanced accuracy at both levels, on the tiles that all cells predict, and on the areas of which all see the same.

    `@area` models have no tiles. An area of which cells saw other tiles is left out: its class could differ between them.
    """
    known = np.column_stack([g.tile >= 0 for g in guesses]) & (truth.code >= 0)[:, None]
    of_tiles = [i for i, g in enumerate(guesses) if not g.cell.is_area]
    rows = np.flatnonzero(known[:, of_tiles].all(axis=1))
    measured = []
    if of_tiles and len(rows):
        guessed = np.column_stack([guesses[i].tile[rows] for i in of_tiles])
        measured.append(
            _measure(
                "tile",
                [guesses[i].cell for i in of_tiles],
                truth.code[rows],
                guessed,
                truth.unit[rows],
                seed,
            )
        )
    differs = known.any(axis=1) & ~known.all(axis=1)
    is_row = known.all(axis=1) & ~np.isin(truth.area, truth.area[differs])
    if is_row.any():
        areas, first, number = np.unique(truth.area[is_row], return_index=True, return_inverse=True)
        guessed = np.column_stack([g.area[areas] for g in guesses])
        measured.append(
            _measure(
                "area",
                [g.cell for g in guesses],
                commonest(truth.code[is_row], number),
                guessed,
                truth.unit[is_row][first],
                seed,
            )
        )
    return measured


def _measure(
    level: str, cells: list[CellName], code: Ints, guessed: NDArray[np.int64], unit: Ints, seed: int
) -> Measured:
    counted = count_found(code, guessed, np.unique(unit, return_inverse=True)[1])
    counts = draw_units(len(counted.true), seed)
    n_units, n_classes, n_cells = counted.found.shape

    def draw(weights: NDArray[np.generic]) -> Counted:
        drawn = sum_draws(weights, np.hstack([counted.true, counted.found.reshape(n_units, -1)]))
        return Counted(
            drawn[:, :n_classes], drawn[:, n_classes:].reshape(len(weights), n_classes, n_cells)
        )

    replicates = _balanced(draw(counts))

    def correct() -> float:
        left = draw(counts[:ENOUGH] == 0)
        chosen = np.argmax(replicates[:ENOUGH], axis=1)
        found = left.found[np.arange(len(chosen)), :, chosen].sum(axis=0)
        return float(_balanced(Counted(left.true.sum(axis=0)[None], found[None, :, None]))[0, 0])

    return Measured(
        level=level,
        score="balanced_accuracy",
        cells=cells,
        replicates=replicates,
        correct=correct,
        n=len(code),
        values=_balanced(Counted(counted.true.sum(axis=0)[None], counted.found.sum(axis=0)[None]))[
            0
        ],
        n_units=n_units,
    )


def count_found(code: Ints, guessed: NDArray[np.int64], unit: Ints) -> Counted:
    """Count true and found rows; code, unit : (n,); guessed : (n, n_cells)."""
    n_units = int(unit.max()) + 1
    n_classes = int(code.max()) + 1
    flat = unit * n_classes + code
    size = n_units * n_classes
    found = [
        np.bincount(flat[column == code], minlength=size).reshape(n_units, n_classes)
        for column in guessed.T
    ]
    true = np.bincount(flat, minlength=size).reshape(n_units, n_classes)
    return Counted(true.astype(np.float64), np.stack(found, axis=2).astype(np.float64))


def _balanced(counted: Counted) -> Floats:
    """Mean over the classes that occur of the share that is found: (n_replicates, n_cells); NaN where none occurs."""
    occurs = counted.true > 0
    share = counted.found / np.where(occurs, counted.true, 1)[:, :, None]
    n = occurs.sum(axis=1)[:, None].astype(np.float64)
    return np.divide(
        (share * occurs[:, :, None]).sum(axis=1),
        n,
        out=np.full((len(n), share.shape[2]), np.nan),
        where=n > 0,
    )
