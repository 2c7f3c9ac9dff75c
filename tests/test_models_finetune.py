"""A whole network trained from the pictures."""

from __future__ import annotations

import numpy as np
import pytest

from extract.zoo import Origin
from models.features import Features
from models.finetune import Finetune, build_programs
from models.folds import assign_folds, build_folds

N, SIZE = 48, 32
SIGNAL = np.random.default_rng(0).normal(size=N)
Y = (50 + 4 * SIGNAL)[:, None]
PICTURES = np.clip(np.random.default_rng(1).normal(120, 20, (N, SIZE, SIZE, 3)) + 40 * SIGNAL[:, None, None, None], 0, 255).round()
ORIGIN = Origin(backbone="mobilenetv2", layer="", size=SIZE, weights="random:0")
FEATURES = Features(PICTURES.reshape(N, -1).astype(np.float16), grid=(SIZE, SIZE, 3)).from_network(ORIGIN)
FOLDS = build_folds("random", assign_folds("random", area=np.arange(N), xy=None, targets=None, n_folds=4, seed=0, block_m=1),
                    area=np.arange(N), xy=None, block_m=1, buffer_m=0)


def make(**params: object) -> Finetune:
    return Finetune(**{"hidden": (16,), "dropout": 0.0, "warm_rate": 3e-3, "rate": 1e-3, "epochs": 4, "batch": 16, **params})


def count(weights: list) -> int:
    return sum(int(np.prod(w.shape)) for w in weights)


@pytest.mark.parametrize(("backbone", "frozen", "whole", "warm", "free"), [
    ("vgg16", "block5_conv1", 16_324_609, 1_609_921, 6_329_537),
    ("resnet50v2", "", 29_991_617, 6_426_817, 29_946_177)])
def test_the_known_recipes_have_their_parameters(backbone: str, frozen: str, whole: int, warm: int, free: int) -> None:
    origin = Origin(backbone=backbone, layer="", size=224)
    phases, _ = build_programs(origin, 1, 1, (64, 64), pool="flat", dropout=0.5, rates=(1e-5, 1e-6), frozen=frozen, task="number")
    counted = []
    for phase in phases:
        phase.begin()
        counted.append(count(phase.model.trainable_weights))
    assert (count(phases[1].model.weights), *counted) == (whole, warm, free)
    build_programs.cache_clear()


def test_a_planted_signal_is_learnt_and_only_then_does_the_network_change() -> None:
    model = make().fit(FEATURES, Y, folds=FOLDS, weight=np.ones(N))
    predicted = model.predict(FEATURES)
    assert np.corrcoef(predicted[:, 0], Y[:, 0])[0, 1] > 0.7
    assert 2 < len(model.curves_[0]) <= 6
