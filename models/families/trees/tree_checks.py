"""Trees that a stranger may have written: the libraries that follow them look at no number before they use it as a place."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike


def check_downwards(left: ArrayLike, right: ArrayLike, feature: ArrayLike, n_features: int) -> None:
    """Check that a tree ends, and stays inside its arrays and the rows that it is asked about.

    Parameters
    ----------
    left, right : (n_nodes,), number of each node's children; −1 on the left of a leaf.
    feature : (n_nodes,), that a node looks at. n_features : of the rows.

    Raises
    ------
    ValueError : it does not: a child that does not come after its node, or is not there; a feature that is not there.
    """
    one, other, column = (np.asarray(values, np.int64) for values in (left, right, feature))
    inner = one != -1
    children = np.stack([one, other])[:, inner]
    number = np.arange(len(one))[inner]
    are_there = np.all((children > number) & (children < len(one))) and np.all(
        (column >= 0) & (column < n_features) | ~inner
    )
    if not len(one) or not are_there:
        raise ValueError("a tree whose nodes do not lead downwards, to features that are there")


def check_forest(estimators: list[Any]) -> None:
    """Check scikit-learn's trees, which are to see the features of the first; raises ValueError."""
    for estimator in estimators:
        tree = estimator.tree_
        if tree.node_count > tree.capacity:
            raise ValueError("a tree that claims more nodes than it has")
        check_downwards(
            tree.children_left, tree.children_right, tree.feature, estimators[0].n_features_in_
        )


def check_booster(document: dict[str, Any]) -> None:
    """Check XGBoost's trees, given as JSON; raises ValueError or KeyError."""
    learner = document["learner"]
    n_features = int(learner["learner_model_param"]["num_feature"])
    for tree in learner["gradient_booster"]["model"]["trees"]:
        check_downwards(
            tree["left_children"], tree["right_children"], tree["split_indices"], n_features
        )
