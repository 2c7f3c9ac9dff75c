"""The predictions of many runs as one array: what scores and stacks are made from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from extract.errors import RunFileError
from models.data.arrays import Floats
from models.store.runs import read_prediction_table

Run = tuple[str, str, str]  # split, cut, model


def read_predicted(
    folder: Path,
    runs: Sequence[Run],
    ids: NDArray[Any],
    targets: list[str],
    *,
    is_nested: bool = False,
) -> NDArray[np.float32]:
    """Read the predictions of some runs: (n_targets, n_tiles, n_runs), NaN where a run says nothing.

    Parameters
    ----------
    ids : (n_tiles,), the order of the rows.
    is_nested : the nested predictions instead, from which a stack learns.

    Raises
    ------
    RunFileError : a run that is missing or damaged, or that predicts tiles which `ids` do not have.
    """
    predicted = np.full((len(targets), len(runs), len(ids)), np.nan, np.float32)
    index = pd.Index(ids)
    known = np.empty(0)
    rows = np.empty(0, np.int64)
    for r, run in enumerate(runs):
        for target, of_run, values in _by_target(folder, run, is_nested):
            if target not in targets:
                continue
            if not np.array_equal(of_run, known):
                known = of_run
                rows = index.get_indexer(of_run)
            if (rows < 0).any():
                raise RunFileError(
                    f"run {' '.join(run)}: predicts {int((rows < 0).sum())} tiles that the table does not have "
                    f"(first: {of_run[rows < 0][0]}). Run `make models` again."
                )
            predicted[targets.index(target), r, rows] = values
    return np.moveaxis(predicted, 1, 2)


def _by_target(
    folder: Path, run: Run, is_nested: bool
) -> Iterator[tuple[str, NDArray[Any], Floats]]:
    """Return target, ids and predictions of a run."""
    table = read_prediction_table(folder, *run, is_nested=is_nested).combine_chunks()
    names = table["target"].combine_chunks().dictionary.to_pylist()
    code = table["target"].combine_chunks().indices.to_numpy()
    ids = table["id"].to_numpy()
    values = table["prediction"].to_numpy()
    for i, name in enumerate(names):
        yield str(name), ids[code == i], values[code == i]
