"""Every cell of one split and its targets of classes: scores and intervals at both levels, and who beats whom."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from models.data.arrays import Floats, Ints
from models.data.classes import code_labels, commonest
from models.evaluation.bootstrap import draw_units
from models.evaluation.class_compare import Guess, Truth, measure_guesses
from models.evaluation.class_scores import bootstrap_classes, score_classes
from models.evaluation.evaluate import CellName
from models.evaluation.out_of_fold import Run
from models.evaluation.score_split import Row, Scored
from models.evaluation.verdicts import compare_cells
from models.store.runs import read_classes


class ClassLabels(NamedTuple):
    """The tiles of one split.

    Attributes
    ----------
    ids : (n_tiles,). classes : (n_tiles, n_targets), None where the label is missing.
    area, unit : (n_tiles,), number of each tile's area, and of what is drawn again: an area, or a block on the split `block`.
    """

    ids: NDArray[Any]
    classes: pd.DataFrame
    area: Ints
    unit: Ints


class ClassLevel(NamedTuple):
    """Rows of one level that have a label and a prediction."""

    name: str
    row: Ints  # which tile, or which area
    truth: Ints
    probability: Floats
    unit: Ints


def score_class_split(
    folder: Path, runs: Sequence[Run], labels: ClassLabels, *, seed: int
) -> Scored:
    """Score and compare every cell of the runs of one split on the targets that are classes.

    An area's class is the most frequent of its tiles, and its prediction their mean probabilities: areas count once.

    Raises
    ------
    ValueError : tiles that the labels do not have. RunFileError : a run that is missing or damaged.
    """
    scored = Scored()
    split = runs[0][0]
    codes = {str(t): code_labels(labels.classes[t]) for t in labels.classes}
    guesses: dict[str, list[Guess]] = {target: [] for target in codes}
    for _, cut, model in runs:
        cell = CellName(cut, model)
        frame = read_classes(folder, split, cut, model)
        for target in codes:
            levels = list_levels(frame[frame["target"] == target], labels, codes[target])
            if levels:
                scored.scores.extend(
                    {"split": split, "target": target, **row}
                    for row in _score(cell, levels, seed=seed)
                )
                guesses[target].append(build_guess(cell, levels, labels))
    for target, some in guesses.items():
        for one in (
            measure_guesses(some, Truth(codes[target], labels.area, labels.unit), seed=seed)
            if some
            else ()
        ):
            for rows, new in zip(
                (scored.comparisons, scored.winners), compare_cells(one), strict=True
            ):
                rows.extend({"split": split, "target": target, **row} for row in new)
    return scored


def list_levels(frame: pd.DataFrame, labels: ClassLabels, code: Ints) -> list[ClassLevel]:
    """Return the tiles that have a label and a prediction, and their areas; nothing where there are none."""
    rows = pd.Index(labels.ids).get_indexer(pd.Index(frame["id"]))
    if (rows < 0).any():
        raise ValueError(
            f"classes: {int((rows < 0).sum())} predicted tiles are not in the table. Run `make models` again."
        )
    probability = (
        np.stack(frame["probability"].to_list()).astype(np.float64)
        if len(frame)
        else np.zeros((0, 1))
    )
    is_known = (code[rows] >= 0) & np.isfinite(probability).all(axis=1)
    rows = rows[is_known]
    probability = probability[is_known]
    if not len(rows):
        return []
    areas, first, number = np.unique(labels.area[rows], return_index=True, return_inverse=True)
    n = np.bincount(number)
    mean = np.column_stack([np.bincount(number, weights=p) / n for p in probability.T])
    unit = labels.unit[rows]
    return [
        ClassLevel("tile", rows, code[rows], probability, _numbered(unit)),
        ClassLevel("area", areas, commonest(code[rows], number), mean, _numbered(unit[first])),
    ]


def _score(cell: CellName, levels: list[ClassLevel], *, seed: int) -> Iterator[Row]:
    for level in levels:
        if level.name == "area" or not cell.is_area:
            counts = draw_units(int(level.unit.max()) + 1, seed)
            yield {
                **cell._asdict(),
                "level": level.name,
                "n": len(level.truth),
                **score_classes(level.truth, level.probability),
                **bootstrap_classes(level.truth, level.probability, level.unit, counts),
            }


def build_guess(cell: CellName, levels: list[ClassLevel], labels: ClassLabels) -> Guess:
    """Return the likeliest class of each tile and area, from `list_levels`."""
    guessed = [np.full(n, -1, np.int64) for n in (len(labels.ids), int(labels.area.max()) + 1)]
    for some, level in zip(guessed, levels, strict=True):
        some[level.row] = level.probability.argmax(axis=1)
    return Guess(cell, *guessed)


def _numbered(values: NDArray[Any]) -> Ints:
    """Number the values anew: 0 … n − 1."""
    return np.unique(values, return_inverse=True)[1].astype(np.int64).ravel()
