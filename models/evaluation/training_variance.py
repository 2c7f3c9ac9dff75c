"""How much more a score varies over data sets than a bootstrap of its units knows.

A bootstrap takes the models as they are. Another data set trains other models, and the models of
the folds share most of their training rows, so that they err alike.
"""

from __future__ import annotations

import numpy as np

from extract.config.arrays import Floats
from models.evaluation.bootstrap import Interval

TRAINING_VARIANCE = 3.0
"""Variance over data sets beside that of the bootstrap: 1.5 to 3.0 of differences between models,
2.4 to 2.9 of scores, in simulations with ridges of 64 to 512 columns on 60 and 200 areas. Nadeau
and Bengio 2003 (Machine Learning 52:239, doi:10.1023/A:1024068626366) predict 2.25 for five folds:
1/J + n_test / n_train beside 1/J."""
_LEAST = 1e-9  # error whose logarithm is taken
_LARGEST = 700.0  # of what an exponential is taken


def stretch(values: Floats, score: str) -> Floats:
    """Return scores on the scale on which they are compared and widened: of R² −log(1 − R²), of
    RMSE and log loss the logarithm, of Spearman's correlation Fisher's z, others as they are.
    """
    if score == "r2":
        unexplained = np.maximum(1 - values, _LEAST)
        return -np.log(unexplained)
    if score in ("rmse", "log_loss"):
        positive = np.maximum(values, _LEAST)
        return np.log(positive)
    if score == "spearman":
        within = np.clip(values, _LEAST - 1, 1 - _LEAST)
        return np.arctanh(within)
    return values


def shrink(values: Floats, score: str) -> Floats:
    """Return scores from the scale of `stretch`."""
    bounded = np.clip(values, -_LARGEST, _LARGEST)
    if score == "r2":
        return 1 - np.exp(-bounded)
    if score in ("rmse", "log_loss"):
        return np.exp(bounded)
    if score == "spearman":
        return np.tanh(values)
    return np.clip(values, 0, 1)


def widen(interval: Interval, value: Floats, score: str) -> Interval:
    """Return the interval of a bootstrap as one over data sets."""
    middle = stretch(value, score)
    factor = np.sqrt(TRAINING_VARIANCE)
    ends = []
    for end in interval:
        distance = stretch(end, score) - middle
        widened = middle + factor * distance
        ends.append(shrink(widened, score))
    return Interval(*ends)
