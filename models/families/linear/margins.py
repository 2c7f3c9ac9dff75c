"""Logistic regression and linear support vectors of scikit-learn, C chosen inside the folds."""

from __future__ import annotations

import logging
import warnings
from abc import abstractmethod
from typing import Any, NamedTuple

import numpy as np
from joblib import Parallel, cpu_count, delayed

from extract.config.arrays import Bools, Floats, Ints, Matrix
from models.data.features import Features
from models.families.family import Family, FitContext
from models.families.training_rows import (
    TargetLabels,
    TargetRows,
    Task,
    TrainingRows,
    list_labels,
    take_labelled,
)

LOG = logging.getLogger(__name__)
CS = tuple(float(c) for c in 10.0 ** np.arange(-6, 1))
_DEFAULT = 1e-3  # where there are no folds to choose on
_LARGEST_LOG = 10.0  # of the factor that calibrates


class _Linear(NamedTuple):
    """A fitted target: scores = X · coef + intercept, a column a class, or one of a number.

    Attributes
    ----------
    coef : (n_features, n_columns), of the features as they are stored.
    intercept : (n_columns,). codes : (n_columns,), of the classes; 0 of a number.
    is_converged : whether the solver met its tolerance.
    """

    coef: Floats
    intercept: Floats
    codes: Ints
    is_converged: bool = True

    def score(self, X: Matrix) -> Floats:
        """Return the scores: (n_rows, n_columns)."""
        scores: Floats = X @ self.coef + self.intercept
        return scores


class ChosenC(Family):
    """Base of linear models of scikit-learn behind a `StandardScaler`, one a target.

    C is chosen on the inner folds: of least squared error, or of highest balanced accuracy where
    classes are predicted, the smallest of equals. Without folds it is the one nearest to 10⁻³.

    Parameters
    ----------
    C : inverse penalties to choose from.
    standardise : false leaves the columns their scale, as those of a PCA need.
    n_jobs : targets that are fitted side by side; 0 or −1 for every core.
    seed : of the solver.
    """

    is_parallel = True  # whether targets may be fitted side by side

    def __init__(
        self,
        C: tuple[float, ...] = CS,
        standardise: bool = True,
        n_jobs: int = -1,
        seed: int = 0,
        task: Task = "number",
    ) -> None:
        self.C = C
        self.standardise = standardise
        self.n_jobs = n_jobs
        self.seed = seed
        self.task = task

    @abstractmethod
    def _build(self, C: float) -> Any:
        """Return an unfitted estimator of scikit-learn."""

    def _calibrate(self, scores: Floats, truth: Ints) -> float:
        """Return the factor of scores before softmax; 1 where they are calibrated already.

        Parameters
        ----------
        scores : (n, n_classes), out of fold; −inf of a class that the training rows lack.
        truth : (n,), the true class.
        """
        return 1.0

    def fit_rows(self, data: TrainingRows, context: FitContext) -> None:
        """Choose C of every target, and fit it on all its labelled rows."""
        from sklearn.exceptions import ConvergenceWarning

        X = data.X.array()
        labels = list_labels(data.Y, self.task)
        self.n_outputs_ = data.Y.shape[1]
        n_columns = self.n_outputs_ if self.task == "class" else 1
        fit_target = delayed(self._fit_target)
        jobs = [fit_target(data, X, one, n_columns) for one in labels]
        beside = 1
        if self.is_parallel:
            beside = self.n_jobs if self.n_jobs > 0 else cpu_count()
            beside = min(beside, len(jobs))
        with warnings.catch_warnings():  # said below, of what was chosen
            warnings.simplefilter("ignore", ConvergenceWarning)
            fitted = Parallel(n_jobs=beside, require="sharedmem")(jobs)
        linear, Cs, factors = zip(*fitted, strict=True)
        self.coef_ = np.column_stack([one.coef for one in linear])
        self.intercept_ = np.concatenate([one.intercept for one in linear])
        self.codes_ = linear[0].codes
        self.chosen_ = [{"C": C} for C in Cs]
        self.factor_ = factors[0]
        for target, one in enumerate(linear):
            if not one.is_converged:
                name = context.describe(target)
                LOG.warning("%s: C = %g did not converge", name, Cs[target])

    def _fit_target(
        self, data: TrainingRows, X: Matrix, labels: TargetLabels, n_columns: int
    ) -> tuple[_Linear, float, float]:
        """Return the model of a target, its C, and the factor that calibrates it."""
        rows = take_labelled(data, X, labels)
        Cs = np.sort(self.C)
        scores, is_asked = self._score_out_of_fold(rows, Cs, n_columns)
        distance = np.abs(np.log(Cs / _DEFAULT))
        C = Cs[distance.argmin()]
        factor = 1.0
        if is_asked.any():
            truth = rows.y[is_asked]
            weight = rows.weight[is_asked]
            asked = scores[:, is_asked]
            losses = [self._measure_loss(one, truth, weight) for one in asked]
            best = np.argmin(losses)
            C = Cs[best]
            if self.task == "class":
                factor = self._calibrate(asked[best], truth.astype(np.int64))
        mean, scale = self._measure_scales(rows.X, rows.weight)
        scaled = (rows.X - mean) / scale
        whole = self._fit_scaled(scaled, rows.y, rows.weight, C)
        coef = whole.coef / scale[:, None]
        intercept = whole.intercept - mean @ coef
        return whole._replace(coef=coef, intercept=intercept), float(C), factor

    def _score_out_of_fold(
        self, rows: TargetRows, Cs: Floats, n_columns: int
    ) -> tuple[Floats, Bools]:
        """Return the scores of every C on the inner folds, and the rows that have any.

        Returns
        -------
        (n_Cs, n_rows, n_columns), −inf of a class that the training rows lack; and (n_rows,).
        """
        n_rows = len(rows.y)
        scores = np.full((len(Cs), n_rows, n_columns), -np.inf)
        is_asked = np.zeros(n_rows, dtype=bool)
        for train, held in rows.folds.splits():
            inside = rows.take(train)
            if np.ptp(inside.y) == 0:
                continue
            is_asked[held] = True
            mean, scale = self._measure_scales(inside.X, inside.weight)
            scaled = (inside.X - mean) / scale
            asked = (rows.X[held] - mean) / scale
            for of_C, C in zip(scores, Cs, strict=True):
                one = self._fit_scaled(scaled, inside.y, inside.weight, C)
                of_C[np.ix_(held, one.codes)] = one.score(asked)
        return scores, is_asked

    def _measure_scales(self, X: Matrix, weight: Floats) -> tuple[Matrix, Matrix]:
        """Return what is taken off the columns, and what they are divided by: (n_features,)."""
        from sklearn.preprocessing import StandardScaler

        if not self.standardise:
            n_features = X.shape[1]
            return np.zeros(n_features, X.dtype), np.ones(n_features, X.dtype)
        scaler = StandardScaler().fit(X, sample_weight=weight)
        return scaler.mean_.astype(X.dtype), scaler.scale_.astype(X.dtype)

    def _fit_scaled(self, X: Matrix, y: Floats, weight: Floats, C: float) -> _Linear:
        """Fit one model of standardised features; numbers are standardised for it, too."""
        n_features = X.shape[1]
        if np.ptp(y) == 0:
            code = 0 if self.task == "number" else int(y[0])
            return _Linear(
                coef=np.zeros((n_features, 1)),
                intercept=y[:1],
                codes=np.array([code]),
            )
        estimator = self._build(C)
        if self.task == "number":
            mean = np.average(y, weights=weight)
            centred = y - mean
            variance = np.average(centred**2, weights=weight)
            spread = np.sqrt(variance)
            estimator.fit(X, centred / spread, sample_weight=weight)
            coef = spread * estimator.coef_.reshape(n_features, 1)
            intercept = spread * np.ravel(estimator.intercept_) + mean
            codes = np.zeros(1, np.int64)
        else:
            estimator.fit(X, y, sample_weight=weight)
            coef = estimator.coef_.T
            intercept = np.ravel(estimator.intercept_)
            codes = estimator.classes_.astype(np.int64)
            if len(codes) == 2:  # one column: the second class against the first
                no_slope = np.zeros_like(coef)
                coef = np.hstack([no_slope, coef])
                intercept = np.append(0.0, intercept)
        return _Linear(
            coef=coef.astype(np.float64),
            intercept=intercept.astype(np.float64),
            codes=codes,
            is_converged=bool(np.max(estimator.n_iter_) < estimator.max_iter),
        )

    def _measure_loss(self, scores: Floats, truth: Floats, weight: Floats) -> float:
        """Return the mean squared error, or one less the balanced accuracy."""
        from sklearn.metrics import balanced_accuracy_score

        if self.task == "number":
            squares = (scores[:, 0] - truth) ** 2
            return float(np.average(squares, weights=weight))
        likeliest = scores.argmax(axis=1)
        score = balanced_accuracy_score(truth, likeliest, sample_weight=weight)
        return round(1 - float(score), 12)

    def predict(self, X: Features) -> Floats:
        """Predict every target, or the probability of every class: (n_rows, n_targets)."""
        out = np.zeros((len(X), self.n_outputs_))
        for rows, chunk in X.chunks():
            scores = chunk @ self.coef_ + self.intercept_
            if self.task == "class":
                out[rows, self.codes_] = softmax(self.factor_ * scores)
            else:
                out[rows] = scores
        return out


class Logistic(ChosenC):
    """scikit-learn's `LogisticRegression`, for targets that are classes."""

    tasks = ("class",)

    def _build(self, C: float) -> Any:
        from sklearn.linear_model import LogisticRegression

        return LogisticRegression(C=C, max_iter=1000, random_state=self.seed)


class SupportVectors(ChosenC):
    """scikit-learn's `LinearSVC` for classes, and `LinearSVR` for numbers.

    The ε of numbers is a tenth of their standard deviation. Probabilities are softmax of the scores
    times a factor of least log loss on the inner folds (temperature scaling: Guo et al. 2017, ICML,
    "On calibration of modern neural networks"), which leaves the likeliest class as it is: that of
    `CalibratedClassifierCV(method="temperature", ensemble=False)`.
    """

    is_parallel = False  # liblinear draws from one stream for all threads of a process

    def _build(self, C: float) -> Any:
        from sklearn.svm import LinearSVC, LinearSVR

        if self.task == "class":
            return LinearSVC(C=C, random_state=self.seed)
        return LinearSVR(C=C, epsilon=0.1, random_state=self.seed)

    def _calibrate(self, scores: Floats, truth: Ints) -> float:
        from scipy.optimize import minimize_scalar

        own = scores[np.arange(len(truth)), truth]
        is_known = np.isfinite(own)
        if not is_known.any():
            return 1.0
        known = scores[is_known]
        true_class = truth[is_known]
        rows = np.arange(len(known))

        def measure_log_loss(log_factor: float) -> float:
            factor = np.exp(log_factor)
            shares = softmax(factor * known)
            of_truth = np.maximum(shares[rows, true_class], 1e-300)
            return float(-np.log(of_truth).mean())

        bounds = (-_LARGEST_LOG, _LARGEST_LOG)
        found = minimize_scalar(measure_log_loss, bounds=bounds, method="bounded")
        return float(np.exp(found.x))


def softmax(scores: Floats) -> Floats:
    """Return shares that sum to 1 in each row, of scores (n_rows, n_classes)."""
    largest = scores.max(axis=1, keepdims=True)
    raised = np.exp(scores - largest)
    shares: Floats = raised / raised.sum(axis=1, keepdims=True)
    return shares
