"""The scores of a prediction; arrays that do not match are refused, never broadcast."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import rankdata

from models.bootstrap import bootstrap_intervals
from models.family import Floats

METRICS = ("mse", "rmse", "nrmse", "mae", "r2", "spearman")


def score(truth: NDArray[Any], predicted: NDArray[Any]) -> dict[str, float]:
    """Give mse, rmse, nrmse (rmse / range of the truth), mae, r2 and spearman.

    Parameters
    ----------
    truth, predicted : (n,), finite; the same shape.

    Returns
    -------
    NaN for nrmse, r2 and spearman where the truth is constant, and for spearman where the prediction is.

    Raises
    ------
    ValueError : shapes that differ or are not (n,), no value, NaN or infinity.
    """
    truth, predicted = check_pair(truth, predicted)
    error = truth - predicted
    mse, spread = float(np.mean(error**2)), float(np.ptp(truth))
    r2 = 1 - mse / float(np.var(truth)) if spread > 0 else np.nan
    return {"mse": mse, "rmse": mse**0.5, "nrmse": mse**0.5 / spread if spread > 0 else np.nan,
            "mae": float(np.mean(np.abs(error))), "r2": r2, "spearman": _spearman(truth, predicted)}


def check_pair(truth: NDArray[Any], predicted: NDArray[Any]) -> tuple[Floats, Floats]:
    """Give both as float64 (n,).

    Raises
    ------
    ValueError : as for `score`.
    """
    truth, predicted = np.asarray(truth, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    if truth.shape != predicted.shape or truth.ndim != 1:
        raise ValueError(f"scores: expected truth and prediction of the same shape (n,), got {truth.shape} and "
                         f"{predicted.shape}. Ravel a column first: NumPy would broadcast it to (n, n).")
    if not len(truth):
        raise ValueError("scores: expected at least one value, got none")
    for name, values in (("truth", truth), ("prediction", predicted)):
        n_bad = int((~np.isfinite(values)).sum())
        if n_bad:
            raise ValueError(f"scores: expected finite values, got {n_bad} NaN or infinite in the {name}; leave those rows out")
    return truth, predicted


def _spearman(truth: Floats, predicted: Floats) -> float:
    if np.ptp(truth) == 0 or np.ptp(predicted) == 0:
        return float("nan")
    return float(np.corrcoef(rankdata(truth), rankdata(predicted))[0, 1])


def score_levels(truth: Floats, predicted: Floats, area: NDArray[Any], *, seed: int = 0) -> list[dict[str, Any]]:
    """Score tiles, and areas: the mean prediction of an area's tiles against its label; each with its intervals."""
    check_pair(truth, predicted)
    means = pd.DataFrame({"truth": truth, "predicted": predicted}).groupby(np.asarray(area)).mean()
    levels = {"tile": (truth, predicted, area),
              "area": (means["truth"].to_numpy(), means["predicted"].to_numpy(), means.index.to_numpy())}
    return [{"level": level, "n": len(t), **score(t, p), **bootstrap_intervals(t, p, a, seed=seed)}
            for level, (t, p, a) in levels.items()]
