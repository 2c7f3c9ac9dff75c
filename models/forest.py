"""A random forest for each target."""

from __future__ import annotations

from typing import Self

import numpy as np
from joblib import Parallel, delayed
from sklearn.ensemble import RandomForestRegressor

from models.family import Family, Floats, Matrix, labelled_groups
from models.features import Features
from models.folds import Folds


class Forest(Family):
    """One forest a target; √d features a split keeps it cheap on wide embeddings. Targets share the cores."""

    def __init__(self, n_trees: int = 100, min_leaf: int = 3, n_jobs: int = -1, seed: int = 0) -> None:
        self.n_trees, self.min_leaf, self.n_jobs, self.seed = n_trees, min_leaf, n_jobs, seed

    def fit(self, X: Features, Y: Floats, *, folds: Folds, weight: Floats) -> Self:  # noqa: ARG002
        """Grow the forests; nothing is chosen."""
        for _ in labelled_groups(Y):
            pass
        matrix = X.array()
        jobs = (delayed(self._grow)(matrix, Y[:, t], weight) for t in range(Y.shape[1]))
        self.forests_ = Parallel(n_jobs=self.n_jobs, prefer="threads")(jobs)
        self.chosen_ = [{} for _ in range(Y.shape[1])]
        return self

    def _grow(self, X: Matrix, y: Floats, weight: Floats) -> RandomForestRegressor:
        forest = RandomForestRegressor(self.n_trees, max_features="sqrt", min_samples_leaf=self.min_leaf,
                                       random_state=self.seed, n_jobs=1)
        is_known = ~np.isnan(y)
        return forest.fit(X[is_known], y[is_known], sample_weight=weight[is_known])

    def predict(self, X: Features) -> Floats:
        """Average the trees: (n_rows, n_targets)."""
        matrix = X.array()
        return np.column_stack([forest.predict(matrix) for forest in self.forests_])
