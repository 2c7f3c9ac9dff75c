"""Targets that are classes: text to numbers, numbers to a column a class, and what comes out of a fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from models.data.arrays import Floats, Ints


def list_classes(labels: pd.Series[Any]) -> list[str]:
    """Return the classes of a target in the order of the alphabet; of the whole table, so that no fold decides which there are."""
    return sorted({str(label) for label in labels.dropna()})


def code_labels(labels: pd.Series[Any]) -> Ints:
    """Return the number of each label among `list_classes`: (n,), −1 where it is missing."""
    return np.asarray(pd.Categorical(labels, categories=list_classes(labels)).codes, dtype=np.int64)


def spread_classes(code: Ints, n_classes: int) -> Floats:
    """Return a column a class, 1 where it is the row's, else 0: (n, n_classes), NaN where the label is missing."""
    return np.where(code[:, None] < 0, np.nan, code[:, None] == np.arange(n_classes))


def commonest(code: Ints, group: Ints) -> Ints:
    """Return the most frequent class of each group, the first of equals: (n_groups,), −1 where no row has a label.

    Parameters
    ----------
    code : (n,), number of the class, −1 where the label is missing. group : (n,), 0 … n_groups − 1, all there.
    """
    n_groups = int(group.max()) + 1
    n_classes = int(code.max(initial=0)) + 1
    known = code >= 0
    counts = np.bincount(
        group[known] * n_classes + code[known], minlength=n_groups * n_classes
    ).reshape(n_groups, n_classes)
    return np.where(counts.any(axis=1), counts.argmax(axis=1), -1)
