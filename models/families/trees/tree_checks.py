"""Checks of trees that a stranger may have written.

The libraries that follow trees look at no node before they use it as an index.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike


def check_tree(left: ArrayLike, right: ArrayLike, feature: ArrayLike, n_features: int) -> None:
    """Check that a tree ends, and stays inside its arrays and the rows that it is asked about.

    Parameters
    ----------
    left, right : (n_nodes,), number of each node's children; −1 on the left of a leaf.
    feature : (n_nodes,), that a node splits on. n_features : of the rows.

    Raises
    ------
    ValueError : a child that does not come after its node, or is not there; a feature that is not
        there.
    """
    first = np.asarray(left, np.int64)
    second = np.asarray(right, np.int64)
    node = np.flatnonzero(first != -1)
    used = np.asarray(feature, np.int64)[node]
    is_whole = len(first) > 0
    for child in (first[node], second[node]):
        is_below = (child > node) & (child < len(first))
        is_whole &= bool(is_below.all())
    is_there = (used >= 0) & (used < n_features)
    if not is_whole or not is_there.all():
        raise ValueError("a tree whose nodes do not lead downwards, to features that are there")


def check_forest(estimators: list[Any]) -> None:
    """Check scikit-learn's trees, which all have the features of the first; raises ValueError."""
    for estimator in estimators:
        tree = estimator.tree_
        if tree.node_count > tree.capacity:
            raise ValueError("a tree that claims more nodes than it has")
        check_tree(
            left=tree.children_left,
            right=tree.children_right,
            feature=tree.feature,
            n_features=estimators[0].n_features_in_,
        )


def check_booster(document: dict[str, Any]) -> None:
    """Check XGBoost's trees, given as its JSON; raises ValueError or KeyError."""
    learner = document["learner"]
    shape = learner["learner_model_param"]
    n_features = int(shape["num_feature"])
    model = learner["gradient_booster"]["model"]
    for tree in model["trees"]:
        check_tree(
            left=tree["left_children"],
            right=tree["right_children"],
            feature=tree["split_indices"],
            n_features=n_features,
        )
