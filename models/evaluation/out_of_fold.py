"""The out-of-fold predictions of many runs as one array, which scores and stacks are made from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from extract.config.arrays import Array, Float32s, Floats, Ints
from extract.errors import RunFileError
from models.store.runs import has_classes_alone, read_classes, read_prediction_table

Run = tuple[str, str, str]  # split, cut, model


def read_predicted(
    folder: Path,
    runs: Sequence[Run],
    ids: Array,
    targets: list[str],
    *,
    is_nested: bool = False,
) -> Float32s:
    """Read the predicted numbers of some runs: (n_targets, n_tiles, n_runs), NaN where a run says
    nothing.

    Parameters
    ----------
    ids : (n_tiles,), the order of the rows.
    is_nested : the nested predictions instead, from which a stack learns.

    Raises
    ------
    RunFileError : a run that is missing or damaged, or that predicts tiles which `ids` do not have.
    """
    shape = (len(targets), len(runs), len(ids))
    predicted = np.full(shape, np.nan, np.float32)
    rows_of = _RowFinder(ids)
    position = {target: i for i, target in enumerate(targets)}
    for r, run in enumerate(runs):
        for target, of_run, values in _read_targets(folder, run, is_nested):
            if target in position:
                rows = rows_of(of_run, run)
                predicted[position[target], r, rows] = values
    return np.moveaxis(predicted, 1, 2)


def read_probabilities(
    folder: Path, runs: Sequence[Run], ids: Array, n_classes: dict[str, int]
) -> dict[str, Float32s]:
    """Read the predicted classes of some runs: target → (n_tiles, n_runs, n_classes), NaN where a
    run says nothing.

    Parameters
    ----------
    n_classes : target → number of its classes. `ids` and errors : as `read_predicted`.
    """
    predicted = {}
    for target, n in n_classes.items():
        shape = (len(ids), len(runs), n)
        predicted[target] = np.full(shape, np.nan, np.float32)
    rows_of = _RowFinder(ids)
    for r, run in enumerate(runs):
        frame = read_classes(folder, *run)
        names = frame["target"].astype(str)
        for target, array in predicted.items():
            of_target = frame[names == target]
            if of_target.empty:
                continue
            of_run = of_target["id"].to_numpy()
            rows = rows_of(of_run, run)
            shares = of_target["probability"].to_list()
            array[rows, r] = np.stack(shares)
    return predicted


class _RowFinder:
    """Finds the rows of ids; runs mostly have the same ones, so that the last answer is kept."""

    def __init__(self, ids: Array) -> None:
        self._index = pd.Index(ids)
        self._asked: Array = np.empty(0)
        self._rows: Ints = np.empty(0, np.int64)

    def __call__(self, ids: Array, run: Run) -> Ints:
        if not np.array_equal(ids, self._asked):
            self._asked = ids
            self._rows = self._index.get_indexer(pd.Index(ids))
        is_unknown = self._rows < 0
        unknown = ids[is_unknown]
        if len(unknown):
            raise RunFileError(
                f"run {' '.join(run)}: predicts {len(unknown)} tiles that the table does not have "
                f"(first: {unknown[0]}). Run `make models` again."
            )
        return self._rows


def _read_targets(folder: Path, run: Run, is_nested: bool) -> Iterator[tuple[str, Array, Floats]]:
    """Yield target, ids and predictions of a run."""
    if has_classes_alone(folder, *run):
        return
    table = read_prediction_table(folder, *run, is_nested=is_nested)
    table = table.combine_chunks()
    targets = table["target"].combine_chunks()
    code = targets.indices.to_numpy()
    ids = table["id"].to_numpy()
    values = table["prediction"].to_numpy()
    for i, name in enumerate(targets.dictionary.to_pylist()):
        is_row = code == i
        yield str(name), ids[is_row], values[is_row]
