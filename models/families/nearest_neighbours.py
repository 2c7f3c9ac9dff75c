"""Predict by the nearest neighbours, with one search for every number, weighting and target."""

from __future__ import annotations

from copy import copy
from typing import Literal, Self

import numpy as np

from extract.config.arrays import Bools, Floats, Ints
from models.data.features import Features
from models.families.family import Family, FitContext
from models.families.neighbour_search import (
    N_NEIGHBORS,
    WEIGHTS,
    Choice,
    Nearest,
    Weighting,
    predict_nearest,
    search_all,
)
from models.families.training_rows import Task, TrainingRows

MAX_SEARCH = 200_000  # a search compares each row with each: an hour on two cores at 512 features


class Neighbours(Family):
    """Predict the mean label of the k nearest tiles, or the shares of their classes.

    Number and weighting of each target are chosen on the inner folds: of least squared error, or of
    highest balanced accuracy where classes are predicted.

    The same as scikit-learn's `KNeighborsRegressor` behind a `StandardScaler` and, for `cosine`, a
    `Normalizer`, which are fitted on the training rows of each fold. (One scaling for all folds
    would need a quarter of the search, and no label has a part in it, but it would be no fitted
    pipeline.) Weights of rows multiply those of the weighting.

    Parameters
    ----------
    n_neighbors : numbers of neighbours to choose from.
    weights : `uniform`, `distance` (one over the distance), or both to choose from.
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

    revision = 2  # classes are chosen by balanced accuracy

    def __init__(
        self,
        n_neighbors: tuple[int, ...] = N_NEIGHBORS,
        weights: tuple[Weighting, ...] = WEIGHTS,
        metric: Literal["cosine", "euclidean"] = "cosine",
        max_search: int = MAX_SEARCH,
        sample: int | None = None,
        standardise: bool = True,
        centre: bool = True,
        seed: int = 0,
        task: Task = "number",
    ) -> None:
        self.n_neighbors = n_neighbors
        self.weights = weights
        self.metric = metric
        self.max_search = max_search
        self.sample = sample
        self.standardise = standardise
        self.centre = centre
        self.seed = seed
        self.task = task

    def fit_rows(self, data: TrainingRows, context: FitContext) -> None:
        """Keep the scaled rows, and choose number and weighting of every target on the folds.

        Raises
        ------
        ValueError : more rows than `max_search`, and no sample asked for.
        FeaturesError : the rows do not fit into memory.
        """
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import Normalizer, StandardScaler

        drawn = self.draw_rows(len(data.X))
        if drawn is not None:
            data = data.take(drawn)
        X = data.X
        X.check_fits()
        scaler = StandardScaler(with_mean=self.centre, with_std=self.standardise)
        for _, chunk in X.chunks():
            scaler.partial_fit(chunk)
        steps = [scaler]
        if self.metric == "cosine":
            steps.append(Normalizer())
        self.scaler_ = make_pipeline(*steps)
        self.X_ = np.empty(X.shape, np.float32)
        self.Y_ = data.Y
        self.weight_ = data.weight
        for piece, chunk in X.chunks():
            self.X_[piece] = self.scaler_.transform(chunk)
        self.chosen_ = [{} for _ in range(data.Y.shape[1])]
        is_class = self.task == "class"
        choice = Choice(search_all, self.n_neighbors, self.weights, self.task, by_hits=is_class)
        for rows, columns, mine in data.split_labelled():
            chosen, _ = choice.choose(self.X_[rows], mine)
            for t, one in zip(columns, chosen, strict=True):
                self.chosen_[t] = one

    def draw_rows(self, n: int) -> Ints | None:
        """Return the rows of n training rows that are searched; None for all.

        Raises
        ------
        ValueError : more than `max_search`, and no sample asked for.
        """
        if self.sample is not None and self.sample < n:
            generator = np.random.default_rng(self.seed)
            drawn = generator.choice(n, self.sample, replace=False)
            return np.sort(drawn)
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
        asked = self.scaler_.transform(X.array())
        return search_all(self.X_, asked, k)

    def predict(self, X: Features) -> Floats:
        """Average the nearest labels: (n_rows, n_targets)."""
        out = np.empty((len(X), self.Y_.shape[1]))
        for rows, chunk in X.chunks():
            asked = self.scaler_.transform(chunk)
            out[rows] = predict_nearest(
                search_all, self.X_, self.Y_, asked, weight=self.weight_, chosen=self.chosen_
            )
        return out
