"""Principal components are scikit-learn's, fitted on training rows alone and once for all
models.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.decomposition import PCA

from models.data.features import Features
from models.data.folds import Folds
from models.data.model_names import parse_model
from models.families import pca
from models.families.pca import Reduced, find_axes, reduce_features
from models.families.registry import build_model
from models.store.kept_models import load_model, save_model

RNG = np.random.default_rng(0)
N = 200
TRAITS = RNG.normal(size=(N, 6)) * [30, 20, 12, 8, 5, 3]
X = (TRAITS @ RNG.normal(size=(6, 60)) + 0.1 * RNG.normal(size=(N, 60)) + 7).astype(np.float32)
Y = np.column_stack([X[:, 0] / 30, RNG.normal(size=N)])
FOLDS = Folds(kind="random", part=np.arange(N) % 4, near=np.zeros((N, 0), dtype=np.bool_))
ONES = np.ones(N)


@pytest.mark.parametrize("k", [3, 60])
def test_components_are_those_of_scikit_learn(k: int) -> None:
    ours = reduce_features(Features(X), find_axes(Features(X), k, 0)).array()
    theirs = PCA(k).fit_transform(X.astype(float))
    np.testing.assert_allclose(
        np.abs(ours[:, :3]), np.abs(theirs[:, :3]), atol=1e-3 * np.abs(theirs).max()
    )
    np.testing.assert_allclose(ours.var(axis=0), theirs.var(axis=0), rtol=1e-3, atol=1e-6)


def test_axes_are_found_once_a_fold_for_all_models(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, real = [], pca._iterate
    monkeypatch.setattr(pca, "_iterate", lambda *a: asked.append(len(a[0])) or real(*a))
    features = Features(X)
    for name in ("ridge+pca:5", "knn+pca:5"):
        build_model(parse_model(name), seed=0).cross_fit(features, Y, folds=FOLDS, weight=ONES)
    assert asked == [150] * 4


def test_held_out_rows_have_no_part_in_the_axes() -> None:
    features, strange = X.copy(), X.copy()
    strange[FOLDS.fold == 1] *= -3
    models = [build_model(parse_model("ridge+pca:5"), seed=0) for _ in range(2)]
    axes = []
    for model, rows in zip(models, (features, strange), strict=True):
        train = FOLDS.training(frozenset({1}))
        axes.append(
            model.fit(
                Features(rows).rows(train), Y[train], folds=FOLDS.take(train), weight=ONES[train]
            ).axes_
        )
    np.testing.assert_array_equal(axes[0].axes, axes[1].axes)


@pytest.mark.parametrize("name", ["ridge+pca:6", "knn+pca:6", "ridge+pca:6+groups"])
def test_a_reduced_model_finds_what_is_there_and_is_kept(name: str, tmp_path: Path) -> None:
    features = Features(X, beside=np.eye(2)[np.arange(N) % 2] if "groups" in name else None)
    model = build_model(parse_model(name), seed=0)
    predicted = model.cross_fit(features, Y, folds=FOLDS, weight=ONES, nested=True).predicted
    r2 = 1 - ((predicted - Y) ** 2).mean(axis=0) / Y.var(axis=0)
    assert r2[0] > 0.8
    assert r2[1] < 0.1
    model.fit(features, Y, folds=FOLDS, weight=ONES)
    assert model.fitted_.standardise is False
    save_model(tmp_path / "kept", name, model, {})
    loaded = load_model(tmp_path / "kept")
    assert isinstance(loaded, Reduced)
    np.testing.assert_array_equal(loaded.predict(features), model.predict(features))


def test_more_components_than_rows_or_columns_are_refused() -> None:
    with pytest.raises(
        ValueError,
        match=r"pca:61: expected at most 60 components for 200 training rows of 60 features",
    ):
        find_axes(Features(X), 61, 0)
