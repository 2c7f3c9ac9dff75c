"""The layers after a cut, trained with a head from cached maps."""

from __future__ import annotations

import numpy as np
import pytest

from extract.zoo import Origin
from models.features import Features
from models.folds import Folds, assign_folds, build_folds
from models.tail import Tail, build_tail_program

N, SIZE, LAYER = 64, 64, "block_13_expand_relu"
RNG = np.random.default_rng(0)
SIGNAL = RNG.normal(size=N)
Y = np.column_stack([20 + 3 * SIGNAL, np.where(np.arange(N) % 4, 100 - SIGNAL, np.nan)])


def make_folds(n: int = N) -> Folds:
    fold = assign_folds("random", area=np.arange(n), xy=None, targets=None, n_folds=4, seed=0, block_m=1)
    return build_folds("random", fold, area=np.arange(n), xy=None, block_m=1, buffer_m=0)


def make_maps(layer: str = LAYER) -> Features:
    """Maps of the network's layer that show the signal in their first channels."""
    maps = np.random.default_rng(1).random((N, 4, 4, 576))
    maps[..., :80] += SIGNAL[:, None, None, None]
    origin = Origin(backbone="mobilenetv2", layer=layer, size=SIZE, weights="random:0")
    return Features(maps.reshape(N, -1).astype(np.float16), grid=(4, 4, 576)).from_network(origin)


def make_tail(**params: object) -> Tail:
    return Tail(**{"hidden": (16,), "pool": "avg", "rate": 3e-3, "epochs": 15, "patience": 15, "dropout": 0.0, **params})


@pytest.fixture(scope="module")
def fitted() -> Tail:
    return make_tail().fit(make_maps(), Y, folds=make_folds(), weight=np.ones(N))


def test_the_recipe_of_the_last_two_convolutions_has_its_parameters() -> None:
    origin = Origin(backbone="vgg16", layer="block5_conv1", size=224)
    model, _ = build_tail_program(origin, 1, 1, (64, 64), pool="flat", dropout=0.5, rate=1e-4, task="number")
    assert sum(int(np.prod(w.shape)) for w in model.trainable_weights) == 6_329_537


def test_a_planted_signal_is_learnt_in_the_unit_of_the_target(fitted: Tail) -> None:
    predicted = fitted.predict(make_maps())
    assert np.corrcoef(predicted[:, 0], Y[:, 0])[0, 1] > 0.8
    assert np.abs(predicted.mean(axis=0) - np.nanmean(Y, axis=0)).max() < 1
    curve = fitted.curves_[0]
    assert [point.epoch for point in curve] == list(range(1, len(curve) + 1))
    assert sum(point.best for point in curve) == 1
    assert min(curve, key=lambda point: point.held_loss).best
