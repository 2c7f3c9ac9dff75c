"""Any estimator with scikit-learn's `fit` and `predict`, named in the settings, as a family."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import joblib
import numpy as np

from extract.config.arrays import Float32s, Floats, Ints, Matrix
from extract.errors import RooflineError
from models.data.features import Features
from models.data.folds import Split
from models.families.estimator_classes import build_estimator
from models.families.estimator_forms import FittedTarget, write_fitted
from models.families.family import Family, FitContext
from models.families.fit_results import Chosen
from models.families.training_rows import (
    TargetLabels,
    TargetRows,
    Task,
    TrainingRows,
    list_labels,
    take_labelled,
)


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

    def fit_rows(self, data: TrainingRows, context: FitContext) -> None:
        """Choose the parameters of each target, and fit its estimator.

        Raises
        ------
        ValueError : the estimator refuses its parameters or these rows.
        """
        labels = list_labels(data.Y, self.task)
        self.n_outputs_ = data.Y.shape[1]
        X = data.X.array()
        threads = self.n_jobs if self.n_jobs > 0 else joblib.cpu_count()
        beside = min(threads, len(labels))
        fit_target = joblib.delayed(self._fit_target)
        jobs = [fit_target(data, X, one, threads // beside) for one in labels]
        fitted = joblib.Parallel(n_jobs=beside, require="sharedmem")(jobs)
        self.fitted_: list[FittedTarget] = [one for one, _ in fitted]
        self.chosen_ = [chosen for _, chosen in fitted]

    def _fit_target(
        self, data: TrainingRows, X: Matrix, labels: TargetLabels, threads: int
    ) -> tuple[FittedTarget, Chosen]:
        from sklearn.model_selection import ParameterGrid

        rows = take_labelled(data, X, labels)
        splits = list(rows.folds.splits())
        grid = dict(self.grid or {})
        candidates: list[Chosen] = list(ParameterGrid(grid))
        chosen = candidates[0]
        if len(candidates) > 1 and splits:
            losses = np.zeros(len(candidates))
            for train, held in splits:
                rows_of_fold = rows.take(train)
                asked = rows.take(held)
                for i, candidate in enumerate(candidates):
                    one = self._fit_one(rows_of_fold, candidate, threads)
                    losses[i] += self._measure_loss(one, asked)
            chosen = candidates[losses.argmin()]
        return self._fit_one(rows, chosen, threads, calibrated_on=splits), chosen

    def _fit_one(
        self,
        rows: TargetRows,
        chosen: Chosen,
        threads: int,
        calibrated_on: Sequence[Split] = (),
    ) -> FittedTarget:
        """Fit an estimator.

        Parameters
        ----------
        calibrated_on : splits of the rows for the probabilities of a classifier that has none.
        """
        params = {**(self.params or {}), **chosen}
        estimator = build_estimator(self.class_name, params, seed=self.seed, threads=threads)
        mean = np.zeros(0, np.float32)
        scale = mean
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
                estimator = self._calibrate(estimator, y, calibrated_on)
        is_weighted = bool((rows.weight != rows.weight[0]).any())
        given = {"sample_weight": rows.weight} if is_weighted else {}
        with self._name_errors():
            estimator.fit(X, y, **given)
        return FittedTarget(estimator, codes, mean, scale)

    def _calibrate(self, estimator: Any, y: Ints, splits: Sequence[Split]) -> Any:
        """Return a classifier with probabilities (Platt 1999) in front of one without."""
        from sklearn.calibration import CalibratedClassifierCV

        usable = [(train, held) for train, held in splits if np.ptp(y[train]) > 0]
        if not usable:
            raise ValueError(
                f"{self.class_name} has no predict_proba, and without any one fold the training "
                "rows have one class alone, so that it cannot be calibrated. Name a classifier "
                "with probabilities, or lower folds in [models]."
            )
        return CalibratedClassifierCV(estimator, cv=usable)

    def _measure_loss(self, one: FittedTarget, rows: TargetRows) -> float:
        """Return the mean squared error, or one less the balanced accuracy."""
        predicted = self._predict_labels(one, rows.X)
        if self.task == "number":
            squares = (predicted - rows.y) ** 2
            return float(np.average(squares, weights=rows.weight))
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
        scaled = _standardise(one, X)
        with self._name_errors():
            predicted = np.asarray(one.estimator.predict(scaled))
        predicted = predicted.reshape(len(X))
        if self.task == "class":
            predicted = one.codes[predicted.astype(np.int64)]
        return predicted.astype(np.float64)

    def _predict_shares(self, one: FittedTarget, X: Matrix) -> Floats:
        """Predict the probability of each class: (n_rows, n_classes)."""
        shares = np.zeros((len(X), self.n_outputs_))
        if one.estimator is None:
            shares[:, one.codes] = 1.0
            return shares
        scaled = _standardise(one, X)
        with self._name_errors():
            shares[:, one.codes] = one.estimator.predict_proba(scaled)
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
        """Name the estimator in an error of it; one line of what it says."""
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
    if not len(one.mean):
        return X
    return (X - one.mean) / one.scale
