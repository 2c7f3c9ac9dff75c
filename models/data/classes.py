"""Targets that are classes: from text to numbers, and from numbers to a column a class."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from extract.config.arrays import Floats, Ints


def list_classes(labels: pd.Series[Any]) -> list[str]:
    """Return the classes of a target in alphabetical order.

    They are taken from the whole table, so that no fold decides which there are.
    """
    return sorted({str(label) for label in labels.dropna()})


def code_labels(labels: pd.Series[Any]) -> Ints:
    """Return the index of each label in `list_classes`: (n,), −1 where it is missing."""
    codes = pd.Categorical(labels, categories=list_classes(labels)).codes
    return np.asarray(codes, dtype=np.int64)


def spread_classes(code: Ints, n_classes: int) -> Floats:
    """Return the one-hot matrix of the labels: (n, n_classes), NaN where a label is missing."""
    one_hot = code[:, None] == np.arange(n_classes)
    return np.where(code[:, None] < 0, np.nan, one_hot)


def commonest(code: Ints, group: Ints) -> Ints:
    """Return the most frequent class of each group, the first of equals.

    Parameters
    ----------
    code : (n,), index of the class, −1 where the label is missing.
    group : (n,), 0 … n_groups − 1, every group at least once.

    Returns
    -------
    (n_groups,), −1 where no row of a group has a label.
    """
    is_known = code >= 0
    counts = np.zeros((int(group.max()) + 1, int(code.max(initial=0)) + 1), dtype=np.int64)
    np.add.at(counts, (group[is_known], code[is_known]), 1)
    return np.where(counts.any(axis=1), counts.argmax(axis=1), -1)
