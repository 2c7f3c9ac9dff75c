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
_EPSILON = float(np.finfo(np.float64).eps)  # the least probability whose logarithm is taken


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
        columns = [values.reshape(len(values), -1) for values in self]
        n, loss, hits, true, predicted = draw_each(counts, columns)
        return ClassSums(
            n=n.ravel(),
            loss=loss.ravel(),
            hits=hits,
            true=true,
            predicted=predicted,
        )

    def scores(self) -> dict[str, Floats]:
        """Score each row of the sums: accuracy, balanced accuracy, macro F1 and log loss [nats].

        A class that neither is true nor predicted in a row counts nowhere in it.
        """
        n_hits = self.hits.sum(axis=1)
        either = self.true + self.predicted
        with np.errstate(divide="ignore", invalid="ignore"):
            recall = self.hits / self.true
            f1 = 2 * self.hits / either
        return {
            "accuracy": n_hits / self.n,
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
    one_unit = np.zeros(len(truth), dtype=np.int64)
    sums = sum_classes(truth, probability, one_unit)
    scores = sums.scores()
    return {name: values.item() for name, values in scores.items()}


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
    n_rows, n_classes = probability.shape
    shape = (n_units, n_classes)
    predicted = probability.argmax(axis=1)
    is_hit = truth == predicted
    of_truth = probability[np.arange(n_rows), truth]
    of_truth = np.clip(of_truth, _EPSILON, 1)
    losses = -np.log(of_truth)
    loss = np.bincount(unit, weights=losses)
    n = np.bincount(unit)
    return ClassSums(
        n=n.astype(np.float64),
        loss=np.asarray(loss, dtype=np.float64),
        hits=_count(unit[is_hit], truth[is_hit], shape),
        true=_count(unit, truth, shape),
        predicted=_count(unit, predicted, shape),
    )


def _count(unit: Ints, code: Ints, shape: tuple[int, int]) -> Floats:
    """Count the rows of each unit and class: (n_units, n_classes)."""
    n_units, n_classes = shape
    cell = unit * n_classes + code
    counted = np.bincount(cell, minlength=n_units * n_classes)
    counted = counted.reshape(shape)
    return counted.astype(np.float64)


def _check_classes(truth: Array, probability: Array) -> tuple[Ints, Floats]:
    """Return the classes as int64 and the probabilities as float64."""
    truth = np.asarray(truth)
    probability = np.asarray(probability, dtype=np.float64)
    is_matching = probability.shape[:1] == truth.shape and probability.ndim == 2
    if not is_matching:
        raise ValueError(
            "scores: expected classes (n,) and probabilities (n, n_classes), got "
            f"{truth.shape} and {probability.shape}"
        )
    if not len(truth):
        raise ValueError("scores: expected at least one row, got none")
    n_classes = probability.shape[1]
    least = truth.min()
    most = truth.max()
    if truth.dtype.kind not in "iu" or least < 0 or most >= n_classes:
        raise ValueError(
            f"scores: expected whole numbers of classes from 0 to {n_classes - 1}, got "
            f"{truth.dtype} from {least} to {most}"
        )
    total = probability.sum(axis=1)
    is_whole = np.abs(total - 1) < 1e-3
    is_positive = probability >= 0
    is_good = is_whole & is_positive.all(axis=1)
    n_bad = np.count_nonzero(~is_good)
    if n_bad:
        raise ValueError(
            f"scores: expected probabilities that add up to 1, got {n_bad} rows that do not, or "
            "are NaN or below 0; leave rows without a prediction out"
        )
    return truth.astype(np.int64), probability / total[:, None]
