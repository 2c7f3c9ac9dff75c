"""Pool the tiles of a group, as of an area, into one row."""

from __future__ import annotations

import numpy as np

from extract.config.arrays import Bools, Floats, Ints
from models.data.features import Features

_POOL_BYTES = 256 << 20  # of float64 tiles that are pooled at once


def pool_rows(X: Features, row: Ints) -> Features:
    """Compute mean and standard deviation of the features over the tiles of each row.

    Parameters
    ----------
    row : (n_tiles,), 0 … n_rows − 1, every row at least once.

    Returns
    -------
    (n_rows, 2 · n_features): means, then standard deviations, of the embedding; then the same of
    the columns beside it.
    """
    order = np.argsort(row, kind="stable")
    starts = np.flatnonzero(np.diff(row[order], prepend=-1))
    n_rows = len(starts)
    bounds = np.append(starts, len(order))
    pooled = np.empty((n_rows, 2, X.shape[1]), np.float32)
    n_at_once = max(1, _POOL_BYTES // (8 * max(1, X.shape[1])))
    is_new_batch = np.diff(starts // n_at_once) > 0
    for batch in np.split(np.arange(n_rows), np.flatnonzero(is_new_batch) + 1):
        members = order[bounds[batch[0]] : bounds[batch[-1] + 1]]
        pooled[batch] = _pool_batch(X.rows(members), starts[batch] - starts[batch[0]])
    core = pooled[:, :, : X.n_core].reshape(n_rows, -1)
    beside = pooled[:, :, X.n_core :].reshape(n_rows, -1)
    return Features(core, beside=beside if beside.size else None)


def _pool_batch(X: Features, starts: Ints) -> Floats:
    """Return mean and deviation of groups of consecutive rows: (n_groups, 2, n_features)."""
    values = np.vstack([chunk for _, chunk in X.chunks()]).astype(np.float64)
    n = np.diff(starts, append=len(values))
    mean = np.add.reduceat(values, starts) / n[:, None]
    values -= np.repeat(mean, n, axis=0)
    variance = np.add.reduceat(values**2, starts) / n[:, None]
    return np.stack([mean, np.sqrt(variance)], axis=1)


def mean_by_group(values: Floats, group: Ints) -> Floats:
    """Compute the mean of each column over the rows of each group that are not NaN.

    Parameters
    ----------
    values : (n, n_columns), NaN where missing.
    group : (n,), 0 … n_groups − 1.

    Returns
    -------
    (n_groups, n_columns), NaN where a group has no value.
    """
    n_groups = int(group.max()) + 1
    is_known = ~np.isnan(values)
    n = np.zeros((n_groups, values.shape[1]))
    total = np.zeros_like(n)
    np.add.at(n, group, is_known)
    np.add.at(total, group, np.where(is_known, values, 0.0))
    return np.divide(total, n, out=np.full_like(n, np.nan), where=n > 0)


def any_by_group(flags: Bools, group: Ints) -> Bools:
    """Return for each column whether it is true in some row of a group: (n_groups, n_columns)."""
    found = np.zeros((int(group.max()) + 1, flags.shape[1]), dtype=np.bool_)
    np.logical_or.at(found, group, flags)
    return found
