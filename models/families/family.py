"""Base class of all models, which fit every target at once."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from extract.config.arrays import Floats, Ints
from models.data.features import Features
from models.data.folds import Folds, Held
from models.families.fit_results import Chosen, CrossFit, Epoch, HeldOut
from models.families.training_rows import Task, TrainingRows


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


class Family:
    """A model of all targets at once, with scikit-learn's `get_params` and `set_params`.

    It is no scikit-learn estimator: importing that library takes a second, which a run with nothing
    to do should not wait.

    A family says how it is fitted in `fit_rows`, and how it predicts in `predict`.

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
        names = inspect.signature(type(self)).parameters
        params = {name: getattr(self, name) for name in names}
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
            family = getattr(self, owner) if owner else self
            setattr(family, inner, value)
        return self

    def fresh(self) -> Self:
        """Return an unfitted model with the same parameters."""
        params = self.get_params(deep=False)
        if "family" in params:
            params["family"] = params["family"].fresh()
        return type(self)(**params)

    def check_loaded(self) -> None:
        """Check a model that was read from a file before it is used; raises ValueError."""

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
        X, Y, weight, folds : as of `TrainingRows`.
        context : what the fit is part of.

        Raises
        ------
        ValueError : a target without one label, or what `fit_rows` of the family raises.
        """
        self.fit_rows(TrainingRows(X, Y, weight, folds), context)
        return self

    @abstractmethod
    def fit_rows(self, data: TrainingRows, context: FitContext) -> None:
        """Fit every target on some rows; what every family does in its own way."""

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
        data = TrainingRows(X, Y, weight, folds)
        singles = {folds.parts_of(fold): fold for fold in folds.folds}
        pairs = {}
        if nested:
            pairs = {folds.parts_of(fold, folds.before(fold)): fold for fold in folds.folds}
        asked = {}
        for held, fold in (singles | pairs).items():
            asked[held] = folds.held(folds.parts_of(fold))
        out = _empty_cross_fit(Y.shape)
        nested_predicted = np.full(Y.shape, np.nan)
        for held, found in self.predict_held(data, asked, context):
            if held in pairs:
                nested_predicted[asked[held]] = found.predicted
                continue
            out.predicted[asked[held]] = found.predicted
            fold_name = str(singles[held])
            for t, parameters in enumerate(found.chosen):
                out.chosen[t][fold_name] = parameters
            for t, curve in enumerate(found.curves):
                out.curves[t][fold_name] = curve
        return out._replace(nested=nested_predicted) if nested else out

    def predict_held(
        self, data: TrainingRows, asked: Mapping[Held, Ints], context: FitContext
    ) -> Iterator[tuple[Held, HeldOut]]:
        """Yield what a model without each set of held parts gives, by one fit a set.

        Families that can share work between the sets override it.

        Parameters
        ----------
        data : all rows. asked : parts to leave out → rows to predict without them.
        """
        folds = data.folds
        for held, rows in asked.items():
            training = data.take(folds.training(held))
            fitted = self.fresh()
            fitted.fit_rows(training, context._replace(held=_name_folds(held, folds)))
            predicted = fitted.predict(data.X.rows(rows))
            yield held, HeldOut(predicted, fitted.chosen_, fitted.curves_)


def _empty_cross_fit(shape: tuple[int, ...]) -> CrossFit:
    """Return what predictions of (n_rows, n_targets) are written into."""
    n_targets = shape[1]
    return CrossFit(
        predicted=np.full(shape, np.nan),
        nested=None,
        chosen=[{} for _ in range(n_targets)],
        curves=[{} for _ in range(n_targets)],
    )


def _name_folds(held: Held, folds: Folds) -> str:
    """Return the folds of some parts in words: `fold 2` or `folds 1, 2`."""
    numbers = sorted({part // folds.per_fold for part in held})
    noun = "fold" if len(numbers) == 1 else "folds"
    listed = ", ".join(map(str, numbers))
    return f"{noun} {listed}"


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
