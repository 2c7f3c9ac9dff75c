"""The scores of predicted classes, and their replicates over resampled areas or blocks."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from extract.config.arrays import Array, Floats, Ints
from models.evaluation.bootstrap import Counts, draw_each

CLASS_GREATER_IS_BETTER = {
    "accuracy": True,
    "balanced_accuracy": True,
    "f1_macro": True,
    "log_loss": False,
}
"""Every score of a class: whether greater is better."""


class ClassSums(NamedTuple):
    """Sums over each unit: n and log loss (n_units,); hits, true and predicted rows of each class
    (n_units, n_classes).
    """

    n: Floats
    loss: Floats
    hits: Floats
    true: Floats
    predicted: Floats

    def draw(self, counts: Counts) -> ClassSums:
        """Return the sums of what each replicate draws: n_replicates in place of n_units."""
        columns = [self.n[:, None], self.loss[:, None], self.hits, self.true, self.predicted]
        n, loss, hits, true, predicted = draw_each(counts, columns)
        return ClassSums(n[:, 0], loss[:, 0], hits, true, predicted)

    def scores(self) -> dict[str, Floats]:
        """Score each row of the sums: accuracy, balanced accuracy, macro F1 and log loss [nats].

        A class that neither is true nor predicted in a row counts nowhere in it.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            recall = self.hits / self.true
            f1 = 2 * self.hits / (self.true + self.predicted)
        return {
            "accuracy": self.hits.sum(axis=1) / self.n,
            "balanced_accuracy": np.nanmean(recall, axis=1),
            "f1_macro": np.nanmean(f1, axis=1),
            "log_loss": self.loss / self.n,
        }


def score_classes(truth: Array, probability: Array) -> dict[str, float]:
    """Compute every score of `CLASS_GREATER_IS_BETTER`; equal to scikit-learn's.

    Parameters
    ----------
    truth : (n,), number of the true class, 0 … n_classes − 1.
    probability : (n, n_classes), of each class; rows add up to 1. The likeliest class is the
        prediction, the first of equals.

    Raises
    ------
    ValueError : shapes that do not match, no row, a class outside, NaN, or rows that are no
        probabilities.
    """
    everything = np.zeros(len(np.asarray(truth)), dtype=np.int64)
    sums = sum_classes(truth, probability, everything)
    return {name: float(values[0]) for name, values in sums.scores().items()}


def sum_classes(truth: Array, probability: Array, unit: Ints) -> ClassSums:
    """Sum over each unit what the scores are made of.

    Parameters
    ----------
    truth, probability : as for `score_classes`. unit : (n,), number of the area or block of each
        row.

    Raises
    ------
    ValueError : as for `score_classes`.
    """
    truth, probability = _check_classes(truth, probability)
    n_units = int(unit.max()) + 1
    n_classes = probability.shape[1]
    predicted = probability.argmax(axis=1)
    of_truth = probability[np.arange(len(truth)), truth]
    loss = -np.log(np.clip(of_truth, np.finfo(np.float64).eps, 1))

    def count(classes: Ints, is_counted: Array) -> Floats:
        cell = unit * n_classes + classes
        counted = np.bincount(cell[is_counted], minlength=n_units * n_classes)
        return counted.reshape(n_units, n_classes).astype(np.float64)

    every = np.ones(len(truth), dtype=bool)
    return ClassSums(
        n=np.bincount(unit).astype(np.float64),
        loss=np.asarray(np.bincount(unit, weights=loss), dtype=np.float64),
        hits=count(truth, truth == predicted),
        true=count(truth, every),
        predicted=count(predicted, every),
    )


def _check_classes(truth: Array, probability: Array) -> tuple[Ints, Floats]:
    """Return the classes as int64 and the probabilities as float64."""
    truth = np.asarray(truth)
    probability = np.asarray(probability, dtype=np.float64)
    if truth.ndim != 1 or probability.ndim != 2 or len(truth) != len(probability):
        raise ValueError(
            "scores: expected classes (n,) and probabilities (n, n_classes), got "
            f"{truth.shape} and {probability.shape}"
        )
    if not len(truth):
        raise ValueError("scores: expected at least one row, got none")
    n_classes = probability.shape[1]
    if truth.dtype.kind not in "iu" or truth.min() < 0 or truth.max() >= n_classes:
        raise ValueError(
            f"scores: expected whole numbers of classes from 0 to {n_classes - 1}, got "
            f"{truth.dtype} from {truth.min()} to {truth.max()}"
        )
    total = probability.sum(axis=1)
    is_sound = (probability >= 0).all(axis=1) & (np.abs(total - 1) < 1e-3)
    n_bad = np.count_nonzero(~is_sound)
    if n_bad:
        raise ValueError(
            f"scores: expected probabilities that add up to 1, got {n_bad} rows that do not, or "
            "are NaN or below 0; leave rows without a prediction out"
        )
    return truth.astype(np.int64), probability / total[:, None]
