"""The scores of a prediction of classes, and their intervals over resampled areas or blocks."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.data.arrays import Floats, Ints
from models.evaluation.bootstrap import TAILS, Counts, sum_draws
from models.evaluation.scores import Metric

CLASS_METRICS = {
    metric.name: metric
    for metric in (
        Metric(
            name="accuracy",
            unit="1",
            greater_is_better=True,
            description="share of rows whose likeliest class is the true one",
        ),
        Metric(
            name="balanced_accuracy",
            unit="1",
            greater_is_better=True,
            description="mean over the true classes of the share that is found; guessing gives one over their number",
        ),
        Metric(
            name="f1_macro",
            unit="1",
            greater_is_better=True,
            description="mean over the classes of the harmonic mean of precision and recall; 0 for a class never predicted",
        ),
        Metric(
            name="log_loss",
            unit="1",
            greater_is_better=False,
            description="mean of −log of the probability given to the true class [nats]",
        ),
    )
}


class ClassSums(NamedTuple):
    """Sums over each unit: n and log loss (n_units,); hits, true and predicted rows of each class (n_units, n_classes)."""

    n: Floats
    loss: Floats
    hits: Floats
    true: Floats
    predicted: Floats


def score_classes(truth: NDArray[Any], probability: NDArray[Any]) -> dict[str, float]:
    """Return every score of `CLASS_METRICS`; equal to scikit-learn's.

    Parameters
    ----------
    truth : (n,), number of the true class, 0 … n_classes − 1.
    probability : (n, n_classes), of each class; rows add up to 1. The likeliest class is the prediction, the first of equals.

    Raises
    ------
    ValueError : shapes that do not match, no row, a class outside, NaN, or rows that are no probabilities.
    """
    truth, probability = check_classes(truth, probability)
    sums = sum_classes(truth, probability, np.zeros(len(truth), dtype=np.int64))
    return {name: float(value[0]) for name, value in _scores(sums).items()}


def bootstrap_classes(
    truth: NDArray[Any], probability: NDArray[Any], unit: Ints, counts: Counts
) -> dict[str, float]:
    """Return the ends of the 95 % percentile intervals, as accuracy_low, accuracy_high and so on.

    Parameters
    ----------
    truth, probability : as for `score_classes`. unit : (n,), number of the area or block that is drawn.
    counts : (n_replicates, n_units), from `models.evaluation.bootstrap.draw_units`.

    Raises
    ------
    ValueError : as for `score_classes`.
    """
    truth, probability = check_classes(truth, probability)
    sums = sum_classes(truth, probability, unit)
    width = sums.hits.shape[1]
    drawn = sum_draws(
        counts, np.column_stack([sums.n, sums.loss, sums.hits, sums.true, sums.predicted])
    )
    n = drawn[:, 0]
    loss = drawn[:, 1]
    rest = drawn[:, 2:]
    values = _scores(
        ClassSums(n, loss, rest[:, :width], rest[:, width : 2 * width], rest[:, 2 * width :])
    )
    return {
        f"{name}_{end}": float(bound)
        for name, value in values.items()
        for end, bound in zip(("low", "high"), np.quantile(value, TAILS), strict=True)
    }


def check_classes(truth: NDArray[Any], probability: NDArray[Any]) -> tuple[Ints, Floats]:
    """Return the classes as int64 and the probabilities as float64; errors as `score_classes`."""
    truth = np.asarray(truth)
    probability = np.asarray(probability, dtype=np.float64)
    if truth.ndim != 1 or probability.ndim != 2 or len(truth) != len(probability):
        raise ValueError(
            f"scores: expected classes (n,) and probabilities (n, n_classes), got {truth.shape} and "
            f"{probability.shape}"
        )
    if not len(truth):
        raise ValueError("scores: expected at least one row, got none")
    n_classes = probability.shape[1]
    if truth.dtype.kind not in "iu" or truth.min() < 0 or truth.max() >= n_classes:
        raise ValueError(
            f"scores: expected whole numbers of classes from 0 to {n_classes - 1}, got {truth.dtype} from "
            f"{truth.min()} to {truth.max()}"
        )
    n_bad = int(
        (~(probability >= 0).all(axis=1) | ~(np.abs(probability.sum(axis=1) - 1) < 1e-3)).sum()
    )
    if n_bad:
        raise ValueError(
            f"scores: expected probabilities that add up to 1, got {n_bad} rows that do not, or are NaN or below 0; "
            "leave rows without a prediction out"
        )
    return truth.astype(np.int64), probability / probability.sum(axis=1, keepdims=True)


def sum_classes(truth: Ints, probability: Floats, unit: Ints) -> ClassSums:
    """Sum over each unit what the scores are made of; the rows are checked."""
    n_units = int(unit.max()) + 1
    n_classes = probability.shape[1]
    predicted = probability.argmax(axis=1)
    smallest = np.finfo(np.float64).eps
    loss = -np.log(np.clip(probability[np.arange(len(truth)), truth], smallest, 1))

    def count(classes: NDArray[Any], which: Any = slice(None)) -> Floats:
        flat = np.bincount(unit[which] * n_classes + classes[which], minlength=n_units * n_classes)
        return flat.reshape(n_units, n_classes).astype(np.float64)

    per_unit = np.asarray(np.bincount(unit, weights=loss), dtype=np.float64)
    return ClassSums(
        np.bincount(unit).astype(np.float64),
        per_unit,
        count(truth, truth == predicted),
        count(truth),
        count(predicted),
    )


def _scores(sums: ClassSums) -> dict[str, Floats]:
    """Score each row of sums; a class that neither is true nor predicted there counts nowhere."""
    either = sums.true + sums.predicted
    with np.errstate(divide="ignore", invalid="ignore"):
        recall = sums.hits / sums.true
        f1 = 2 * sums.hits / either
    return {
        "accuracy": sums.hits.sum(axis=1) / sums.n,
        "balanced_accuracy": np.nanmean(recall, axis=1),
        "f1_macro": np.nanmean(f1, axis=1),
        "log_loss": sums.loss / sums.n,
    }
