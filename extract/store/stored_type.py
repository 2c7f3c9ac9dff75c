"""What a stored type loses of some numbers."""

from __future__ import annotations

import numpy as np

from extract.config.arrays import Array, Floats
from extract.store.shards import saturate

LEAST_COSINE = 0.999


def describe_loss(values: Array, dtype: str) -> str:
    """Describe what a stored type loses of embeddings; empty where it keeps what matters.

    Each column, about its mean, is compared with what is stored of it by the cosine of the two:
    numbers below 6e-8 vanish in float16, and beside 30000 it knows steps of 16 alone.

    Parameters
    ----------
    values : (n_rows, …) float32, some rows of a cut; rows that are not finite do not count.
    """
    if dtype == "float32":
        return ""
    columns = values.reshape(len(values), -1)
    is_finite = np.isfinite(columns).all(axis=1)
    columns = columns[is_finite]
    if not len(columns):
        return ""
    stored_columns = saturate(columns, np.dtype(dtype))
    exact = _centre(columns)
    stored = _centre(stored_columns)
    varies = exact.any(axis=0)
    still_varies = stored.any(axis=0)
    n_vanished = int((varies & ~still_varies).sum())
    if n_vanished:
        return f"{n_vanished} of {columns.shape[1]} columns vanish in {dtype}"
    cosines = _cosine(exact[:, varies], stored[:, varies])
    least = cosines.min(initial=1.0)
    if least >= LEAST_COSINE:
        return ""
    return f"cosine {least:.4f} of a column in {dtype} to float32, {LEAST_COSINE} is the least"


def _centre(columns: Array) -> Floats:
    wide = columns.astype(np.float64)
    is_constant = (columns == columns[:1]).all(axis=0)
    centred = wide - wide.mean(axis=0)
    centred[:, is_constant] = 0  # their mean may be rounded
    return centred


def _cosine(a: Floats, b: Floats) -> Floats:
    inner = (a * b).sum(axis=0)
    a_norms = np.linalg.norm(a, axis=0)
    b_norms = np.linalg.norm(b, axis=0)
    return np.asarray(inner / (a_norms * b_norms))
