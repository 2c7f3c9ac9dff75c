"""Neighbours equal scikit-learn's, and say when a search would be too large."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler

from extract.errors import FeaturesError
from models.data.features import Features
from models.data.fold_assignment import assign_folds
from models.data.folds import Folds, build_folds
from models.families.nearest_neighbours import Neighbours

RNG = np.random.default_rng(0)
N = 200
AREA = np.repeat(np.arange(50), 4)
XY = RNG.uniform(0, 8000, (50, 2))[AREA] + RNG.uniform(0, 200, (N, 2))
X = RNG.normal(size=(N, 6)).astype(np.float32) * [1, 2, 3, 4, 5, 60]
X = X.astype(np.float32)
Y = np.column_stack([X[:, 0] + 0.1 * RNG.normal(size=N), RNG.normal(size=N)])
ONES = np.ones(N)
KS, WEIGHTINGS = (1, 4, 9), ("uniform", "distance")


def folds_of(kind: str, buffer_m: float = 0) -> Folds:
    fold = assign_folds(kind, area=AREA, xy=XY, targets=None, n_folds=4, seed=0, block_m=2000)
    return build_folds(kind, fold, area=AREA, xy=XY, block_m=2000, buffer_m=buffer_m)


def theirs(k: int, weighting: str, metric: str) -> object:
    steps = [StandardScaler(), Normalizer()] if metric == "cosine" else [StandardScaler()]
    return make_pipeline(*steps, KNeighborsRegressor(k, weights=weighting))


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize(("kind", "buffer_m"), [("area", 0), ("block", 400)])
def test_every_fold_equals_scikit_learn_with_what_was_chosen(
    kind: str, buffer_m: float, metric: str
) -> None:
    folds = folds_of(kind, buffer_m)
    ours = Neighbours(KS, WEIGHTINGS, metric).cross_fit(
        Features(X), Y, folds=folds, weight=ONES, nested=True
    )
    for f in folds.folds:
        train, rows = folds.training(folds.parts_of(f)), folds.held(folds.parts_of(f))
        for t in range(2):
            chosen = ours.chosen[t][str(f)]
            model = theirs(chosen["n_neighbors"], chosen["weights"], metric).fit(
                X[train], Y[train, t]
            )
            np.testing.assert_allclose(ours.predicted[rows, t], model.predict(X[rows]), atol=1e-5)


def test_the_choice_is_the_best_of_a_loop_over_the_folds() -> None:
    folds, model = folds_of("area"), Neighbours(KS, WEIGHTINGS)
    model.fit(Features(X), Y, folds=folds, weight=ONES)
    scaled, errors = model.X_, {}
    for k in KS:
        for weighting in WEIGHTINGS:
            errors[k, weighting] = sum(
                (
                    (
                        KNeighborsRegressor(k, weights=weighting)
                        .fit(scaled[a], Y[a, 0])
                        .predict(scaled[b])
                        - Y[b, 0]
                    )
                    ** 2
                ).sum()
                for a, b in folds.splits()
            )
    assert tuple(model.chosen_[0].values()) == min(errors, key=errors.get)


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_a_weight_of_two_is_the_row_twice(weighting: str) -> None:
    twice = np.concatenate([np.arange(N), np.arange(50)])
    predicted = []
    for rows, weight in (
        (np.arange(N), np.where(np.arange(N) < 50, 2.0, 1.0)),
        (twice, np.ones(len(twice))),
    ):
        model = Neighbours(KS, WEIGHTINGS, "euclidean", standardise=False)
        model.fit(Features(X[rows]), Y[rows], folds=folds_of("area").take(rows), weight=weight)
        model.chosen_ = [{"n_neighbors": len(rows), "weights": weighting}] * 2
        predicted.append(model.predict(Features(X + np.float32(0.5))))
    np.testing.assert_allclose(*predicted, atol=1e-6)


def test_a_missing_label_is_no_neighbour() -> None:
    labels = Y.copy()
    labels[:60, 1] = np.nan
    model = Neighbours(KS).fit(Features(X), labels, folds=folds_of("area"), weight=ONES)
    changed = labels.copy()
    known = np.flatnonzero(np.isfinite(labels[:, 1]))
    chosen = model.chosen_[1]
    expected = KNeighborsRegressor(chosen["n_neighbors"], weights=chosen["weights"]).fit(
        model.X_[known], changed[known, 1]
    )
    np.testing.assert_allclose(
        model.predict(Features(X))[:, 1], expected.predict(model.X_), atol=1e-5
    )


def test_too_large_a_search_asks_for_a_sample() -> None:
    folds = folds_of("area")
    with pytest.raises(
        ValueError, match=r"at most 100 training tiles, got 200\. Set knn_sample = 25 in"
    ):
        Neighbours(max_search=100).fit(Features(X), Y, folds=folds, weight=ONES)
    model = Neighbours(max_search=100, sample=80, seed=1).fit(
        Features(X), Y, folds=folds, weight=ONES
    )
    assert model.X_.shape == (80, 6)
    again = Neighbours(max_search=100, sample=80, seed=1).fit(
        Features(X), Y, folds=folds, weight=ONES
    )
    np.testing.assert_array_equal(model.predict(Features(X)), again.predict(Features(X)))


def test_what_does_not_fit_into_memory_is_refused_with_a_way_out() -> None:
    with pytest.raises(FeaturesError, match=r"knn\+pca:256.*memory_gib"):
        Neighbours().fit(Features(X, limit=100), Y, folds=folds_of("area"), weight=ONES)


def test_the_order_in_which_settings_list_the_choices_changes_nothing() -> None:
    ordered, mixed = (
        Neighbours(ks, WEIGHTINGS).cross_fit(Features(X), Y, folds=folds_of("area"), weight=ONES)
        for ks in ((1, 4, 9), (4, 9, 1, 9, 5000))
    )
    assert mixed.chosen == ordered.chosen
    np.testing.assert_array_equal(mixed.predicted, ordered.predicted)
