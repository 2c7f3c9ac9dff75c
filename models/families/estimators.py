"""Any estimator with scikit-learn's `fit` and `predict`, named in the settings, as a family."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self

import joblib
import numpy as np

from extract.config.arrays import Float32s, Floats, Ints, Matrix
from extract.errors import RooflineError
from models.data.features import Features
from models.data.folds import Folds
from models.families.estimator_classes import build_estimator
from models.families.estimator_forms import FittedTarget, write_fitted
from models.families.family import NO_CONTEXT, Chosen, Family, FitContext, Task, list_labels


class Rows(NamedTuple):
    """Rows with the labels of one target, all known: X (n, n_features), y and weight (n,)."""

    X: Matrix
    y: Floats
    weight: Floats

    def take(self, rows: Ints) -> Rows:
        """Return some of the rows."""
        return Rows(self.X[rows], self.y[rows], self.weight[rows])


class Estimator(Family):
    """One estimator a target, fitted on the rows that have its label.

    Each combination of `grid` is fitted on the inner folds of the training rows. The one with the
    lowest mean over the folds of the mean squared error, or of classes with the highest balanced
    accuracy, is fitted on all of them, as `sklearn.model_selection.GridSearchCV` does. A
    classifier without `predict_proba` gets probabilities by Platt's scaling on the inner folds
    (`sklearn.calibration.CalibratedClassifierCV`).

    Parameters
    ----------
    estimator : class for numbers, as `sklearn.svm.SVR`; empty for none.
    classes : class for targets that are classes; empty for none.
    params : of its constructor. grid : parameter → the values that are tried.
    scale : standardise features by mean and standard deviation of the training rows.
    n_jobs : threads, for targets side by side, and each estimator's `n_jobs`.
    seed : the estimator's `random_state`, where it has one and `params` does not name it.
    """

    revision = 1

    def __init__(
        self,
        estimator: str = "",
        classes: str = "",
        params: Mapping[str, Any] | None = None,
        grid: Mapping[str, Sequence[Any]] | None = None,
        scale: bool = False,
        n_jobs: int = -1,
        seed: int = 0,
        task: Task = "number",
    ) -> None:
        self.estimator = estimator
        self.classes = classes
        self.params = params
        self.grid = grid
        self.scale = scale
        self.n_jobs = n_jobs
        self.seed = seed
        self.task = task

    @property
    def class_name(self) -> str:
        """The class that the task asks for."""
        return self.classes if self.task == "class" else self.estimator

    def fit(
        self,
        X: Features,
        Y: Floats,
        *,
        folds: Folds,
        weight: Floats,
        context: FitContext = NO_CONTEXT,
    ) -> Self:
        """Choose the parameters of each target, and fit its estimator.

        Raises
        ------
        ValueError : the estimator refuses its parameters or these rows.
        """
        labels = list_labels(Y, self.task)
        self.n_outputs_ = Y.shape[1]
        matrix = X.array()
        threads = self.n_jobs if self.n_jobs > 0 else joblib.cpu_count()
        beside = min(threads, len(labels))
        jobs = [
            joblib.delayed(self._fit_target)(matrix, known, y, weight, folds, threads // beside)
            for known, y in labels
        ]
        fitted = joblib.Parallel(n_jobs=beside, require="sharedmem")(jobs)
        self.fitted_: list[FittedTarget] = [one for one, _ in fitted]
        self.chosen_ = [chosen for _, chosen in fitted]
        return self

    def _fit_target(
        self, X: Matrix, known: Ints, y: Floats, weight: Floats, folds: Folds, threads: int
    ) -> tuple[FittedTarget, Chosen]:
        from sklearn.model_selection import ParameterGrid

        if len(known) < len(X):
            X = X[known]
        rows = Rows(X, y, weight[known])
        splits = list(folds.take(known).splits())
        candidates: list[Chosen] = list(ParameterGrid(dict(self.grid or {})))
        chosen = candidates[0]
        if len(candidates) > 1 and splits:
            losses = np.zeros(len(candidates))
            for train, held in splits:
                rows_of_fold = rows.take(train)
                asked = rows.take(held)
                for i, candidate in enumerate(candidates):
                    one = self._fit_rows(rows_of_fold, candidate, threads)
                    losses[i] += self._measure_loss(one, asked)
            chosen = candidates[int(losses.argmin())]
        return self._fit_rows(rows, chosen, threads, calibrated_on=splits), chosen

    def _fit_rows(
        self,
        rows: Rows,
        chosen: Chosen,
        threads: int,
        calibrated_on: Sequence[tuple[Ints, Ints]] = (),
    ) -> FittedTarget:
        """Fit an estimator.

        Parameters
        ----------
        calibrated_on : splits of the rows for the probabilities of a classifier that has none.
        """
        params = {**(self.params or {}), **chosen}
        estimator = build_estimator(self.class_name, params, seed=self.seed, threads=threads)
        empty = np.zeros(0, np.float32)
        mean = empty
        scale = empty
        X = rows.X
        y: Floats | Ints = rows.y
        codes = np.zeros(0, np.int64)
        if self.scale:
            mean, scale = _measure_scales(X)
            X = (X - mean) / scale
        if self.task == "class":
            found, y = np.unique(y, return_inverse=True)
            codes = found.astype(np.int64)
            if len(codes) == 1:
                return FittedTarget(None, codes, mean, scale)
            if calibrated_on and not hasattr(estimator, "predict_proba"):
                usable = [split for split in calibrated_on if len(np.unique(y[split[0]])) > 1]
                if not usable:
                    raise ValueError(
                        f"{self.class_name} has no predict_proba, and without any one fold the "
                        "training rows have one class alone, so that it cannot be calibrated. Name "
                        "a classifier with probabilities, or lower folds in [models]."
                    )
                estimator = _calibrate(estimator, usable)
        is_weighted = bool((rows.weight != rows.weight[0]).any())
        given = {"sample_weight": rows.weight} if is_weighted else {}
        with self._name_errors():
            estimator.fit(X, y, **given)
        return FittedTarget(estimator, codes, mean, scale)

    def _measure_loss(self, one: FittedTarget, rows: Rows) -> float:
        """Return the mean squared error, or one less the balanced accuracy."""
        predicted = self._predict_labels(one, rows.X)
        if self.task == "number":
            return float(np.average((predicted - rows.y) ** 2, weights=rows.weight))
        is_right = predicted == rows.y
        recalls = []
        for code in np.unique(rows.y):  # scikit-learn warns of each class that no held row has
            mine = rows.y == code
            recalls.append(np.average(is_right[mine], weights=rows.weight[mine]))
        return 1 - float(np.mean(recalls))

    def _predict_labels(self, one: FittedTarget, X: Matrix) -> Floats:
        """Predict numbers, or the codes of classes: (n_rows,)."""
        if one.estimator is None:
            return np.full(len(X), float(one.codes[0]))
        with self._name_errors():
            predicted = np.asarray(one.estimator.predict(_standardise(one, X))).reshape(len(X))
        if self.task == "class":
            predicted = one.codes[predicted.astype(np.int64)]
        return predicted.astype(np.float64)

    def _predict_shares(self, one: FittedTarget, X: Matrix) -> Floats:
        """Predict the probability of each class: (n_rows, n_classes)."""
        shares = np.zeros((len(X), self.n_outputs_))
        if one.estimator is None:
            shares[:, one.codes] = 1.0
            return shares
        with self._name_errors():
            predicted = np.asarray(one.estimator.predict_proba(_standardise(one, X)))
        shares[:, one.codes] = predicted
        return shares

    def predict(self, X: Features) -> Floats:
        """Predict every target, or the probability of every class: (n_rows, n_targets).

        Raises
        ------
        ValueError : the estimator fails, or predicts NaN or infinity.
        """
        out = np.zeros((len(X), self.n_outputs_))
        for rows, piece in X.chunks():
            if self.task == "class":
                out[rows] = self._predict_shares(self.fitted_[0], piece)
                continue
            for t, one in enumerate(self.fitted_):
                out[rows, t] = self._predict_labels(one, piece)
        if not np.isfinite(out).all():
            raise ValueError(f"{self.class_name}: predicted NaN or infinity")
        return out

    @contextmanager
    def _name_errors(self) -> Iterator[None]:
        """Give an error of the estimator its name; one line of what it says."""
        try:
            yield
        except (RooflineError, MemoryError):
            raise
        except Exception as error:  # code of others can fail in any way
            said = " ".join(str(error).split())
            raise ValueError(f"{self.class_name}: {type(error).__name__}: {said}") from error

    def save(self, folder: Path) -> None:
        """Write the estimators in a form that runs no code when it is read."""
        facts = {
            "params": self.get_params(),
            "chosen": self.chosen_,
            "n_outputs": self.n_outputs_,
        }
        write_fitted(folder, self.class_name, self.fitted_, facts)


def _measure_scales(X: Matrix) -> tuple[Float32s, Float32s]:
    """Return mean and standard deviation of each feature, 1 where it is constant."""
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(X)
    return scaler.mean_.astype(np.float32), scaler.scale_.astype(np.float32)


def _standardise(one: FittedTarget, X: Matrix) -> Matrix:
    return (X - one.mean) / one.scale if len(one.mean) else X


def _calibrate(estimator: Any, splits: Sequence[tuple[Ints, Ints]]) -> Any:
    """Return a classifier with probabilities (Platt 1999) in front of one without."""
    from sklearn.calibration import CalibratedClassifierCV

    return CalibratedClassifierCV(estimator, cv=list(splits))
