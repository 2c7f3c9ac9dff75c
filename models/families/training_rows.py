"""Rows that models are fitted on: of all targets at once, and of one target."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np

from extract.config.arrays import Floats, Ints, Matrix
from models.data.features import Features
from models.data.folds import Folds

Task = Literal["number", "class"]


class TrainingRows(NamedTuple):
    """Rows that a model is fitted on.

    Attributes
    ----------
    X : (n_rows, n_features), finite.
    Y : (n_rows, n_targets); NaN where the label is missing, then for all classes of a target.
    weight : (n_rows,), > 0; how much each row counts.
    folds : folds of these rows, on which every choice is made; with one alone nothing is chosen.
    """

    X: Features
    Y: Floats
    weight: Floats
    folds: Folds

    def take(self, rows: Ints) -> TrainingRows:
        """Return some of the rows."""
        return TrainingRows(
            X=self.X.rows(rows),
            Y=self.Y[rows],
            weight=self.weight[rows],
            folds=self.folds.take(rows),
        )

    def split_labelled(self) -> Iterator[tuple[Ints, Ints, TrainingRows]]:
        """Yield (rows, columns, these rows with these targets), of `labelled_groups`.

        Raises
        ------
        ValueError : a target without one label.
        """
        for rows, columns in labelled_groups(self.Y):
            mine = self._replace(Y=self.Y[:, columns])
            yield rows, columns, mine.take(rows)


class TargetLabels(NamedTuple):
    """The rows that have the label of one target, and their labels; of classes their numbers."""

    rows: Ints
    y: Floats


class TargetRows(NamedTuple):
    """Rows that all have the label of one target: X (n, n_features), y and weight (n,)."""

    X: Matrix
    y: Floats
    weight: Floats
    folds: Folds

    def take(self, rows: Ints) -> TargetRows:
        """Return some of the rows."""
        return TargetRows(
            X=self.X[rows],
            y=self.y[rows],
            weight=self.weight[rows],
            folds=self.folds.take(rows),
        )


def take_labelled(data: TrainingRows, X: Matrix, labels: TargetLabels) -> TargetRows:
    """Return the rows that have the label of a target; X, the features, is not copied if all."""
    rows = labels.rows
    return TargetRows(
        X=X if len(rows) == len(X) else X[rows],
        y=labels.y,
        weight=data.weight[rows],
        folds=data.folds.take(rows),
    )


def labelled_groups(Y: Floats) -> Iterator[tuple[Ints, Ints]]:
    """Yield (rows, columns) of the targets that have labels in the same rows, to share their work.

    Raises
    ------
    ValueError : a target without one label.
    """
    is_known = ~np.isnan(Y)
    patterns, group = np.unique(is_known, axis=1, return_inverse=True)
    for number, pattern in enumerate(patterns.T):
        rows = np.flatnonzero(pattern)
        columns = np.flatnonzero(group.ravel() == number)
        if not len(rows):
            raise ValueError(
                f"target {columns[0]}: no labelled tile among {len(Y)} training tiles; "
                "remove the target or fill in its column"
            )
        yield rows, columns


def list_labels(Y: Floats, task: Task) -> list[TargetLabels]:
    """Return the labels of each target.

    Raises
    ------
    ValueError : a target without one label.
    """
    rows_of: dict[int, Ints] = {}
    for rows, columns in labelled_groups(Y):
        rows_of |= dict.fromkeys(columns.tolist(), rows)
    if task == "class":
        rows = rows_of[0]
        code = Y[rows].argmax(axis=1)
        return [TargetLabels(rows, code.astype(np.float64))]
    targets = sorted(rows_of)
    return [TargetLabels(rows_of[t], Y[rows_of[t], t]) for t in targets]
