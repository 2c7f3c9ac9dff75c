"""Search for the nearest rows once, and predict from any number of them by any weighting."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np

from extract.config.arrays import Floats, Ints, Matrix
from models.families.fit_results import Chosen
from models.families.training_rows import Task, TrainingRows, labelled_groups

Weighting = Literal["uniform", "distance"]
N_NEIGHBORS = (1, 2, 3, 5, 8, 12, 20, 30, 50, 80)
WEIGHTS: tuple[Weighting, ...] = ("uniform", "distance")
_DEFAULT = 5  # neighbours where there are no folds to choose on
_BATCH = 1024


class Nearest(NamedTuple):
    """Neighbours of some rows, the nearest first: distance and number of each, both (n_asked,
    k).
    """

    distance: Floats
    order: Ints


Search = Callable[[Matrix, Matrix, int], Nearest]  # (known rows, asked rows, k)


class Choice(NamedTuple):
    """What is chosen from, and how.

    Attributes
    ----------
    search : finds the nearest rows.
    n_neighbors, weights : the numbers and the weightings.
    task : `class` to choose once for all columns.
    by_hits : choose by balanced accuracy, and by squared errors among equals.
    """

    search: Search
    n_neighbors: Sequence[int]
    weights: Sequence[Weighting]
    task: Task
    by_hits: bool = False

    def choose(self, X: Matrix, data: TrainingRows) -> tuple[list[Chosen], Floats]:
        """Return number and weighting of each target, and the weighted sum of squared errors they
        had on the folds.

        Each row is predicted from the rows that its fold may see. Without folds nothing can be
        chosen: the number nearest to 5, and errors of zero.

        Parameters
        ----------
        X : (n, d), what is searched. data : the rows, without NaN among their labels.
        """
        Y = data.Y
        weight = data.weight
        n_targets = Y.shape[1]
        splits = list(data.folds.splits())
        if not splits:
            default = self._choose_unseen(len(X))
            no_errors = np.zeros(n_targets)
            return [default] * n_targets, no_errors
        fewest = min(len(train) for train, _ in splits)
        usable = [k for k in self.n_neighbors if k <= fewest]
        ks = np.unique(usable or [fewest])
        largest = int(ks[-1])
        tally = _Tally((len(self.weights), len(ks), n_targets))
        for train, held in splits:
            found = self.search(X[train], X[held], largest)
            known = Y[train]
            counts = weight[train]
            for w, weighting in enumerate(self.weights):
                blended = blend(found, known, counts, ks=ks, weighting=weighting)
                for part, predicted in blended:
                    rows = held[part]
                    tally.add(w, predicted, Y[rows], weight[rows])
        errors = tally.sum_errors(self.task)
        best = errors.argmin(axis=0)
        if self.by_hits:
            best[:] = tally.find_most_hits()
        chosen: list[Chosen] = []
        for number in best.tolist():
            w, k = divmod(number, len(ks))
            one = {
                "n_neighbors": int(ks[k]),
                "weights": self.weights[w],
            }
            chosen.append(one)
        columns = np.arange(n_targets)
        return chosen, errors[best, columns]

    def _choose_unseen(self, n_rows: int) -> Chosen:
        """Return what is taken where there are no folds to choose on."""
        ks = np.sort(self.n_neighbors)
        distance = np.abs(ks - _DEFAULT)
        nearest = int(ks[distance.argmin()])
        return {
            "n_neighbors": min(nearest, n_rows),
            "weights": self.weights[0],
        }


class _Tally:
    """Weighted squared errors of every choice, and its hits where columns are classes.

    Parameters
    ----------
    shape : n_weights, n_numbers, n_targets.
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self._n_targets = shape[2]
        self._errors = np.zeros(shape)
        self._hits = np.zeros(shape)
        self._true = np.zeros(self._n_targets)

    def add(self, w: int, predicted: Floats, truth: Floats, weight: Floats) -> None:
        """Add rows that a weighting predicts from every number: (n, n_numbers, n_targets)."""
        residuals = predicted - truth[:, None]
        squares = residuals**2
        self._errors[w] += np.tensordot(weight, squares, axes=1)
        weighted = weight[:, None] * truth
        likeliest = predicted.argmax(axis=2)
        true = truth.argmax(axis=1)
        is_right = likeliest == true[:, None]
        self._hits[w] += is_right.T @ weighted
        self._true += weighted.sum(axis=0)

    def sum_errors(self, task: Task) -> Floats:
        """Return the errors of every choice: (n_weights × n_numbers, n_targets).

        Of classes, in each column the sum over all.
        """
        errors = self._errors.reshape(-1, self._n_targets)
        if task == "class":
            total = errors.sum(axis=1, keepdims=True)
            errors[:] = total
        return errors

    def find_most_hits(self) -> int:
        """Return the choice of the highest balanced accuracy, of equals that of least error."""
        is_there = self._true > 0
        hits = self._hits[..., is_there]
        true = self._true[is_there]
        recall = hits / true
        accuracy = recall.mean(axis=2)
        missed = -accuracy.round(12)
        errors = self._errors.sum(axis=2)
        order = np.lexsort([errors.ravel(), missed.ravel()])
        return int(order[0])


def predict_nearest(
    search: Search, X: Matrix, Y: Floats, asked: Matrix, *, weight: Floats, chosen: Sequence[Chosen]
) -> Floats:
    """Return the weighted mean label of the nearest labelled rows, for every asked row and target:
    (n_asked, n_targets).
    """
    out = np.empty((len(asked), Y.shape[1]))
    for rows, columns in labelled_groups(Y):
        of_columns = [chosen[t] for t in columns]
        wanted = np.array([one["n_neighbors"] for one in of_columns])
        sizes = np.minimum(wanted, len(rows))
        weightings = np.array([one["weights"] for one in of_columns])
        ks = np.unique(sizes)
        largest = int(ks[-1])
        counts = weight[rows]
        found = search(X[rows], asked, largest)
        for weighting in WEIGHTS:
            is_mine = weightings == weighting
            targets = columns[is_mine]
            if not len(targets):
                continue
            known = Y[np.ix_(rows, targets)]
            place = np.searchsorted(ks, sizes[is_mine])
            each = np.arange(len(targets))
            for part, predicted in blend(found, known, counts, ks=ks, weighting=weighting):
                out[part, targets] = predicted[:, place, each]
    return out


def blend(
    found: Nearest, Y: Floats, weight: Floats, *, ks: Ints, weighting: Weighting
) -> Iterator[tuple[slice, Floats]]:
    """Yield (asked rows, their predictions (n, n_k, n_targets)) a batch: weighted means over the
    first k neighbours.

    Parameters
    ----------
    found : neighbours among the rows of Y, at least as many as the largest k.
    ks : increasing.
    """
    starts = np.concatenate([[0], ks[:-1]])
    largest = ks[-1]
    for start in range(0, len(found.order), _BATCH):
        part = slice(start, start + _BATCH)
        index = found.order[part, :largest]
        counts = weight[index]
        if weighting == "distance":
            distance = found.distance[part, :largest]
            counts = counts * _nearness(distance)
        counts = counts[:, :, None]
        weighted = counts * Y[index]
        labels = _sum_first(weighted, starts)
        total = _sum_first(counts, starts)
        yield part, labels / total


def _sum_first(values: Floats, starts: Ints) -> Floats:
    """Return sums over the first neighbours, up to each start and the last: (n, n_k, n_targets)."""
    between = np.add.reduceat(values, starts, axis=1)
    sums: Floats = between.cumsum(axis=1)
    return sums


def _nearness(distance: Floats) -> Floats:
    """Return one over the distance; where a neighbour is at distance zero, such neighbours alone
    count.
    """
    with np.errstate(divide="ignore"):
        nearness = 1 / distance.astype(np.float64)
    is_same = np.isinf(nearness)
    has_same = is_same.any(axis=1, keepdims=True)
    return np.where(has_same, is_same, nearness)


def search_all(X: Matrix, asked: Matrix, k: int) -> Nearest:
    """Search by comparing each with each, a block at a time."""
    from sklearn.neighbors import NearestNeighbors

    index = NearestNeighbors(n_neighbors=k, algorithm="brute")
    index.fit(X)
    distance, order = index.kneighbors(asked)
    return Nearest(distance, order)


def search_map(X: Matrix, asked: Matrix, k: int) -> Nearest:
    """Search in a tree: for two or three columns."""
    from scipy.spatial import cKDTree

    tree = cKDTree(X)
    ranks = np.arange(1, k + 1)
    distance, order = tree.query(asked, k=ranks)
    return Nearest(distance, order)
