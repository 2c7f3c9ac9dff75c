"""Every cell of one split and a target of classes: scores and intervals at both levels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from models.bootstrap import draw_units
from models.class_scores import bootstrap_classes, score_classes
from models.classes import code_labels, commonest
from models.family import Floats, Ints


class _Level(NamedTuple):
    name: str
    truth: Ints
    probability: Floats
    unit: Ints


def score_class_frame(frame: pd.DataFrame, labels: pd.Series[Any], *, area: Ints, unit: Ints, is_area: bool,
                      seed: int) -> Iterator[dict[str, Any]]:
    """Give level, n, scores and their intervals of one cell; nothing where no row has a label and a prediction.

    An area's class is the most frequent of its tiles, and its prediction their mean probabilities: areas count once.

    Parameters
    ----------
    frame : id and probability of the cell's tiles. labels : by id, the class of each tile of the table, None where missing.
    area, unit : (n_tiles,), of the rows of `labels`; a unit is what is drawn again: an area, or a block on the split `block`.
    is_area : a row of the model is an area, so that there is no score of tiles.
    seed : of the resamples.

    Raises
    ------
    ValueError : tiles that the labels do not have.
    """
    code = code_labels(labels)
    rows = pd.Index(labels.index).get_indexer(pd.Index(frame["id"]))
    if (rows < 0).any():
        raise ValueError(f"classes: {int((rows < 0).sum())} predicted tiles are not in the table. Run `make models` again.")
    probability = np.stack(frame["probability"].to_list()).astype(np.float64) if len(frame) else np.zeros((0, 1))
    is_known = (code[rows] >= 0) & np.isfinite(probability).all(axis=1)
    rows, probability = rows[is_known], probability[is_known]
    if not len(rows):
        return
    tiles = _Level("tile", code[rows], probability, _numbered(unit[rows]))
    for level in (*(() if is_area else (tiles,)), _by_area(tiles, _numbered(area[rows]))):
        counts = draw_units(int(level.unit.max()) + 1, seed)
        yield {"level": level.name, "n": len(level.truth), **score_classes(level.truth, level.probability),
               **bootstrap_classes(level.truth, level.probability, level.unit, counts)}


def _by_area(tiles: _Level, area: Ints) -> _Level:
    n, first = np.bincount(area), np.unique(area, return_index=True)[1]
    mean = np.column_stack([np.bincount(area, weights=p) / n for p in tiles.probability.T])
    return _Level("area", commonest(tiles.truth, area), mean, tiles.unit[first])


def _numbered(values: NDArray[Any]) -> Ints:
    """Number the values anew: 0 … n − 1."""
    return np.unique(values, return_inverse=True)[1].astype(np.int64).ravel()
