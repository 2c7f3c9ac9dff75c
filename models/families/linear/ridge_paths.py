"""Solutions of ridge regression for every penalty, and what all solvers do with columns."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import ThreadpoolController

from extract.config.arrays import Bools, Floats, Matrix
from models.data.folds import Held

_ONE_THREAD = 1024  # rows or columns of the largest matrix that one thread factors as fast as two


class RidgePath(NamedTuple):
    """Solutions of one training set for every penalty: y = y_mean + (x − x_mean) · coef.

    Attributes
    ----------
    coef : (n_features, n_alphas, n_targets), of the features as they are stored.
    x_mean, y_mean : (n_features,) and (n_targets,), means of the training set.
    is_solved : (n_alphas, n_targets), false where the solver did not meet its tolerance.
    """

    coef: Matrix
    x_mean: Matrix
    y_mean: Floats
    is_solved: Bools


# Whether the penalties solved so far show that no smaller one can be the best.
Enough = Callable[[dict[Held, RidgePath]], bool]


def column_scales(variance: Floats, least: Floats, *, is_scaled: bool) -> Floats:
    """Return what each column is divided by: inf where it is constant, so that its coef is 0.

    Parameters
    ----------
    variance : of each column. least : what is taken for rounding.
    is_scaled : whether columns are standardised; else they are divided by 1.
    """
    spread = np.ones(variance.shape)
    if is_scaled:
        spread = np.sqrt(np.maximum(variance, 0))
    return np.where(variance <= least, np.inf, spread)


def rounding_variance(mean: Matrix, offset: Matrix) -> Floats:
    """Return the variance that rounding to float32 alone gives a constant column."""
    size = np.abs(mean) + np.abs(offset)
    step = 10 * np.finfo(np.float32).eps * size
    return np.square(step, dtype=np.float64)


def solve_shifted(system: Floats, right: Floats, alphas: Floats) -> Floats:
    """Solve (system + α) b = right for every α: (n, n_alphas, n_right).

    Twenty Cholesky factors cost less than one eigendecomposition: they are all matrix products.
    """
    from scipy.linalg import cho_factor, cho_solve  # slow to import

    n = len(system)
    out = np.empty((n, len(alphas), right.shape[1]))
    for i, alpha in enumerate(alphas):
        shifted = system.copy(order="F")
        shifted.flat[:: n + 1] += alpha
        factor = cho_factor(shifted, overwrite_a=True, check_finite=False)
        out[:, i] = cho_solve(factor, right, check_finite=False)
    return out


@lru_cache(maxsize=1)
def _pools() -> ThreadpoolController:
    return ThreadpoolController()


def few_threads(size: int) -> AbstractContextManager[Any]:
    """Limit BLAS to one thread for small matrices.

    More only wait for each other, twenty times as long on a busy machine.
    """
    if size > _ONE_THREAD:
        return nullcontext()
    return _pools().limit(limits=1, user_api="blas")
