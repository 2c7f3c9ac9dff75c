"""A forest of extremely randomised trees for each target."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import joblib
import numpy as np
from joblib import Parallel, delayed

from extract.config.arrays import Floats, Matrix
from models.data.features import Features
from models.data.folds import Folds
from models.families.family import NO_CONTEXT, Family, FitContext, Task, labelled_groups
from models.families.trees.tree_checks import check_forest

if TYPE_CHECKING:
    from sklearn.ensemble import ExtraTreesRegressor, RandomForestRegressor

LEAF = 5  # fewest rows of a leaf where numbers are predicted
_FEW = 32  # of so few features a split may choose from all: cuts drawn at random need the choice


class Forest(Family):
    """One forest a target, of trees whose cuts are drawn at random and not searched for (extremely
    randomised trees).

    Searching every cut of every third feature, as a random forest does by default, costs most of
    its time and gains nothing on embeddings, whose columns say much the same: on 12,000 × 512
    planted embeddings, against scikit-learn's `RandomForestRegressor(max_features=1/3,
    min_samples_leaf=3)`, R² was 0.328 for 0.329 at a fifth of the processor time; on a made city's
    4,000 × 1,280 of MobileNetV2 0.282 for 0.282. Cheaper still, a random forest on √d features lost
    0.007 and XGBoost's forest of 16 bins 0.010. Trees share nothing between targets or folds.

    Classes have one forest, whose leaves hold their shares: least squares of indicator columns is
    Gini's impurity.

    Parameters
    ----------
    n_trees : trees of a target.
    min_leaf : fewest rows of a leaf; None for 5, and for 1 where classes are predicted.
    features : share of the features that a split may choose from, where that is more than 32.
    search : look for the best cut of every feature, as a random forest does (Breiman 2001, Machine
        Learning 45:5).
    n_jobs : threads of the whole; 0 or −1 for every core.
    seed : the same for every target, so that a target's result does not depend on which others are
        fitted with it.

    References
    ----------
    Geurts et al. 2006, Machine Learning 63:3, doi:10.1007/s10994-006-6226-1.
    """

    def __init__(
        self,
        n_trees: int = 100,
        min_leaf: int | None = None,
        features: float = 0.2,
        search: bool = False,
        n_jobs: int = -1,
        seed: int = 0,
        task: Task = "number",
    ) -> None:
        self.n_trees = n_trees
        self.min_leaf = min_leaf
        self.features = features
        self.search = search
        self.n_jobs = n_jobs
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
        """Grow the forests; nothing is chosen. The targets share the threads, and the features as
        one float32 matrix.
        """
        for _ in labelled_groups(Y):
            pass
        matrix = X.array()
        n_targets = Y.shape[1]
        if self.task == "class":
            self.forests_ = [
                self._grow(matrix, Y if n_targets > 1 else Y[:, 0], weight, self.n_jobs or -1)
            ]
            self.chosen_ = [{}]
            return self
        threads = self.n_jobs if self.n_jobs > 0 else joblib.cpu_count()
        beside = min(threads, n_targets)
        jobs = (
            delayed(self._grow)(matrix, Y[:, t], weight, threads // beside)
            for t in range(n_targets)
        )
        self.forests_ = Parallel(n_jobs=beside, require="sharedmem")(jobs)
        self.chosen_ = [{} for _ in range(n_targets)]
        return self

    def _grow(
        self, X: Matrix, y: Floats, weight: Floats, threads: int
    ) -> ExtraTreesRegressor | RandomForestRegressor:
        from sklearn.ensemble import ExtraTreesRegressor, RandomForestRegressor

        n_features = min(
            X.shape[1], max(1 if self.search else _FEW, round(self.features * X.shape[1]))
        )
        min_leaf = self.min_leaf or (1 if self.task == "class" else LEAF)
        kind = RandomForestRegressor if self.search else ExtraTreesRegressor
        forest = kind(
            self.n_trees,
            max_features=n_features,
            min_samples_leaf=min_leaf,
            random_state=self.seed,
            n_jobs=threads,
        )
        is_known = ~np.isnan(y if y.ndim == 1 else y[:, 0])
        if is_known.all():
            return forest.fit(X, y, sample_weight=weight)
        return forest.fit(X[is_known], y[is_known], sample_weight=weight[is_known])

    def predict(self, X: Features) -> Floats:
        """Average the trees: (n_rows, n_targets); a piece of the features is float32 at a time."""
        pieces = [
            np.column_stack([forest.predict(piece) for forest in self.forests_])
            for _, piece in X.chunks()
        ]
        return np.vstack(pieces)

    def check_loaded(self) -> None:
        """Check that every tree ends, and stays inside its arrays: scikit-learn follows it unseen;
        raises ValueError.
        """
        for forest in self.forests_:
            check_forest(forest.estimators_)
