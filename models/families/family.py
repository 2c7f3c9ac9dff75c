"""Base class of all models, which fit every target at once."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import numpy as np

from extract.config.arrays import Floats, Ints
from models.data.features import Features
from models.data.folds import Folds, Held

Chosen = dict[str, Any]
Task = Literal["number", "class"]


class Epoch(NamedTuple):
    """A point of a learning curve.

    The losses are squared errors in standard deviations of the target, or cross entropies.

    Attributes
    ----------
    epoch : 1 for the first.
    loss : mean over the epoch's batches in training, with dropout and augmentation.
    held_loss : after the epoch, on the rows that decide when to stop.
    best : whether this epoch's weights were kept.
    """

    epoch: int
    loss: float
    held_loss: float
    best: bool


class FitContext(NamedTuple):
    """What a fit is part of, for messages and checkpoints; no number depends on it.

    Attributes
    ----------
    cell : name of the run.
    targets : name of each target.
    held : what is left out, as `fold 2`.
    folder : of the experiment, for checkpoints; None for none.
    keys : for each target, hash of all that its numbers depend on.
    """

    cell: str = ""
    targets: tuple[str, ...] = ()
    held: str = ""
    folder: Path | None = None
    keys: tuple[str, ...] = ()

    def describe(self, column: int) -> str:
        """Return a target's name and what is left out: `income, fold 2`."""
        target = self.targets[column] if column < len(self.targets) else f"target {column}"
        return f"{target}, {self.held}" if self.held else target


NO_CONTEXT = FitContext()


class HeldOut(NamedTuple):
    """What a model that has not seen some parts of the folds gives.

    Attributes
    ----------
    predicted : (n_asked, n_targets).
    chosen : for each target, the parameters chosen inside the training rows.
    curves : for each target, its learning curve; empty where nothing is trained in epochs.
    """

    predicted: Floats
    chosen: list[Chosen]
    curves: Sequence[list[Epoch]] = ()


class CrossFit(NamedTuple):
    """Out-of-fold predictions.

    Attributes
    ----------
    predicted : (n_rows, n_targets), each row by a model that has not seen its fold; NaN for rows in
        no fold.
    nested : (n_rows, n_targets) or None, each row by a model that has seen neither its fold nor the
        fold before: a stack learns from them what it predicts the fold before with.
    chosen : for each target, fold → the parameters chosen inside that fold's training rows.
    curves : for each target, fold → its learning curve; empty where nothing is trained in epochs.
    """

    predicted: Floats
    nested: Floats | None
    chosen: list[dict[str, Chosen]]
    curves: Sequence[dict[str, list[Epoch]]] = ()


class Family:
    """A model of all targets at once, with scikit-learn's `get_params` and `set_params`.

    It is no scikit-learn estimator: importing that library takes a second, which a run with nothing
    to do should not wait.

    With the task `class` there is one target, and Y has a column for each of its classes: 1 where
    it is the row's, else 0. Every choice is then made once for all columns, by the sum of their
    errors (the Brier score), and predictions are probabilities. A class that no training row has
    gets 0.

    Attributes
    ----------
    tasks : what the family predicts. task : what this model predicts, `number` or `class`.
    chosen_ : for each target, the parameters chosen on the folds of the training rows.
    curves_ : for each target, its learning curve; only of what is trained in epochs.
    revision : raised by one where the same parameters and rows come to give other numbers: runs on
        disk are then stale.
    """

    revision: int = 1
    tasks: tuple[Task, ...] = ("number", "class")
    task: Task = "number"
    chosen_: list[Chosen]
    curves_: Sequence[list[Epoch]] = ()

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the constructor's parameters; with `deep`, also those of a family inside."""
        params = {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}
        inner = params.get("family")
        if deep and inner is not None:
            params |= {f"family__{name}": value for name, value in inner.get_params().items()}
        return params

    def set_params(self, **params: Any) -> Self:
        """Set parameters of the constructor, by the names of `get_params`.

        Raises
        ------
        ValueError : an unknown name.
        """
        known = self.get_params()
        for name, value in params.items():
            if name not in known:
                raise ValueError(
                    f"{type(self).__name__}: no parameter {name!r}; it has {', '.join(known)}"
                )
            owner, _, inner = name.rpartition("__")
            setattr(getattr(self, owner) if owner else self, inner, value)
        return self

    def fresh(self) -> Self:
        """Return an unfitted model with the same parameters."""
        params = self.get_params(deep=False)
        if "family" in params:
            params["family"] = params["family"].fresh()
        return type(self)(**params)

    def check_loaded(self) -> None:
        """Check a model that was read from a file before it is used; raises ValueError."""

    @abstractmethod
    def fit(
        self,
        X: Features,
        Y: Floats,
        *,
        folds: Folds,
        weight: Floats,
        context: FitContext = NO_CONTEXT,
    ) -> Self:
        """Fit every target.

        Parameters
        ----------
        X : (n_rows, n_features), finite.
        Y : (n_rows, n_targets); NaN where the label is missing, then for all classes of a target.
        folds : folds of these rows, on which every choice is made; with one alone nothing is
            chosen.
        weight : (n_rows,), > 0, mean 1; how much each row counts.
        context : what the fit is part of.
        """

    @abstractmethod
    def predict(self, X: Features) -> Floats:
        """Predict every target: (n_rows, n_targets), finite."""

    def slopes(self) -> Floats | None:
        """Return how much a unit of each column moves the predictions, summed over the targets:
        (n_features,); None where the model is not linear.
        """
        return None

    def cross_fit(
        self,
        X: Features,
        Y: Floats,
        *,
        folds: Folds,
        weight: Floats,
        nested: bool = False,
        context: FitContext = NO_CONTEXT,
    ) -> CrossFit:
        """Predict every row by a model that has not seen its fold.

        Parameters
        ----------
        X, Y, folds, weight, context : as for `fit`, of all rows.
        nested : also compute what a stack learns from (at least three folds).
        """
        n_targets = Y.shape[1]
        singles = {folds.parts_of(fold): fold for fold in folds.folds}
        pairs = {}
        if nested:
            pairs = {folds.parts_of(fold, folds.before(fold)): fold for fold in folds.folds}
        asked = {}
        for held, fold in (singles | pairs).items():
            asked[held] = folds.held(folds.parts_of(fold))
        predicted = np.full(Y.shape, np.nan)
        nested_predicted = np.full(Y.shape, np.nan)
        chosen: list[dict[str, Chosen]] = [{} for _ in range(n_targets)]
        curves: list[dict[str, list[Epoch]]] = [{} for _ in range(n_targets)]
        found = self.predict_held(X, Y, asked=asked, folds=folds, weight=weight, context=context)
        for held, out in found:
            if held in pairs:
                nested_predicted[asked[held]] = out.predicted
                continue
            predicted[asked[held]] = out.predicted
            fold_name = str(singles[held])
            for t, parameters in enumerate(out.chosen):
                chosen[t][fold_name] = parameters
            for t, curve in enumerate(out.curves):
                curves[t][fold_name] = curve
        return CrossFit(predicted, nested_predicted if nested else None, chosen, curves)

    def predict_held(
        self,
        X: Features,
        Y: Floats,
        *,
        asked: Mapping[Held, Ints],
        folds: Folds,
        weight: Floats,
        context: FitContext = NO_CONTEXT,
    ) -> Iterator[tuple[Held, HeldOut]]:
        """Yield what a model without each set of held parts gives, by one fit a set.

        Families that can share work between the sets override it.

        Parameters
        ----------
        X, Y, folds, weight, context : as for `fit`, of all rows.
        asked : parts to leave out → rows to predict without them.
        """
        for held, rows in asked.items():
            training = folds.training(held)
            fitted = self.fresh().fit(
                X.rows(training),
                Y[training],
                folds=folds.take(training),
                weight=weight[training],
                context=context._replace(held=_name_folds(held, folds)),
            )
            predicted = fitted.predict(X.rows(rows))
            yield held, HeldOut(predicted, fitted.chosen_, fitted.curves_)


def _name_folds(held: Held, folds: Folds) -> str:
    """Return the folds of some parts in words: `fold 2` or `folds 1, 2`."""
    numbers = sorted({part // folds.per_fold for part in held})
    noun = "fold" if len(numbers) == 1 else "folds"
    return f"{noun} {', '.join(map(str, numbers))}"


def as_probabilities(values: Floats, task: Task) -> Floats:
    """Return predictions of classes as probabilities; numbers are left as they are.

    Clipping at 0 leaves the largest share the largest, so that the predicted class is the same.

    Parameters
    ----------
    values : (n_rows, n_classes), shares that sum to 1, of which some may be outside of 0 … 1, as
        those of a linear model.
    """
    if task == "number":
        return values
    shares = np.maximum(values, 0)
    return shares / shares.sum(axis=1, keepdims=True)


def labelled_groups(Y: Floats) -> Iterator[tuple[Ints, Ints]]:
    """Yield (rows, columns) of the targets that have labels in the same rows, to share their work.

    Raises
    ------
    ValueError : a target without one label.
    """
    patterns, group = np.unique(~np.isnan(Y), axis=1, return_inverse=True)
    for number, pattern in enumerate(patterns.T):
        rows = np.flatnonzero(pattern)
        columns = np.flatnonzero(group.ravel() == number)
        if not len(rows):
            raise ValueError(
                f"target {columns[0]}: no labelled tile among {len(Y)} training tiles; "
                "remove the target or fill in its column"
            )
        yield rows, columns


def list_labels(Y: Floats, task: Task) -> list[tuple[Ints, Floats]]:
    """Return the labelled rows of each target, and their labels; of classes their numbers.

    Raises
    ------
    ValueError : a target without one label.
    """
    rows_of = {}
    for rows, columns in labelled_groups(Y):
        for column in columns.tolist():
            rows_of[column] = rows
    if task == "class":
        rows = rows_of[0]
        return [(rows, Y[rows].argmax(axis=1).astype(np.float64))]
    return [(rows_of[t], Y[rows_of[t], t]) for t in range(Y.shape[1])]
