"""Boosted trees that see one group of the columns each, and cost no more than that group.

Where XGBoost samples columns for a tree it builds the histograms of all of them all the same, as its rows lie together; so
many columns are dealt out once, and a round takes the matrix of one group. A group's trees are grown by a booster of its own,
on the gradients of what all groups add up to; in the end they are one booster.

Columns of two groups never meet in one tree. On planted embeddings, whose columns say much the same, that costs nothing that
could be measured; when 200 columns that say different things were dealt out, R² was 0.04 lower, and what only two columns tell
together is lost where they lie apart. Few columns are therefore one group, from which XGBoost samples.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.data.arrays import Floats, Ints

if TYPE_CHECKING:
    import xgboost

_MOST_GROUPS = 16
_FEW_COLUMNS = 256  # fewer are one group
_LEAST_HESSIAN = 1e-16  # as XGBoost has it


def count_groups(n_features: int, share: float) -> int:
    """Describe to how many groups columns are dealt out of which a tree is to see this share."""
    return 1 if n_features < _FEW_COLUMNS else max(1, min(_MOST_GROUPS, int(1 / share)))


def deal_columns(n_features: int, share: float, seed: int) -> list[Ints]:
    """Deal the columns out at random: increasing numbers of each group's."""
    dealt = np.random.default_rng(seed).permutation(n_features)
    return [np.sort(group) for group in np.array_split(dealt, count_groups(n_features, share))]


class Rows(NamedTuple):
    """Some rows: binned, a matrix a group; with the labels (numbers of the classes where they are classes), and weights."""

    binned: list[xgboost.QuantileDMatrix]
    labels: NDArray[np.float32]
    weights: Floats


class Sums:
    """What the trees add up to on some rows: `total` is (n_rows, n_outputs), before any link."""

    def __init__(self, rows: Rows, start: NDArray[np.float32]) -> None:
        self.rows = rows
        self.total = np.tile(start.astype(np.float64), (len(rows.labels), 1))
        self._own: list[Any] = [0.0] * len(rows.binned)

    def add(self, booster: xgboost.Booster, group: int) -> None:
        """Add what the group's booster has grown since."""
        now = booster.predict(
            self.rows.binned[group], output_margin=True, validate_features=False
        ).reshape(self.total.shape)
        self.total += now - self._own[group]
        self._own[group] = now

    @property
    def shares(self) -> Floats:
        """Softmax: each class's share."""
        powers = np.exp(self.total - self.total.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)


class GroupedBooster:
    """Trees for one target, or for all classes together; squared error, or the log loss of softmax.

    Parameters
    ----------
    rows : to grow on; those of weight 0 do not count.
    groups : each group's columns.
    n_classes : 0 where the labels are numbers.
    parameters : XGBoost's; its `seed` also says in which order the groups take their turns.
    """

    def __init__(
        self, rows: Rows, groups: Sequence[Ints], *, n_classes: int, parameters: Mapping[str, Any]
    ) -> None:
        import xgboost

        task = (
            {"objective": "multi:softprob", "num_class": n_classes}
            if n_classes
            else {"objective": "reg:squarederror"}
        )
        self._boosters = [
            xgboost.Booster({**parameters, **task, "base_score": 0.0}, [binned])
            for binned in rows.binned
        ]
        self._groups = groups
        self._n_classes = n_classes
        self._parameters = parameters
        self._start = self._find_start(rows)
        self._sums = self.watch(rows)
        self._turns: list[int] = []

    def _find_start(self, rows: Rows) -> NDArray[np.float32]:
        if not self._n_classes:
            return np.asarray([np.average(rows.labels, weights=rows.weights)], np.float32)
        counts = np.bincount(rows.labels.astype(np.int64), rows.weights, self._n_classes)
        start = np.log(np.maximum(counts / counts.sum(), 1e-6))
        return np.asarray(start - start.mean(), np.float32)

    def watch(self, rows: Rows) -> Sums:
        """Return the sums of rows, to which nothing was added yet; for `error`, after every round."""
        return Sums(rows, self._start)

    def add_round(self) -> int:
        """Grow a tree, or one a class, from the group whose turn it is; gives the group."""
        i = len(self._turns)
        n_groups = len(self._groups)
        group = int(
            np.random.default_rng((self._parameters["seed"], i // n_groups)).permutation(n_groups)[
                i % n_groups
            ]
        )
        gradient, hessian = self._derive(self._sums)
        self._boosters[group].boost(
            self._sums.rows.binned[group], iteration=i, grad=gradient, hess=hessian
        )
        self._sums.add(self._boosters[group], group)
        self._turns.append(group)
        return group

    @property
    def n_rounds(self) -> int:
        """How many rounds were grown."""
        return len(self._turns)

    def _derive(self, sums: Sums) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the gradient and the second derivative of the loss: (n_rows,), of classes (n_rows, n_classes)."""
        weights = sums.rows.weights
        if not self._n_classes:
            return ((sums.total[:, 0] - sums.rows.labels) * weights).astype(
                np.float32
            ), weights.astype(np.float32)
        shares = sums.shares
        hessian = np.maximum(2 * shares * (1 - shares), _LEAST_HESSIAN) * weights[:, None]
        shares[np.arange(len(shares)), sums.rows.labels.astype(np.int64)] -= 1
        return (shares * weights[:, None]).astype(np.float32), hessian.astype(np.float32)

    def error(self, sums: Sums, group: int) -> float:
        """Bring watched sums up to date after the group's turn; gives their root mean squared error, or log loss of classes."""
        sums.add(self._boosters[group], group)
        labels = sums.rows.labels
        weights = sums.rows.weights
        if not self._n_classes:
            return float(np.sqrt(np.average((sums.total[:, 0] - labels) ** 2, weights=weights)))
        own = sums.shares[np.arange(len(labels)), labels.astype(np.int64)]
        return float(np.average(-np.log(np.maximum(own, _LEAST_HESSIAN)), weights=weights))

    def merge(self, n_rounds: int) -> xgboost.Booster:
        """Return the first rounds as one booster on all columns, in the order in which they were grown."""
        import xgboost

        documents = [json.loads(booster.save_raw("json")) for booster in self._boosters]
        grown = [
            iter(document["learner"]["gradient_booster"]["model"]["trees"])
            for document in documents
        ]
        n_features = sum(map(len, self._groups))
        a_round = max(1, self._n_classes)
        trees = list[dict[str, Any]]()
        for group in self._turns[:n_rounds]:
            for _ in range(a_round):
                tree = next(grown[group])
                tree["id"] = len(trees)
                tree["split_indices"] = self._groups[group][tree["split_indices"]].tolist()
                tree["tree_param"]["num_feature"] = str(n_features)
                trees.append(tree)
        learner = documents[0]["learner"]
        learner["learner_model_param"] |= {
            "num_feature": str(n_features),
            "base_score": str([float(v) for v in self._start]),
        }
        model = learner["gradient_booster"]["model"]
        model["gbtree_model_param"]["num_trees"] = str(len(trees))
        model |= {
            "trees": trees,
            "tree_info": [i % a_round for i in range(len(trees))],
            "iteration_indptr": list(range(0, len(trees) + 1, a_round)),
        }
        booster = xgboost.Booster({"nthread": self._parameters["nthread"]})
        booster.load_model(bytearray(json.dumps(documents[0]).encode()))
        return booster
