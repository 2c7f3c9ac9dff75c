"""Numbers in the type that they are stored in, and what is lost of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from extract.config.arrays import Array, Floats

LEAST_COSINE = 0.999


def saturate(values: Array, dtype: np.dtype[Any]) -> Array:
    """Convert to the stored type; values beyond its range become its largest, never infinity."""
    if values.dtype == dtype and not _has_infinity(values):
        return values
    largest = float(np.finfo(dtype).max)
    return np.clip(values, -largest, largest).astype(dtype)


def _has_infinity(values: Array) -> bool:
    if values.dtype != np.float16:
        return bool(np.isinf(values).any())
    # NumPy takes float16 one by one, ten times as long
    bits = values.view(np.uint16)
    without_sign = bits & 0x7FFF
    is_infinite = without_sign == 0x7C00
    return bool(is_infinite.any())


def describe_loss(values: Array, dtype: str, *, most_lost: float = 0.0) -> str:
    """Describe what a stored type loses of embeddings; empty where it keeps what matters.

    Each column, about its mean, is compared with what is stored of it by the cosine of the two:
    numbers below 6e-8 vanish in float16, and beside 30000 it knows steps of 16 alone.

    Parameters
    ----------
    values : (n_rows, …) float32, some rows of a cut; rows that are not finite do not count.
    most_lost : share of the columns that may be lost, 0 … 1.
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
    cosine = _cosine(exact[:, varies], stored[:, varies])
    is_lost = cosine < LEAST_COSINE
    n_lost = int(is_lost.sum())
    if n_lost <= most_lost * len(is_lost):
        return ""
    return (
        f"{n_lost} of {columns.shape[1]} columns are lost in {dtype} (constant there, or with a "
        f"cosine below {LEAST_COSINE} to float32)"
    )


def _centre(columns: Array) -> Floats:
    wide = columns.astype(np.float64)
    is_constant = (columns == columns[:1]).all(axis=0)
    centred = wide - wide.mean(axis=0)
    centred[:, is_constant] = 0  # their mean may be rounded
    return centred


def _cosine(a: Floats, b: Floats) -> Floats:
    """Return the cosine of each pair of columns, 0 where one is zero."""
    inner = (a * b).sum(axis=0)
    norm_of_a = np.linalg.norm(a, axis=0)
    norm_of_b = np.linalg.norm(b, axis=0)
    norms = norm_of_a * norm_of_b
    norms[norms == 0] = 1.0
    return np.asarray(inner / norms)
