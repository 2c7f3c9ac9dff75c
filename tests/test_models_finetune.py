"""A whole network trained from the pictures, and gone on with after a kill."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import made_networks as made
import numpy as np
import pytest

from extract.networks.registry import REGISTRY, Origin
from extract.networks.tails import build_tail
from models.data.features import Features
from models.data.fold_assignment import assign_folds
from models.data.folds import build_folds
from models.data.model_names import parse_model
from models.families.family import FitContext
from models.families.networks import training
from models.families.networks.checkpoints import (
    TrainingState,
    checkpoint_path,
    read_state,
    remove_checkpoints,
    write_state,
)
from models.families.networks.finetune import Finetune
from models.store.kept_models import load_model, save_model

pytestmark = pytest.mark.slow
N, SIZE = 48, 32
RNG = np.random.default_rng(0)
SIGNAL = RNG.normal(size=N)
Y = (50 + 4 * SIGNAL)[:, None]
PICTURES = np.clip(
    RNG.normal(120, 10, (N, SIZE, SIZE, 3)) + 50 * SIGNAL[:, None, None, None] * [1, -1, 0], 0, 255
).round()
FOLDS = build_folds(
    "random",
    assign_folds("random", area=np.arange(N), xy=None, targets=None, n_folds=4, seed=0, block_m=1),
    area=np.arange(N),
    xy=None,
    block_m=1,
    buffer_m=0,
)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Features]:
    """Return pictures before the small network, which is one of the zoo meanwhile."""
    path = tmp_path_factory.mktemp("tiny") / "tiny.h5"
    made.write_tiny(path)
    made.register()
    origin = Origin(backbone="tiny", layer="", size=SIZE, weights=str(path))
    rows = PICTURES.reshape(N, -1).astype(np.float16)
    yield Features(rows, grid=(SIZE, SIZE, 3), origin=origin)
    del REGISTRY["tiny"]


def make(**params: object) -> Finetune:
    return Finetune(
        **{
            "hidden": (16,),
            "dropout": 0.0,
            "warm_learning_rate": 1e-3,
            "learning_rate": 1e-5,
            "warm_epochs": 10,
            "epochs": 2,
            "batch": 12,
            **params,
        }
    )


def fit(pictures: Features, **params: object) -> Finetune:
    return make(**params).fit(pictures, Y, folds=FOLDS, weight=np.ones(N))


def count(weights: list) -> int:
    return sum(int(np.prod(w.shape)) for w in weights)


@pytest.mark.parametrize(
    ("backbone", "frozen", "whole", "warm", "free"),
    [
        ("vgg16", "block5_conv1", 16_324_609, 1_609_921, 6_329_537),
        ("resnet50v2", "", 29_991_617, 6_426_817, 29_946_177),
    ],
)
def test_the_known_recipes_have_their_parameters(
    backbone: str, frozen: str, whole: int, warm: int, free: int
) -> None:
    origin = Origin(backbone=backbone, layer="", size=224)
    model = Finetune(frozen=frozen)
    model.shape_ = (224, 224, 3)
    phases, _ = model.build(1, origin)
    counted = []
    for phase in phases:
        phase.set_trainable()
        counted.append(count(phase.model.trainable_weights))
    assert (count(phases[1].model.weights), *counted) == (whole, warm, free)


def test_a_planted_signal_is_learnt_and_a_kept_network_predicts_the_same(
    pictures: Features, tmp_path: Path
) -> None:
    model = fit(pictures, zoom=(1.0, 1.0), flips=False)
    predicted = model.predict(pictures)
    assert np.corrcoef(predicted[:, 0], Y[:, 0])[0, 1] > 0.7
    save_model(tmp_path / "kept", "finetune:mobilenetv2", model, {})
    np.testing.assert_allclose(
        load_model(tmp_path / "kept").predict(pictures), predicted, rtol=1e-4
    )


def test_the_head_alone_is_trained_first_and_the_statistics_stay(pictures: Features) -> None:
    body = build_tail(pictures.origin)
    start = body.get_weights()
    is_statistic = ["moving" in variable.path for variable in body.weights]
    moved = []
    for epochs in (0, 1):
        model = fit(pictures, warm_epochs=1, epochs=epochs, zoom=(1.0, 1.0), flips=False)
        assert model.chosen_ == [{"epochs": 1 + epochs}]
        now = model.networks_[0].weights
        moved.append([bool((a != b).any()) for a, b in zip(now, start, strict=False)])
    assert len(moved[0]) == len(start)
    assert not any(moved[0])
    assert not any(did for did, fixed in zip(moved[1], is_statistic, strict=True) if fixed)
    assert sum(moved[1]) > 0.9 * (len(start) - sum(is_statistic))


class Killed(Exception):  # noqa: N818
    pass


def test_a_training_that_was_killed_ends_as_if_it_had_not_been(
    pictures: Features, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = fit(pictures, dropout=0.3, warm_epochs=2, epochs=3)
    expected = whole.predict(pictures)
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
    model = whole.fresh()
    context = FitContext(folder=tmp_path, keys=("key",), held="fold 1")

    def write_and_kill(path: Path, state: TrainingState) -> None:
        write_state(path, state)
        if state.epoch == 3:
            raise Killed

    monkeypatch.setattr(training, "write_state", write_and_kill)
    with pytest.raises(Killed):
        model.fit(pictures, Y, folds=FOLDS, weight=np.ones(N), context=context)
    monkeypatch.setattr(training, "write_state", write_state)
    assert len(list((tmp_path / "checkpoints").glob("*.npz"))) == 1
    model.fit(pictures, Y, folds=FOLDS, weight=np.ones(N), context=context)
    assert [point.epoch for point in model.curves_[0]] == [1, 2, 3, 4, 5]
    np.testing.assert_allclose(model.predict(pictures), expected, rtol=1e-4)
    remove_checkpoints(tmp_path, ["key"])
    assert not list((tmp_path / "checkpoints").iterdir())


def test_a_damaged_checkpoint_is_left_and_training_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    for content in (b"", b"not a file of arrays", b"PK\x03\x04 cut off"):
        path.write_bytes(content)
        assert read_state(path) is None
        assert not path.exists()


def test_a_checkpoint_of_other_shapes_is_removed_and_nothing_of_it_is_taken(
    pictures: Features, tmp_path: Path
) -> None:
    whole = fit(pictures, hidden=(4,), warm_epochs=1, epochs=1)
    expected = whole.predict(pictures)
    model = whole.fresh()
    context = FitContext(folder=tmp_path, keys=("key",), held="fold 1")
    path = checkpoint_path(context, [0])
    assert path is not None
    wide = fit(pictures, warm_epochs=1, epochs=0).networks_[0].weights
    write_state(path, TrainingState(epoch=7, best_weights=wide))
    model.fit(pictures, Y, folds=FOLDS, weight=np.ones(N), context=context)
    assert not path.exists()
    assert len(model.curves_[0]) == 2
    np.testing.assert_allclose(model.predict(pictures), expected, rtol=1e-4)


def augment(pictures: np.ndarray, **params: object) -> np.ndarray:
    """Pass pictures through the layers of augmentation as a training does."""
    flow = pictures.astype(np.float32)
    for layer in make(**params).augmentation():
        flow = layer(flow, training=True)
    return np.asarray(flow)


def test_training_pictures_are_mirrored_each_in_its_own_way() -> None:
    some = PICTURES[:20]
    mirrored = augment(some, zoom=(1.0, 1.0))
    ways = [some, some[:, ::-1], some[:, :, ::-1], some[:, ::-1, ::-1]]
    same = np.array([[(way[i] == mirrored[i]).all() for way in ways] for i in range(20)])
    assert same.sum(axis=1).tolist() == [1] * 20
    assert same.any(axis=0).all()


def test_a_zoom_above_one_draws_larger_and_nothing_comes_in_at_the_edges() -> None:
    square = np.zeros((3, 16, 16, 3))
    square[:, 6:10, 6:10] = 100
    assert augment(square, zoom=(2.0, 2.0), flips=False).sum() > 3 * square.sum()
    assert augment(square, zoom=(0.5, 0.5), flips=False)[:, 7:9, 7:9].max() < 101
    flat = np.full((3, 8, 8, 3), 77)
    np.testing.assert_allclose(augment(flat, zoom=(0.8, 1.2)), flat, rtol=1e-5)


def test_pictures_that_are_predicted_are_not_augmented(pictures: Features) -> None:
    model = fit(pictures, warm_epochs=1, epochs=0)
    predicted = model.predict(pictures)
    np.testing.assert_array_equal(model.predict(pictures), predicted)
    plain = fit(pictures, warm_epochs=1, epochs=0, zoom=(1.0, 1.0), flips=False)
    plain.networks_ = model.networks_
    np.testing.assert_allclose(plain.predict(pictures), predicted, rtol=1e-5)


def test_names_say_the_network() -> None:
    assert str(parse_model("finetune:resnet50v2")) == "finetune:resnet50v2"
    with pytest.raises(
        ValueError, match=r"expected 'finetune:<backbone>'.*Did you mean 'vgg1[69]'"
    ):
        parse_model("finetune:vgg61")
    with pytest.raises(ValueError, match="expected 'finetune:<backbone>'"):
        parse_model("finetune")
