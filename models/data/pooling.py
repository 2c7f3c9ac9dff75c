"""Pool the tiles of a group, as of an area, into one row."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from extract.config.arrays import Bools, Float32s, Floats, Ints
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
    row_bytes = 8 * max(1, X.shape[1])
    n_at_once = max(1, _POOL_BYTES // row_bytes)
    n_tiles = np.bincount(row)
    first = np.cumsum(n_tiles) - n_tiles
    batch_of_row = first // n_at_once
    order = np.argsort(row, kind="stable")
    ordered = row[order]
    batch = batch_of_row[ordered]
    is_last = np.diff(batch) > 0
    ends = np.flatnonzero(is_last) + 1
    pieces = []
    for members in np.split(order, ends):
        piece = _pool_piece(X.rows(members), row[members])
        pieces.append(piece)
    pooled = np.concatenate(pieces)
    core, beside = np.split(pooled, [X.n_core], axis=2)
    features = Features(_flatten(core))
    if beside.size == 0:
        return features
    return replace(features, beside=_flatten(beside))


def _flatten(pooled: Float32s) -> Float32s:
    return pooled.reshape(len(pooled), -1)


def _pool_piece(X: Features, row: Ints) -> Float32s:
    """Return mean and deviation of consecutive tiles of a row: (n_rows, 2, n_features)."""
    chunks = [chunk for _, chunk in X.chunks()]
    values = np.vstack(chunks).astype(np.float64)
    is_first = np.diff(row, prepend=-1) > 0
    starts = np.flatnonzero(is_first)
    n = np.diff(starts, append=len(row))
    divisor = n[:, None]
    total = np.add.reduceat(values, starts)
    mean = total / divisor
    mean_of_tile = np.repeat(mean, n, axis=0)
    values -= mean_of_tile
    values **= 2
    squares = np.add.reduceat(values, starts)
    variance = squares / divisor
    deviation = np.sqrt(variance)
    pooled = np.stack([mean, deviation], axis=1)
    return pooled.astype(np.float32)


def mean_by_group(values: Floats, group: Ints) -> Floats:
    """Compute the mean of each column over the rows of each group that are not NaN.

    Parameters
    ----------
    values : (n, n_columns), NaN where missing.
    group : (n,), 0 … n_groups − 1, every group at least once.

    Returns
    -------
    (n_groups, n_columns), NaN where a group has no value.
    """
    groups = pd.DataFrame(values).groupby(group)
    return groups.mean().to_numpy()


def any_by_group(flags: Bools, group: Ints) -> Bools:
    """Return for each column whether it is true in some row of a group: (n_groups, n_columns)."""
    groups = pd.DataFrame(flags).groupby(group)
    return groups.any().to_numpy(np.bool_)
