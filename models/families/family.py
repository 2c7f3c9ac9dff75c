"""The contract of every model: one fit for all targets and folds, missing labels left out for their target alone."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import numpy as np

from models.data.arrays import Floats, Ints
from models.data.features import Features
from models.data.folds import Folds, Held

Chosen = dict[str, Any]
Task = Literal["number", "class"]


class Epoch(NamedTuple):
    """A point of a learning curve: what the loss was over an epoch, and on the rows that decide when to stop.

    Attributes
    ----------
    epoch : 1 for the first. loss : mean over the epoch's batches, as they were learnt from: with dropout and augmentation.
    held_loss : afterwards, on the held rows. Both are squared errors in standard deviations of the target, or cross entropies.
    best : the epoch whose weights were kept.
    """

    epoch: int
    loss: float
    held_loss: float
    best: bool


class Where(NamedTuple):
    """What a fit is part of, for messages, progress and checkpoints; no number depends on it.

    Attributes
    ----------
    cell : name of the run. targets : name of each target. held : what is left out, as `fold 2`.
    folder : for checkpoints, or None for none. keys : of each target, hash of all that its numbers depend on.
    """

    cell: str = ""
    targets: tuple[str, ...] = ()
    held: str = ""
    folder: Path | None = None
    keys: tuple[str, ...] = ()

    def name(self, column: int) -> str:
        """Name a target and what is left out: `income, fold 2`."""
        target = self.targets[column] if column < len(self.targets) else f"target {column}"
        return f"{target}, {self.held}" if self.held else target


class CrossFit(NamedTuple):
    """Out-of-fold predictions.

    Attributes
    ----------
    predicted : (n_rows, n_targets), each row by a model that has not seen its fold; NaN for rows in no fold.
    nested : (n_rows, n_targets) or None, each row by a model that has seen neither its fold nor the fold before: what
        a stack may learn from when it is asked for the fold before.
    chosen : for each target, fold → the parameters chosen inside that fold's training rows.
    curves : for each target, fold → its learning curve; empty where nothing is learnt in epochs.
    """

    predicted: Floats
    nested: Floats | None
    chosen: list[dict[str, Chosen]]
    curves: Sequence[dict[str, list[Epoch]]] = ()


class Family:
    """A model of all targets at once; `get_params` and `set_params` are as scikit-learn's, so that its `clone` works.

    It is no scikit-learn estimator: to load that library takes a second, which a run with nothing to do should not wait.

    With the task `class` there is one target, and a column of Y for each of its classes: 1 where it is the row's, else 0.
    Every choice is then made once for all columns, by their errors together (for squares of shares: the Brier score), and
    predictions are probabilities: not below 0, and 1 in sum. A class that no training row has gets 0.

    Attributes
    ----------
    task : `number`, or `class`.
    chosen_ : for each target, the parameters chosen for it on the folds of the rows that it was fitted on.
    curves_ : for each target, its learning curve; only of what is learnt in epochs.
    where : what the fits are part of.
    revision : raised by one where the same parameters and rows come to give other numbers: what is on disk is then stale.
    """

    revision: int = 1
    task: Task = "number"
    where: Where = Where()
    chosen_: list[Chosen]
    curves_: Sequence[list[Epoch]] = ()

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return what the constructor was given; with `deep`, of a family inside too, as `family__n_jobs`."""
        kind: Any = type(self)
        found = {name: getattr(self, name) for name in _parameters(kind)}
        inside = {
            name: one.get_params()
            for name, one in found.items()
            if deep and isinstance(one, Family)
        }
        return found | {
            f"{name}__{key}": value
            for name, params in inside.items()
            for key, value in params.items()
        }

    def set_params(self, **params: Any) -> Self:
        """Set what the constructor takes, by the names of `get_params`.

        Raises
        ------
        ValueError : a name that is none of them.
        """
        known = self.get_params()
        for name, value in params.items():
            if name not in known:
                raise ValueError(
                    f"{type(self).__name__}: no parameter {name!r}; it has {', '.join(known)}"
                )
            owner, _, key = name.partition("__")
            if key:
                getattr(self, owner).set_params(**{key: value})
            else:
                setattr(self, owner, value)
        return self

    def fresh(self) -> Self:
        """Return an unfitted one with the same parameters."""
        params = self.get_params(deep=False)
        fresh = type(self)(
            **{k: v.fresh() if isinstance(v, Family) else v for k, v in params.items()}
        )
        fresh.where = self.where
        return fresh

    def __getstate__(self) -> dict[str, Any]:
        """Return what makes the model, as it is saved and copied: what it was fitted as part of is no part of it."""
        return {name: value for name, value in vars(self).items() if name != "where"}

    def check_loaded(self) -> None:
        """Check what a stranger may have written, before it is asked; raises ValueError."""

    @abstractmethod
    def fit(self, X: Features, Y: Floats, *, folds: Folds, weight: Floats) -> Self:
        """Fit every target.

        Parameters
        ----------
        X : (n_rows, n_features), finite.
        Y : (n_rows, n_targets); NaN where the label is missing, then for all classes of a target.
        folds : folds of these rows; every choice is made on them. There may be one alone: then nothing can be chosen.
        weight : (n_rows,), > 0, mean 1; how much each row counts.
        """

    @abstractmethod
    def predict(self, X: Features) -> Floats:
        """Predict every target: (n_rows, n_targets), finite."""

    def cross_fit(
        self, X: Features, Y: Floats, *, folds: Folds, weight: Floats, nested: bool = False
    ) -> CrossFit:
        """Predict every row by a model that has not seen its fold.

        The plain way, one fit a fold; families that can share work between folds do it in their own.

        Parameters
        ----------
        X, Y, folds, weight : as for `fit`, of all rows.
        nested : also give what a stack learns from (at least three folds).
        """
        predicted = np.full(Y.shape, np.nan)
        deeper = np.full(Y.shape, np.nan)
        chosen: list[dict[str, Chosen]] = [{} for _ in range(Y.shape[1])]
        curves: list[dict[str, list[Epoch]]] = [{} for _ in range(Y.shape[1])]
        for fold in folds.folds:
            fitted = self._fit_without(folds.parts_of(fold), X, Y, folds=folds, weight=weight)
            rows = folds.held(folds.parts_of(fold))
            predicted[rows] = fitted.predict(X.rows(rows))
            for t, one in enumerate(fitted.chosen_):
                chosen[t][str(fold)] = one
            for t, curve in enumerate(fitted.curves_):
                curves[t][str(fold)] = curve
            if nested:
                both = folds.parts_of(fold, folds.before(fold))
                deeper[rows] = self._fit_without(both, X, Y, folds=folds, weight=weight).predict(
                    X.rows(rows)
                )
        return CrossFit(predicted, deeper if nested else None, chosen, curves)

    def _fit_without(
        self, held: Held, X: Features, Y: Floats, *, folds: Folds, weight: Floats
    ) -> Self:
        rows = folds.training(held)
        fresh = self.fresh()
        out = sorted({part // folds.per_fold for part in held})
        fresh.where = self.where._replace(
            held=f"fold{'s' * (len(out) > 1)} {', '.join(map(str, out))}"
        )
        return fresh.fit(X.rows(rows), Y[rows], folds=folds.take(rows), weight=weight[rows])


@lru_cache
def _parameters(kind: Any) -> tuple[str, ...]:
    return tuple(inspect.signature(kind).parameters)


def as_probabilities(values: Floats, task: Task) -> Floats:
    """Return predictions of classes as probabilities; numbers are left as they are.

    Parameters
    ----------
    values : (n_rows, n_classes), predicted shares that sum to 1, of which some may be a little below 0 or above 1, as those
        of a linear model. Clipping at 0 leaves the largest where it is, so that the class that is predicted is the same.
    """
    if task == "number":
        return values
    shares = np.maximum(values, 0)
    return shares / shares.sum(axis=1, keepdims=True)


def labelled_groups(Y: Floats) -> Iterator[tuple[Ints, Ints]]:
    """Return (rows, columns) of the targets that share the same labelled rows, so that they can share work.

    Raises
    ------
    ValueError : a target without one label.
    """
    patterns, group = np.unique(~np.isnan(Y), axis=1, return_inverse=True)
    for g in range(patterns.shape[1]):
        rows = np.flatnonzero(patterns[:, g])
        columns = np.flatnonzero(group.ravel() == g)
        if not len(rows):
            raise ValueError(
                f"target {columns[0]}: no labelled tile among {len(Y)} training tiles; "
                "remove the target or fill in its column"
            )
        yield rows, columns
