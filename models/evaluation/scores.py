"""The scores of predicted numbers; arrays that do not match are refused, never broadcast."""

from __future__ import annotations

from typing import Any

import numpy as np

from extract.config.arrays import Array, Floats
from models.evaluation.ranks import rank_column, rank_influence

GREATER_IS_BETTER: dict[str, bool | None] = {
    "mse": False,
    "rmse": False,
    "nrmse": False,
    "mae": False,
    "r2": True,
    "r2_training_mean": True,
    "spearman": True,
    "calibration_slope": None,  # 1 is best
}
"""Every score of a number: whether greater is better."""


def score(
    truth: Array, predicted: Array, *, training_mean: Array | None = None
) -> dict[str, float]:
    """Compute every score of `GREATER_IS_BETTER`.

    Parameters
    ----------
    truth, predicted : (n,), finite; the same shape.
    training_mean : (n,), mean label of what the model that predicted the row was trained on; None
        leaves `r2_training_mean` NaN.

    Returns
    -------
    mse [target²], rmse, mae [target]; nrmse : rmse over the range of the truth; r2 : share of the
        variance around the mean
    of the truth that is explained; r2_training_mean : the same around the mean of the training
        labels; spearman;
    calibration_slope : slope of the truth on the prediction. NaN for nrmse, r2 and spearman where
        the truth is constant, for
    spearman and the slope where the prediction is.

    Raises
    ------
    ValueError : shapes that differ or are not (n,), no value, NaN or infinity.
    """
    truth, predicted = check_pair(truth, predicted)
    if training_mean is not None:
        _, training_mean = check_pair(truth, training_mean)
    scores = score_columns(truth, predicted[:, None], training_mean=training_mean)
    truth_ranks = rank_column(truth)
    rho, _ = rank_influence(truth_ranks, rank_column(predicted))
    scores["spearman"] = np.array([rho])
    return {name: scores[name].item() for name in GREATER_IS_BETTER}


def check_pair(truth: Array, predicted: Array) -> tuple[Floats, Floats]:
    """Return both as float64 (n,).

    Raises
    ------
    ValueError : as for `score`.
    """
    truth = np.asarray(truth, dtype=np.float64)
    predicted = np.asarray(predicted, dtype=np.float64)
    if truth.shape != predicted.shape or truth.ndim != 1:
        raise ValueError(
            "scores: expected truth and prediction of the same shape (n,), got "
            f"{truth.shape} and {predicted.shape}. Ravel a column first: NumPy would broadcast it "
            "to (n, n)."
        )
    if not len(truth):
        raise ValueError("scores: expected at least one value, got none")
    for name, values in {"truth": truth, "prediction": predicted}.items():
        is_finite = np.isfinite(values)
        n_bad = np.count_nonzero(~is_finite)
        if n_bad:
            raise ValueError(
                f"scores: expected finite values, got {n_bad} NaN or infinite in the {name}; "
                "leave those rows out"
            )
    return truth, predicted


def score_columns(
    truth: Floats, predicted: Array, *, training_mean: Floats | None
) -> dict[str, Floats]:
    """Compute every score but Spearman's for many predictions of the same truth.

    Parameters
    ----------
    truth : (n,), finite. predicted : (n, n_cells), finite. training_mean : (n,) or None, as for
        `score`.

    Returns
    -------
    Name of the score → (n_cells,).
    """
    errors = truth[:, None] - predicted
    sizes = np.abs(errors)
    mse = np.mean(errors**2, axis=0)
    rmse = np.sqrt(mse)
    spread = _or_nan(np.ptp(truth))
    variance = np.nan
    if spread > 0:
        variance = truth.var()
    around_training = np.nan
    if training_mean is not None:
        deviations = truth - training_mean
        around_training = _or_nan(np.mean(deviations**2))
    return {
        "mse": mse,
        "rmse": rmse,
        "nrmse": rmse / spread,
        "mae": np.mean(sizes, axis=0),
        "r2": 1 - mse / variance,
        "r2_training_mean": 1 - mse / around_training,
        "calibration_slope": _slopes(truth, predicted),
    }


def _or_nan(value: np.floating[Any]) -> float:
    """Return a positive value; NaN for any other, which nothing can be divided by."""
    if value > 0:
        return float(value)
    return np.nan


def _slopes(truth: Floats, predicted: Array) -> Floats:
    """Slope of the truth on each prediction; NaN where the prediction is constant."""
    mean = predicted.mean(axis=0, dtype=np.float64)
    centred = predicted - mean
    squares = np.sum(centred**2, axis=0)
    spread = np.ptp(predicted, axis=0)
    squares[spread == 0] = np.nan
    products = (truth - truth.mean()) @ centred
    return products / squares
