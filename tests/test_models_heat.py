"""Where a prediction comes from: exact sums, one method beside another, and a planted shape in one corner of the picture."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from extract.config.cuts import Cut
from extract.errors import ExplainError
from models.data.features import Features
from models.data.folds import Folds
from models.explaining.feature_maps import pool_maps
from models.explaining.heat_maps import (
    Subject,
    choose_method,
    explain,
    predict_subject,
    rank_correlation,
)
from models.explaining.methods.class_activation import (
    map_contributions,
    map_gradients,
    map_linear,
    spread_gradients,
)
from models.explaining.methods.occlusion import list_windows
from models.explaining.model_rows import Feed
from models.families.linear.ridge import SharedRidge
from models.families.nearest_neighbours import Neighbours
from models.families.networks.cnn import Convolutional
from models.families.networks.head import Head
from models.families.pca import Reduced
from models.families.registry import parse_model
from models.families.trees.boosting import Boosting
from models.families.trees.forest import Forest

N, SIDE = 240, 64
RNG = np.random.default_rng(0)
STRENGTH = RNG.uniform(0, 1, N)
FOLDS = Folds(kind="random", part=np.arange(N) % 4, near=np.zeros((N, 0), bool))
ASKED = np.argsort(STRENGTH)[-8:]  # tiles in which the shape is plain


def draw_pictures() -> NDArray[np.uint8]:
    """Noise all over, and in the upper left corner a chequered square whose contrast is the label."""
    pictures = RNG.normal(110, 12, (N, SIDE, SIDE, 3))
    chequers = np.where((np.add.outer(np.arange(20), np.arange(20)) // 4) % 2, 1.0, -1.0)
    pictures[:, 4:24, 4:24] += 100 * STRENGTH[:, None, None, None] * chequers[..., None]
    return np.clip(pictures, 0, 255).astype(np.uint8)


PICTURES = draw_pictures()
SMALL = PICTURES[:, ::2, ::2].astype(np.float32)


@pytest.fixture(scope="module")
def maps() -> NDArray[np.float32]:
    """Maps of an early layer, 8 × 8."""
    from extract.networks.backbones import build_network

    network = build_network(
        [Cut("mobilenetv2", "block_3_expand_relu", "map")], size=SIDE, weights="random:1"
    )
    return np.asarray(network.model.predict(PICTURES, batch_size=48, verbose=0), np.float32)[
        :, :, :, ::2
    ]


def make_subject(
    model: Any, maps: NDArray[np.float32], name: str, pooling: Any = "avg", *, fit: bool = True
) -> Subject:
    """Fit a model on the pooled maps, and ask about the tiles in which the shape is plain."""
    pooled = pool_maps(maps, pooling)
    grid = maps.shape[1:] if pooling == "map" else None
    X = Features(pooled, grid=grid)
    if fit:
        model.fit(X, 10 * STRENGTH[:, None] + 3, folds=FOLDS, weight=np.ones(N))
    feed = Feed(
        spec=parse_model(name),
        grid=grid,
        own=pooled[ASKED],
        rows=pooled[ASKED],
        n_tiles=np.ones(len(ASKED), int),
        n_core=pooled.shape[1],
    )
    return Subject(
        model=model,
        pooling=pooling,
        feed=feed,
        columns=np.zeros(len(ASKED), int),
        reference=pooled.mean(axis=0),
        sample=maps[:32],
    )


def share_in_corner(heat: NDArray[np.float64]) -> float:
    """Return the part of the heat's size that lies over the square (with the places that see into it)."""
    size = np.abs(heat)
    reach = round(heat.shape[1] * 28 / SIDE)
    return float(size[:, :reach, :reach].sum() / size.sum())


@pytest.mark.parametrize("pooling", ["avg", "max", "flat"])
def test_an_exact_map_sums_to_the_prediction(maps: NDArray[np.float32], pooling: Any) -> None:
    model = SharedRidge()
    subject = make_subject(model, maps, "ridge", pooling)
    heat = explain(subject, maps[ASKED], "exact")
    base = model.intercept_[0] + subject.reference.astype(np.float64) @ model.coef_[:, 0]
    np.testing.assert_allclose(heat.mean(axis=(1, 2)) + base, predict_subject(subject), atol=1e-3)


def test_an_exact_map_goes_through_principal_components(maps: NDArray[np.float32]) -> None:
    model = Reduced(SharedRidge(standardise=False), 20)
    subject = make_subject(model, maps, "ridge+pca:20")
    heat = explain(subject, maps[ASKED], "exact")
    base = model.predict(Features(subject.reference[None]))[0, 0]
    np.testing.assert_allclose(heat.mean(axis=(1, 2)) + base, predict_subject(subject), atol=1e-3)


@pytest.mark.parametrize("pooling", ["avg", "max", "flat"])
def test_xgboost_contributions_sum_to_the_prediction(
    maps: NDArray[np.float32], pooling: Any
) -> None:
    model = Boosting(rounds=30, n_jobs=2)
    subject = make_subject(model, maps[:, ::2, ::2], "xgboost", pooling)
    heat = explain(subject, maps[ASKED][:, ::2, ::2], "contributions")
    base = model.contributions(subject.feed.whole())[:, 0, -1]
    np.testing.assert_allclose(heat.mean(axis=(1, 2)) + base, predict_subject(subject), atol=1e-3)


def test_grad_cam_of_a_linear_prediction_is_its_exact_map() -> None:
    some, weights = RNG.normal(size=(3, 4, 5, 6)).astype(np.float32), RNG.normal(size=(3, 6))
    reference = RNG.normal(size=6)
    by_place = spread_gradients(some, weights, "avg")
    np.testing.assert_allclose(
        map_gradients(some, by_place, reference),
        map_linear(some, weights, reference, "avg"),
        atol=1e-5,
    )


def test_a_channel_that_is_nowhere_is_shared_evenly() -> None:
    heat = map_contributions(np.zeros((1, 2, 2, 1), np.float32), np.array([[3.0]]), "avg")
    np.testing.assert_allclose(heat, 3.0)


@pytest.mark.parametrize(
    ("name", "model", "method"),
    [
        ("ridge", SharedRidge(), "exact"),
        ("head", Head(epochs=60, rate=3e-3, dropout=0.0), "gradients"),
        ("xgboost", Boosting(rounds=60, n_jobs=2), "contributions"),
        ("forest", Forest(n_trees=30, n_jobs=2), "occlusion"),
    ],
)
def test_a_planted_corner_holds_the_heat(
    maps: NDArray[np.float32], name: str, model: Any, method: Any
) -> None:
    subject = make_subject(model, maps, name)
    assert choose_method(model, "auto") == method
    heat = explain(subject, maps[ASKED], method)
    assert share_in_corner(heat) >= 0.6
    assert heat[:, :3, :3].mean() > 0


def test_neighbours_are_moved_most_by_the_planted_corner(maps: NDArray[np.float32]) -> None:
    model = Neighbours()
    subject = make_subject(model, maps, "knn")
    blind = model.without(~np.isin(np.arange(N), ASKED))
    heat = explain(replace(subject, model_of=lambda i: blind), maps[ASKED], "occlusion")
    assert share_in_corner(heat) >= 0.4  # of places 0.19; 0.47 to 0.82 over six random networks


@pytest.fixture(scope="module")
def on_pictures() -> Subject:
    """A network trained on pictures of half the side."""
    return make_subject(
        Convolutional(filters=8, dense=16, epochs=40, batch=16), SMALL, "cnn", "map"
    )


@pytest.mark.parametrize("method", ["gradients", "occlusion"])
def test_a_planted_corner_holds_the_heat_of_a_network_on_pictures(
    on_pictures: Subject, method: Any
) -> None:
    heat = explain(on_pictures, SMALL[ASKED], method)
    assert (
        heat.shape[1] == {"gradients": 6, "occlusion": 32}[method]
    )  # the last convolution's map, or the picture
    assert share_in_corner(heat) >= 0.6


@pytest.mark.parametrize(
    ("name", "model", "method"),
    [
        ("ridge", SharedRidge(), "exact"),
        ("head", Head(epochs=20), "gradients"),
        ("xgboost", Boosting(rounds=30, n_jobs=2), "contributions"),
    ],
)
def test_what_was_learnt_shuffled_gives_another_map(
    maps: NDArray[np.float32], name: str, model: Any, method: Any
) -> None:
    subject = make_subject(model, maps, name)
    heat = explain(subject, maps[ASKED], method)
    other = [
        rank_correlation(heat, explain(subject, maps[ASKED], method, shuffle=seed))
        for seed in range(3)
    ]
    assert np.mean(other) < 0.5
    assert rank_correlation(heat, explain(subject, maps[ASKED], method)) == pytest.approx(1)


def test_a_tile_of_an_area_pulls_its_areas_prediction(maps: NDArray[np.float32]) -> None:
    pooled = pool_maps(maps[:6], "avg").astype(np.float64)
    mean, sd = pooled.mean(axis=0), pooled.std(axis=0)
    row = np.concatenate([mean, sd])[None].astype(np.float32)
    feed = Feed(
        spec=parse_model("ridge@area"),
        grid=None,
        own=pooled[2:3].astype(np.float32),
        rows=row,
        n_tiles=np.array([6]),
        n_core=row.shape[1],
    )
    pooled[2] += 0.5
    changed = feed.features(0, pooled[2:3].astype(np.float32)).array()[0]
    np.testing.assert_allclose(
        changed, np.concatenate([pooled.mean(axis=0), pooled.std(axis=0)]), atol=2e-3
    )
    np.testing.assert_allclose(feed.pull_linear(np.full((1, row.shape[1]), 6.0)), 1.0)


def test_a_method_that_the_model_does_not_allow_is_refused() -> None:
    with pytest.raises(
        ExplainError, match="method 'exact': this model allows gradients, occlusion, or 'auto'"
    ):
        choose_method(Head(), "exact")


@pytest.mark.parametrize("side", [1, 7, 14, 15, 28, 100])
def test_windows_cover_a_map(side: int) -> None:
    covered = np.zeros((side, side), int)
    for part in list_windows(side, side):
        covered[part] += 1
    assert covered.min() >= 1
    assert len(list_windows(side, side)) <= 196
