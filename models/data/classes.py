"""Targets that are classes: from text to numbers, and from numbers to a column a class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from extract.config.arrays import Floats, Ints


def list_classes(labels: pd.Series[Any]) -> list[str]:
    """Return the classes of a target in alphabetical order.

    They are taken from the whole table, so that no fold decides which there are.
    """
    known = labels.dropna().unique()
    return sorted(map(str, known))


def code_labels(labels: pd.Series[Any]) -> Ints:
    """Return the index of each label in `list_classes`: (n,), −1 where it is missing."""
    classes = pd.Index(list_classes(labels))
    wanted = pd.Index(labels)
    codes = classes.get_indexer(wanted)
    return codes.astype(np.int64)


def spread_classes(code: Ints, n_classes: int) -> Floats:
    """Return the one-hot matrix of the labels: (n, n_classes), NaN where a label is missing."""
    rows = np.eye(n_classes)
    one_hot = rows[code]
    is_missing = code < 0
    one_hot[is_missing] = np.nan
    return one_hot


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
    n_groups = int(group.max()) + 1
    n_classes = int(code.max()) + 1
    counts = np.zeros((n_groups, n_classes + 1), dtype=np.int64)
    np.add.at(counts, (group, code), 1)
    counts[:, -1] = 0  # of the labels that are missing
    has_label = counts.any(axis=1)
    most = counts.argmax(axis=1)
    return np.where(has_label, most, -1)


def choose_classes(shares: Floats, classes: Sequence[str]) -> NDArray[np.object_]:
    """Return the likeliest class of each row, (n,); None where the row has no probabilities.

    Parameters
    ----------
    shares : (n, n_classes), probabilities in the order of `classes`; NaN where there are none.
    """
    names = np.array(classes, dtype=object)
    is_unknown = np.isnan(shares[:, 0])
    known = np.nan_to_num(shares)
    likeliest = known.argmax(axis=1)
    chosen = names[likeliest]
    chosen[is_unknown] = None
    return chosen
