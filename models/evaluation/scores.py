"""The scores of a prediction of numbers; arrays that do not match are refused, never broadcast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from models.data.arrays import Floats
from models.evaluation.ranks import rank_column, rank_influence


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One score.

    Attributes
    ----------
    unit : of the target, of its square, or 1 for a bare number.
    greater_is_better : None where neither end is best; the description says what is.
    """

    name: str
    unit: Literal["target", "target²", "1"]
    greater_is_better: bool | None
    description: str


METRICS = {
    metric.name: metric
    for metric in (
        Metric(
            name="mse", unit="target²", greater_is_better=False, description="mean squared error"
        ),
        Metric(
            name="rmse",
            unit="target",
            greater_is_better=False,
            description="root of the mean squared error",
        ),
        Metric(
            name="nrmse",
            unit="1",
            greater_is_better=False,
            description="rmse over the range of the truth",
        ),
        Metric(
            name="mae", unit="target", greater_is_better=False, description="mean absolute error"
        ),
        Metric(
            name="r2",
            unit="1",
            greater_is_better=True,
            description="share of the variance around the mean of the scored truth that is explained; below 0: worse than it",
        ),
        Metric(
            name="r2_training_mean",
            unit="1",
            greater_is_better=True,
            description="as r2, around the mean of each fold's training labels, which a model can know",
        ),
        Metric(
            name="spearman",
            unit="1",
            greater_is_better=True,
            description="correlation of the ranks",
        ),
        Metric(
            name="calibration_slope",
            unit="1",
            greater_is_better=None,
            description="slope of the truth on the prediction; 1 is best, below 1 the predictions are too spread out",
        ),
    )
}


def score(
    truth: NDArray[Any], predicted: NDArray[Any], *, training_mean: NDArray[Any] | None = None
) -> dict[str, float]:
    """Return every score of `METRICS`.

    Parameters
    ----------
    truth, predicted : (n,), finite; the same shape.
    training_mean : (n,), mean label of what the model that predicted the row was trained on; None leaves
        `r2_training_mean` NaN.

    Returns
    -------
    NaN for nrmse, r2 and spearman where the truth is constant, for spearman and the slope where the prediction is.

    Raises
    ------
    ValueError : shapes that differ or are not (n,), no value, NaN or infinity.
    """
    truth, predicted = check_pair(truth, predicted)
    mean = None if training_mean is None else check_pair(truth, training_mean)[1]
    rho = rank_influence(rank_column(truth), rank_column(predicted))[0]
    scores = score_columns(truth, predicted[:, None], training_mean=mean)
    return {name: rho if name == "spearman" else float(scores[name][0]) for name in METRICS}


def check_pair(truth: NDArray[Any], predicted: NDArray[Any]) -> tuple[Floats, Floats]:
    """Return both as float64 (n,).

    Raises
    ------
    ValueError : as for `score`.
    """
    truth = np.asarray(truth, dtype=np.float64)
    predicted = np.asarray(predicted, dtype=np.float64)
    if truth.shape != predicted.shape or truth.ndim != 1:
        raise ValueError(
            f"scores: expected truth and prediction of the same shape (n,), got {truth.shape} and "
            f"{predicted.shape}. Ravel a column first: NumPy would broadcast it to (n, n)."
        )
    if not len(truth):
        raise ValueError("scores: expected at least one value, got none")
    for name, values in (("truth", truth), ("prediction", predicted)):
        n_bad = int((~np.isfinite(values)).sum())
        if n_bad:
            raise ValueError(
                f"scores: expected finite values, got {n_bad} NaN or infinite in the {name}; leave those rows out"
            )
    return truth, predicted


def score_columns(
    truth: Floats, predicted: NDArray[Any], *, training_mean: Floats | None
) -> dict[str, Floats]:
    """Return every score but Spearman's for many predictions of the same truth.

    Parameters
    ----------
    truth : (n,), finite. predicted : (n, n_cells), finite. training_mean : (n,) or None, as for `score`.

    Returns
    -------
    Name of the score → (n_cells,).
    """
    errors = truth[:, None] - predicted
    mse = np.mean(errors**2, axis=0)
    mae = np.mean(np.abs(errors), axis=0)
    spread = np.ptp(truth)
    variance = truth.var()
    from_training = np.nan if training_mean is None else np.mean((truth - training_mean) ** 2)
    nowhere = np.full(len(mse), np.nan)
    return {
        "mse": mse,
        "rmse": np.sqrt(mse),
        "nrmse": np.sqrt(mse) / spread if spread > 0 else nowhere,
        "mae": mae,
        "r2": 1 - mse / variance if spread > 0 else nowhere,
        "r2_training_mean": 1 - mse / from_training if from_training > 0 else nowhere,
        "calibration_slope": _slopes(truth, predicted),
    }


def _slopes(truth: Floats, predicted: NDArray[Any]) -> Floats:
    """Slope of the truth on each prediction; NaN where it is constant."""
    centred = predicted - predicted.mean(axis=0, dtype=np.float64)
    is_constant = np.ptp(predicted, axis=0) == 0
    squares = np.where(is_constant, np.nan, np.sum(centred**2, axis=0))
    return (truth - truth.mean()) @ centred / squares
