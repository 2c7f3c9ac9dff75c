"""Predict by the k nearest neighbours, with one search for every k, weighting and target."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from typing import Literal, NamedTuple, Self

import numpy as np

from extract.config.arrays import Bools, Floats, Ints, Matrix
from models.data.features import Features
from models.data.folds import Folds
from models.families.family import NO_CONTEXT, Chosen, Family, FitContext, Task, labelled_groups

Weighting = Literal["uniform", "distance"]
K_CHOICES = (1, 2, 3, 5, 8, 12, 20, 30, 50, 80)
WEIGHTINGS: tuple[Weighting, ...] = ("uniform", "distance")
MAX_SEARCH = 200_000  # a search compares each row with each: an hour on two cores at 512 features
_DEFAULT_K = 5  # where there are no folds to choose on
_BATCH = 1024


class Nearest(NamedTuple):
    """Neighbours of some rows, the nearest first: distance and number of each, both (n_asked,
    k).
    """

    distance: Floats
    order: Ints


Search = Callable[[Matrix, Matrix, int], Nearest]  # (known rows, asked rows, k)


class Neighbours(Family):
    """Predict the mean label of the k nearest tiles, or the shares of their classes.

    k and weighting of each target are chosen on the inner folds.

    The same as scikit-learn's `KNeighborsRegressor` behind a `StandardScaler` and, for `cosine`, a
    `Normalizer`, which are fitted on the training rows of each fold. (One scaling for all folds
    would need a quarter of the search, and no label has a part in it, but it would be no fitted
    pipeline.) Weights of rows multiply those of the weighting.

    Parameters
    ----------
    k_choices : the k to choose from.
    weightings : `uniform`, `distance` (one over the distance), or both to choose from.
    metric : `cosine` (distance between rows scaled to length one, which orders as the cosine does)
        or `euclidean`.
    max_search : most training rows that are searched unasked.
    sample : number of training rows, drawn at random, that are searched where there are more; None
        for all.
    standardise : false leaves the columns their scale, as those of a PCA need.
    centre : false leaves the columns where they are; so, with `standardise` false too, `cosine` is
        that of the raw rows.
    seed : of the draw.
    """

    def __init__(
        self,
        k_choices: tuple[int, ...] = K_CHOICES,
        weightings: tuple[Weighting, ...] = WEIGHTINGS,
        metric: Literal["cosine", "euclidean"] = "cosine",
        max_search: int = MAX_SEARCH,
        sample: int | None = None,
        standardise: bool = True,
        centre: bool = True,
        seed: int = 0,
        task: Task = "number",
    ) -> None:
        self.k_choices = k_choices
        self.weightings = weightings
        self.metric = metric
        self.max_search = max_search
        self.sample = sample
        self.standardise = standardise
        self.centre = centre
        self.seed = seed
        self.task = task

    def fit(
        self,
        X: Features,
        Y: Floats,
        *,
        folds: Folds,
        weight: Floats,
        context: FitContext = NO_CONTEXT,
    ) -> Self:
        """Keep the scaled rows, and choose k and weighting of every target on the folds.

        Raises
        ------
        ValueError : more rows than `max_search`, and no sample asked for.
        FeaturesError : the rows do not fit into memory.
        """
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import Normalizer, StandardScaler

        drawn = self.draw_rows(len(X))
        if drawn is not None:
            X = X.rows(drawn)
            Y = Y[drawn]
            folds = folds.take(drawn)
            weight = weight[drawn]
        X.check_fits()
        scaler = StandardScaler(with_mean=self.centre, with_std=self.standardise)
        for _, chunk in X.chunks():
            scaler.partial_fit(chunk)
        steps = [scaler, Normalizer()] if self.metric == "cosine" else [scaler]
        self.scaler_ = make_pipeline(*steps)
        self.X_ = np.empty(X.shape, np.float32)
        self.Y_ = Y
        self.weight_ = weight
        for piece, chunk in X.chunks():
            self.X_[piece] = self.scaler_.transform(chunk)
        self.chosen_ = [{} for _ in range(Y.shape[1])]
        for rows, columns in labelled_groups(Y):
            choice = Choice(search_all, self.k_choices, self.weightings, self.task)
            chosen, _ = choice.choose(
                self.X_[rows], Y[np.ix_(rows, columns)], folds=folds.take(rows), weight=weight[rows]
            )
            for t, one in zip(columns, chosen, strict=True):
                self.chosen_[t] = one
        return self

    def draw_rows(self, n: int) -> Ints | None:
        """Return the rows of n training rows that are searched; None for all.

        Raises
        ------
        ValueError : more than `max_search`, and no sample asked for.
        """
        if self.sample is not None and self.sample < n:
            return np.sort(np.random.default_rng(self.seed).choice(n, self.sample, replace=False))
        if n > self.max_search:
            raise ValueError(
                "knn: its search compares each tile with each; expected at most "
                f"{self.max_search} training tiles, got {n}. Set knn_sample = "
                f"{self.max_search // 4} in [models] to search that many, drawn at random, or take "
                "knn out of names."
            )
        return None

    def without(self, known: Bools) -> Self:
        """Return the same model, blind to the kept rows where `known` is false: (n_kept,)."""
        blind = copy(self)
        blind.X_ = self.X_[known]
        blind.Y_ = self.Y_[known]
        blind.weight_ = self.weight_[known]
        return blind

    def find_nearest(self, X: Features, k: int) -> Nearest:
        """Return the k nearest kept rows of each row, the nearest first."""
        return search_all(self.X_, self.scaler_.transform(X.array()), k)

    def predict(self, X: Features) -> Floats:
        """Average the nearest labels: (n_rows, n_targets)."""
        out = np.empty((len(X), self.Y_.shape[1]))
        for rows, chunk in X.chunks():
            asked = self.scaler_.transform(chunk)
            out[rows] = predict_nearest(
                search_all, self.X_, self.Y_, asked, weight=self.weight_, chosen=self.chosen_
            )
        return out


class Choice(NamedTuple):
    """What is chosen from: a search, the k and the weightings; and for what task."""

    search: Search
    k_choices: Sequence[int]
    weightings: Sequence[Weighting]
    task: Task

    def choose(
        self, X: Matrix, Y: Floats, *, folds: Folds, weight: Floats
    ) -> tuple[list[Chosen], Floats]:
        """Return k and weighting of each target, and the weighted sum of squared errors they had on
        the folds.

        Each row is predicted from the rows that its fold may see. Without folds nothing can be
        chosen: the k nearest to 5, and errors of zero.

        Parameters
        ----------
        X : (n, d). Y : (n, n_targets), no NaN. folds, weight : of the rows.
        """
        splits = [(train, held) for train, held in folds.splits() if len(train) and len(held)]
        largest = min((len(train) for train, _ in splits), default=0)
        ks = np.unique([k for k in self.k_choices if k <= largest] or [max(largest, 1)])
        if not largest:
            nearest = min(sorted(self.k_choices), key=lambda k: abs(k - _DEFAULT_K))
            default: Chosen = {"k": min(nearest, len(X)), "weighting": self.weightings[0]}
            return [default] * Y.shape[1], np.zeros(Y.shape[1])
        errors = np.zeros((len(self.weightings), len(ks), Y.shape[1]))
        for train, held in splits:
            found = self.search(X[train], X[held], int(ks[-1]))
            for w, weighting in enumerate(self.weightings):
                for part, predicted in blend(
                    found, Y[train], weight[train], ks=ks, weighting=weighting
                ):
                    errors[w] += np.tensordot(
                        weight[held][part], (predicted - Y[held][part, None]) ** 2, axes=1
                    )
        if self.task == "class":
            errors[:] = errors.sum(axis=-1, keepdims=True)
        flat = errors.reshape(-1, Y.shape[1])
        best = flat.argmin(axis=0)
        chosen: list[Chosen] = [
            {"k": int(ks[b % len(ks)]), "weighting": self.weightings[b // len(ks)]} for b in best
        ]
        return chosen, flat.min(axis=0)


def predict_nearest(
    search: Search, X: Matrix, Y: Floats, asked: Matrix, *, weight: Floats, chosen: Sequence[Chosen]
) -> Floats:
    """Weighted mean label of the nearest labelled rows, for every asked row and target: (n_asked,
    n_targets).
    """
    out = np.empty((len(asked), Y.shape[1]))
    for rows, columns in labelled_groups(Y):
        k_of = np.array([min(chosen[t]["k"], len(rows)) for t in columns])
        ks = np.unique(k_of)
        found = search(X[rows], asked, int(k_of.max()))
        for weighting in sorted({chosen[t]["weighting"] for t in columns}):
            mine = np.array(
                [i for i, t in enumerate(columns) if chosen[t]["weighting"] == weighting]
            )
            known = Y[np.ix_(rows, columns[mine])]
            for part, predicted in blend(found, known, weight[rows], ks=ks, weighting=weighting):
                for i, m in enumerate(mine):
                    out[part, columns[m]] = predicted[:, np.searchsorted(ks, k_of[m]), i]
    return out


def blend(
    found: Nearest, Y: Floats, weight: Floats, *, ks: Ints, weighting: Weighting
) -> Iterator[tuple[slice, Floats]]:
    """Return (asked rows, their predictions (n, n_k, n_targets)) a batch: weighted means over the
    first k neighbours.

    Parameters
    ----------
    found : neighbours among the rows of Y, at least as many as the largest k.
    ks : increasing.
    """
    starts = np.concatenate([[0], ks[:-1]])
    for start in range(0, len(found.order), _BATCH):
        part = slice(start, start + _BATCH)
        index = found.order[part, : ks[-1]]
        counts = weight[index]
        if weighting == "distance":
            counts = counts * _nearness(found.distance[part, : ks[-1]])
        total = np.add.reduceat(counts, starts, axis=1).cumsum(axis=1)
        yield (
            part,
            np.add.reduceat(counts[:, :, None] * Y[index], starts, axis=1).cumsum(axis=1)
            / total[:, :, None],
        )


def _nearness(distance: Floats) -> Floats:
    """One over the distance; where a neighbour is at distance zero, such neighbours alone count."""
    with np.errstate(divide="ignore"):
        nearness = 1 / distance.astype(np.float64)
    is_same = np.isinf(nearness)
    return np.where(is_same.any(axis=1, keepdims=True), is_same, nearness)


def search_all(X: Matrix, asked: Matrix, k: int) -> Nearest:
    """Search by comparing each with each, a block at a time."""
    from sklearn.neighbors import NearestNeighbors

    return Nearest(*NearestNeighbors(n_neighbors=k, algorithm="brute").fit(X).kneighbors(asked))


def search_map(X: Matrix, asked: Matrix, k: int) -> Nearest:
    """Search in a tree: for two or three columns."""
    from scipy.spatial import cKDTree

    return Nearest(*cKDTree(X).query(asked, k=np.arange(1, k + 1)))
