"""A whole network trained from the pictures, and gone on with after a kill."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from extract.networks.registry import Origin
from models.data.features import Features
from models.data.folds import assign_folds, build_folds
from models.families.family import Where
from models.families.networks import checkpoints as checkpoints
from models.families.networks.augmentation import augment_pictures
from models.families.networks.checkpoints import FileKeeper, remove_checkpoints
from models.families.networks.finetune import Finetune, build_programs
from models.families.networks.learning import Phase, State, read_weights
from models.families.networks.training import compile_program
from models.families.registry import parse_model
from models.store.kept_models import load_model, save_model

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
def pictures(measured_network: Path) -> Features:
    origin = Origin(backbone="mobilenetv2", layer="", size=SIZE, weights=str(measured_network))
    return Features(PICTURES.reshape(N, -1).astype(np.float16), grid=(SIZE, SIZE, 3)).from_network(
        origin
    )


def make(**params: object) -> Finetune:
    return Finetune(
        **{
            "hidden": (16,),
            "dropout": 0.0,
            "warm_rate": 1e-3,
            "rate": 1e-5,
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
    phases, _ = build_programs(
        origin,
        1,
        1,
        (64, 64),
        pool="flat",
        dropout=0.5,
        rates=(1e-5, 1e-6),
        frozen=frozen,
        task="number",
    )
    counted = []
    for phase in phases:
        phase.begin()
        counted.append(count(phase.model.trainable_weights))
    assert (count(phases[1].model.weights), *counted) == (whole, warm, free)
    build_programs.cache_clear()


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
    n_body, moved = 260, []
    for epochs in (0, 1):
        program = fit(pictures, warm_epochs=1, epochs=epochs).build(1, 1)
        now = program.model.get_weights()[:n_body]  # of the last epoch, be it the best or not
        moved.append([bool((a != b).any()) for a, b in zip(now, program.start, strict=True)])
    is_statistic = ["moving" in variable.path for variable in program.model.weights[:n_body]]
    assert not any(moved[0])
    assert not any(did for did, fixed in zip(moved[1], is_statistic, strict=True) if fixed)
    assert sum(moved[1]) > 0.9 * (n_body - sum(is_statistic))


class Killed(Exception):  # noqa: N818
    pass


def test_a_training_that_was_killed_ends_as_if_it_had_not_been(
    pictures: Features, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = fit(pictures, dropout=0.3, warm_epochs=2, epochs=3).predict(pictures)
    monkeypatch.setattr(checkpoints, "_EVERY_SECONDS", 0.0)
    keep, model = FileKeeper.keep, make(dropout=0.3, warm_epochs=2, epochs=3)
    model.where = Where(folder=tmp_path, keys=("key",), held="fold 1")

    def kill(self: FileKeeper, phase: Phase, state: State) -> None:
        keep(self, phase, state)
        if state.epoch == 3:
            raise Killed

    monkeypatch.setattr(FileKeeper, "keep", kill)
    with pytest.raises(Killed):
        model.fit(pictures, Y, folds=FOLDS, weight=np.ones(N))
    assert len(list((tmp_path / "checkpoints").glob("*.npz"))) == 1
    model.fit(pictures, Y, folds=FOLDS, weight=np.ones(N))
    assert [point.epoch for point in model.curves_[0]] == [1, 2, 3, 4, 5]
    np.testing.assert_allclose(model.predict(pictures), expected, rtol=1e-4)
    remove_checkpoints(tmp_path, ["key"])
    assert not list((tmp_path / "checkpoints").iterdir())


def test_a_damaged_checkpoint_is_left_and_training_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    for content in (b"", b"not a file of arrays", b"PK\x03\x04 cut off"):
        path.write_bytes(content)
        assert FileKeeper(path).resume([]) is None
        assert not path.exists()


def test_a_checkpoint_of_other_shapes_is_left_and_nothing_of_it_is_taken(tmp_path: Path) -> None:
    def phase(width: int) -> Phase:
        model = keras.Sequential(
            [keras.Input((3,)), keras.layers.Dense(width), keras.layers.Reshape((width, 1))]
        )
        return Phase(
            model=compile_program(model, 1e-3, "number"),
            body=None,
            learning=frozenset(),
            epochs=1,
            patience=1,
        )

    path, wide = tmp_path / "x.npz", phase(4)
    FileKeeper(path)._write(
        State(best=read_weights(wide.model)),
        model=read_weights(wide.model),
        optimizer=[np.asarray(v) for v in wide.model.optimizer.variables],
    )
    kept = path.read_bytes()
    assert FileKeeper(path).resume([wide]) is not None
    narrow = phase(2)
    before = read_weights(narrow.model)
    assert FileKeeper(path).resume([narrow]) is None
    assert not path.exists()
    for now, then in zip(read_weights(narrow.model), before, strict=True):
        np.testing.assert_array_equal(now, then)
    path.write_bytes(kept)
    assert FileKeeper(path).resume([]) is None


def test_pictures_are_zoomed_and_mirrored_to_learn_from_alone(pictures: Features) -> None:
    model = make(zoom=(0.8, 1.2))
    model.grid_ = (SIZE, SIZE, 3)
    np.testing.assert_array_equal(model.read(pictures, np.arange(4), None), PICTURES[:4])
    assert (
        model.read(pictures, np.arange(4), np.random.default_rng(0)) != PICTURES[:4]
    ).mean() > 0.5
    flat = np.full((3, 8, 8, 3), 77, np.float32)
    np.testing.assert_allclose(
        augment_pictures(flat, np.random.default_rng(0), zoom=(0.8, 1.2), flips=True), flat
    )
    mirrored = augment_pictures(
        PICTURES[:20].astype(np.float32), np.random.default_rng(0), zoom=(1, 1), flips=True
    )
    ways = [PICTURES[:20], PICTURES[:20, ::-1], PICTURES[:20, :, ::-1], PICTURES[:20, ::-1, ::-1]]
    same = np.array([[(way[i] == mirrored[i]).all() for way in ways] for i in range(20)])
    assert same.sum(axis=1).tolist() == [1] * 20
    assert same.any(axis=0).all()


def test_names_say_the_network() -> None:
    assert str(parse_model("finetune:resnet50v2")) == "finetune:resnet50v2"
    with pytest.raises(
        ValueError, match=r"expected 'finetune:<backbone>'.*Did you mean 'vgg1[69]'"
    ):
        parse_model("finetune:vgg61")
    with pytest.raises(ValueError, match="expected 'finetune:<backbone>'"):
        parse_model("finetune")
