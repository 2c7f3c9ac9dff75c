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
    children = np.array([left, right], np.int64)
    is_split = children[0] != -1
    node = np.flatnonzero(is_split)
    below = children[:, is_split]
    used = np.asarray(feature, np.int64)[is_split]
    ends = np.all(below > node) and np.all(below < len(is_split))
    has_features = np.all(used >= 0) and np.all(used < n_features)
    if not len(is_split) or not ends or not has_features:
        raise ValueError("a tree whose nodes do not lead downwards, to features that are there")


def check_forest(estimators: list[Any]) -> None:
    """Check scikit-learn's trees, which all have the features of the first; raises ValueError."""
    for estimator in estimators:
        tree = estimator.tree_
        if tree.node_count > tree.capacity:
            raise ValueError("a tree that claims more nodes than it has")
        n_features = estimators[0].n_features_in_
        check_tree(tree.children_left, tree.children_right, tree.feature, n_features)


def check_booster(document: dict[str, Any]) -> None:
    """Check XGBoost's trees, given as its JSON; raises ValueError or KeyError."""
    learner = document["learner"]
    n_features = int(learner["learner_model_param"]["num_feature"])
    for tree in learner["gradient_booster"]["model"]["trees"]:
        features = tree["split_indices"]
        check_tree(tree["left_children"], tree["right_children"], features, n_features)
