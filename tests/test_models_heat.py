"""Where a prediction comes from: exact sums, one method beside another, and a planted shape in one
corner of the picture.
"""

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
from models.explaining.explained_model import ExplainedModel
from models.explaining.heat_maps import (
    choose_method,
    explain,
    rank_correlation,
)
from models.explaining.methods.class_activation import (
    map_gradients,
    map_linear,
    spread_gradients,
)
from models.explaining.methods.occlusion import list_windows
from models.explaining.tile_maps import pool_maps
from models.families.baselines import Mean
from models.families.linear.ridge import SharedRidge
from models.families.nearest_neighbours import Neighbours
from models.families.networks.cnn import Convolutional
from models.families.networks.head import Head
from models.families.trees.boosting import Boosting
from models.families.trees.forest import Forest

pytestmark = pytest.mark.slow
N, SIDE = 240, 64
RNG = np.random.default_rng(0)
STRENGTH = RNG.uniform(0, 1, N)
FOLDS = Folds(kind="random", part=np.arange(N) % 4, near=np.zeros((N, 0), bool))
ASKED = np.argsort(STRENGTH)[-8:]  # tiles in which the shape is plain


def draw_pictures() -> NDArray[np.uint8]:
    """Noise all over, and in the upper left corner a chequered square whose contrast is the
    label.
    """
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


def make_explained(
    model: Any, maps: NDArray[np.float32], name: str, pooling: Any = "avg", *, fit: bool = True
) -> ExplainedModel:
    """Fit a model on the pooled maps, and ask about the tiles in which the shape is plain."""
    pooled = pool_maps(maps, pooling)
    grid = maps.shape[1:] if pooling == "map" else None
    X = Features(pooled, grid=grid)
    if fit:
        model.fit(X, 10 * STRENGTH[:, None] + 3, folds=FOLDS, weight=np.ones(N))
    return ExplainedModel(
        model=model,
        pooling=pooling,
        grid=grid,
        own=pooled[ASKED],
        rows=pooled[ASKED],
        n_tiles=np.ones(len(ASKED), int),
        n_core=pooled.shape[1],
        columns=np.zeros(len(ASKED), int),
        reference=pooled.mean(axis=0),
    )


def share_in_corner(heat: NDArray[np.float64]) -> float:
    """Return the part of the heat's size that lies over the square (with the places that see into
    it).
    """
    size = np.abs(heat)
    reach = round(heat.shape[1] * 28 / SIDE)
    return float(size[:, :reach, :reach].sum() / size.sum())


@pytest.mark.parametrize("pooling", ["avg", "max", "flat"])
def test_an_exact_map_sums_to_the_prediction(maps: NDArray[np.float32], pooling: Any) -> None:
    model = SharedRidge()
    explained = make_explained(model, maps, "ridge", pooling)
    heat = explain(explained, maps[ASKED], "exact")
    base = model.intercept_[0] + explained.reference.astype(np.float64) @ model.coef_[:, 0]
    np.testing.assert_allclose(heat.mean(axis=(1, 2)) + base, explained.predict(), atol=1e-3)


def test_grad_cam_of_a_linear_prediction_is_its_exact_map() -> None:
    some, weights = RNG.normal(size=(3, 4, 5, 6)).astype(np.float32), RNG.normal(size=(3, 6))
    reference = RNG.normal(size=6)
    by_place = spread_gradients(some, weights, "avg")
    np.testing.assert_allclose(
        map_gradients(some, by_place, reference),
        map_linear(some, weights, reference, "avg"),
        atol=1e-5,
    )


@pytest.mark.parametrize(
    ("name", "model", "method"),
    [
        ("ridge", SharedRidge(), "exact"),
        # seeds 0 to 3 give shares of 0.56 to 0.64: of places 0.19
        ("head", Head(epochs=60, learning_rate=3e-3, dropout=0.0, seed=3), "gradients"),
        ("xgboost", Boosting(n_estimators=60, n_jobs=2), "occlusion"),
        ("forest", Forest(n_estimators=30, n_jobs=2), "occlusion"),
    ],
)
def test_a_planted_corner_holds_the_heat(
    maps: NDArray[np.float32], name: str, model: Any, method: Any
) -> None:
    explained = make_explained(model, maps, name)
    assert choose_method(model, "auto") == method
    heat = explain(explained, maps[ASKED], method)
    assert share_in_corner(heat) >= 0.6
    assert heat[:, :3, :3].mean() > 0


def test_neighbours_are_moved_most_by_the_planted_corner(maps: NDArray[np.float32]) -> None:
    model = Neighbours()
    explained = make_explained(model, maps, "knn")
    blind = model.without(~np.isin(np.arange(N), ASKED))
    heat = explain(replace(explained, model_of=lambda i: blind), maps[ASKED], "occlusion")
    assert share_in_corner(heat) >= 0.4  # of places 0.19; 0.47 to 0.82 over six random networks


@pytest.fixture(scope="module")
def on_pictures() -> ExplainedModel:
    """A network trained on pictures of half the side."""
    return make_explained(
        Convolutional(filters=8, dense=16, epochs=40, batch=16), SMALL, "cnn", "map"
    )


@pytest.mark.parametrize("method", ["gradients", "occlusion"])
def test_a_planted_corner_holds_the_heat_of_a_network_on_pictures(
    on_pictures: ExplainedModel, method: Any
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
    ],
)
def test_what_was_learnt_shuffled_gives_another_map(
    maps: NDArray[np.float32], name: str, model: Any, method: Any
) -> None:
    explained = make_explained(model, maps, name)
    heat = explain(explained, maps[ASKED], method)
    other = [
        rank_correlation(heat, explain(explained, maps[ASKED], method, shuffle=seed))
        for seed in range(3)
    ]
    assert np.mean(other) < 0.5
    assert rank_correlation(heat, explain(explained, maps[ASKED], method)) == pytest.approx(1)


class RecordingMean(Mean):
    """Remembers what it was fed."""

    fed = np.zeros((0, 0))

    def predict(self, X: Features) -> NDArray[np.float64]:
        self.fed = X.array()
        return np.zeros((len(X), 1))


def test_a_tile_of_an_area_pulls_its_areas_prediction(maps: NDArray[np.float32]) -> None:
    pooled = pool_maps(maps[:6], "avg").astype(np.float64)
    mean, sd = pooled.mean(axis=0), pooled.std(axis=0)
    row = np.concatenate([mean, sd])[None].astype(np.float32)
    model = RecordingMean()
    explained = ExplainedModel(
        model=model,
        pooling="avg",
        is_area=True,
        own=pooled[2:3].astype(np.float32),
        rows=row,
        n_tiles=np.array([6]),
        n_core=row.shape[1],
        columns=np.zeros(1, int),
        reference=pooled.mean(axis=0),
    )
    pooled[2] += 0.5
    explained.predict_pooled(0, pooled[2:3].astype(np.float32), np.arange(row.shape[1]))
    expected = np.concatenate([pooled.mean(axis=0), pooled.std(axis=0)])
    np.testing.assert_allclose(model.fed[0], expected, atol=2e-3)
    weights = explained.weights_of_pooled(np.full((1, row.shape[1]), 6.0))
    np.testing.assert_allclose(weights, 1.0)


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
