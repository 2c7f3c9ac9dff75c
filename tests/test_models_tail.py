"""The layers after a cut, trained with a head from cached maps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from extract.config.cuts import parse_cut
from extract.errors import DivergedError, NetworkError
from extract.networks.backbones import build_base, build_network, load_base
from extract.networks.registry import Origin
from extract.networks.tails import build_tail
from extract.networks.weights import hash_weights
from extract.run import run_extraction
from extract.settings import ExtractSettings, read_settings
from models.data.features import Features
from models.data.fold_assignment import assign_folds
from models.data.folds import Folds, build_folds
from models.families.networks.finetune import Finetune
from models.families.networks.layers import draw_start
from models.families.networks.tail import Tail
from models.fit import fit_all
from models.settings import FitSettings
from models.store.kept_models import load_model, save_model
from models.store.runs import CURVE_COLUMNS, read_curves, read_run

pytestmark = pytest.mark.slow
N, SIZE, LAYER = 64, 64, "block_13_expand_relu"
SIGNAL = np.random.default_rng(0).normal(size=N)
Y = np.column_stack([20 + 3 * SIGNAL, np.where(np.arange(N) % 4, 100 - SIGNAL, np.nan)])


def make_folds(n: int = N) -> Folds:
    fold = assign_folds(
        "random", area=np.arange(n), xy=None, targets=None, n_folds=4, seed=0, block_m=1
    )
    return build_folds("random", fold, area=np.arange(n), xy=None, block_m=1, buffer_m=0)


def make_maps(weights: str | Path) -> Features:
    """Maps of the network's layer that show the signal in their first channels."""
    maps = np.random.default_rng(1).random((N, 4, 4, 576))
    maps[..., :80] += SIGNAL[:, None, None, None]
    origin = Origin(backbone="mobilenetv2", layer=LAYER, size=SIZE, weights=str(weights))
    return Features(maps.reshape(N, -1).astype(np.float16), grid=(4, 4, 576), origin=origin)


def make_tail(**params: object) -> Tail:
    return Tail(
        **{
            "hidden": (16,),
            "pool": "avg",
            "learning_rate": 3e-4,
            "epochs": 20,
            "patience": 20,
            "dropout": 0.0,
            **params,
        }
    )


@pytest.fixture(scope="module")
def maps(measured_network: Path) -> Features:
    return make_maps(measured_network)


@pytest.fixture(scope="module")
def fitted(maps: Features) -> Tail:
    return make_tail(joint=True).fit(maps, Y, folds=make_folds(), weight=np.ones(N))


def test_the_recipe_of_the_last_two_convolutions_has_its_parameters() -> None:
    origin = Origin(backbone="vgg16", layer="block5_conv1", size=224)
    phases, _ = Tail().build(1, origin)
    weights = phases[0].model.trainable_weights
    assert sum(int(np.prod(w.shape)) for w in weights) == 6_329_537


def test_a_planted_signal_is_learnt_in_the_unit_of_the_target(fitted: Tail, maps: Features) -> None:
    predicted = fitted.predict(maps)
    assert np.corrcoef(predicted[:, 0], Y[:, 0])[0, 1] > 0.8
    assert np.corrcoef(predicted[:, 1], SIGNAL)[0, 1] < -0.8
    assert np.abs(predicted.mean(axis=0) - np.nanmean(Y, axis=0)).max() < 2


def test_the_curve_tells_which_epoch_was_kept(fitted: Tail) -> None:
    for t, curve in enumerate(fitted.curves_):
        assert [point.epoch for point in curve] == list(range(1, len(curve) + 1))
        assert [point.epoch for point in curve if point.best] == [fitted.chosen_[t]["epochs"]]
    held = np.mean([[point.held_loss for point in curve] for curve in fitted.curves_], axis=0)
    assert held.argmin() + 1 == fitted.chosen_[0]["epochs"]


def test_a_kept_tail_predicts_the_same_without_the_weight_file(
    fitted: Tail, maps: Features, tmp_path: Path
) -> None:
    save_model(tmp_path / "kept", "tail", fitted, {})
    assert {p.name for p in (tmp_path / "kept").iterdir()} == {
        "tail.npz",
        "tail.json",
        "model.json",
        "README.md",
    }
    loaded = load_model(tmp_path / "kept")
    assert loaded.origin_.weights == ""
    np.testing.assert_allclose(loaded.predict(maps), fitted.predict(maps), rtol=1e-5)


def test_its_keras_model_gives_the_target_in_its_unit(fitted: Tail, maps: Features) -> None:
    model = fitted.network(1)
    rows = maps.array().reshape(-1, 4, 4, 576)[:8]
    np.testing.assert_allclose(
        model.predict(rows, verbose=0)[:, 0], fitted.predict(maps)[:8, 1], rtol=1e-5
    )
    assert model.get_layer("body").output.shape[1:] == (2, 2, 1280)


def test_a_network_a_target_does_not_depend_on_the_others(maps: Features) -> None:
    labels = np.column_stack([Y[:, 0], Y[::-1, 0]])
    both, one = (
        make_tail(epochs=2).fit(maps, y, folds=make_folds(), weight=np.ones(N))
        for y in (labels, labels[:, 1:])
    )
    np.testing.assert_allclose(both.predict(maps)[:, 1], one.predict(maps)[:, 0], rtol=1e-5)


def test_twenty_steps_equal_training_the_same_layers_behind_the_frozen_network() -> None:
    pictures = np.random.default_rng(3).integers(0, 256, (32, 32, 32, 3), dtype=np.uint8)
    cut, random = parse_cut("vgg16/block5_conv1:map"), "random:0"
    cached = np.asarray(build_network([cut], size=32, weights=random).model(pictures))
    whole = Finetune(
        hidden=(16,),
        dropout=0.0,
        learning_rate=1e-4,
        frozen=cut.layer,
        zoom=(1.0, 1.0),
        flips=False,
    )
    tail = make_tail(pool="flat", learning_rate=1e-4)
    before, after = [], []
    for family, layer, inputs in (
        (whole, "", pictures.astype(np.float32)),
        (tail, cut.layer, cached),
    ):
        family.shape_ = inputs.shape[1:]
        origin = Origin(backbone="vgg16", layer=layer, size=32, weights=random)
        phases, pretrained = family.build(1, origin)
        phases[-1].set_trainable()
        model = phases[-1].model
        draw_start(model, pretrained, 7)
        before.append(np.asarray(model(inputs, training=False)).ravel())
        model.fit(inputs, SIGNAL[:32, None], batch_size=16, epochs=10, shuffle=False, verbose=0)
        after.append(np.asarray(model(inputs, training=False)).ravel())
    np.testing.assert_allclose(after[0], after[1], atol=1e-3)
    assert np.abs(after[1] - before[1]).max() > 0.05
    assert after[1].std() > 3e-3


def test_a_loss_that_is_no_number_names_target_and_epoch(maps: Features) -> None:
    model = make_tail(learning_rate=1e30, epochs=3)
    with pytest.raises(DivergedError, match=r"target 0, epoch \d.*Lower its learning_rate"):
        model.fit(maps, Y[:, :1], folds=make_folds(), weight=np.ones(N))


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (
            "block_4_expand_relu",
            "others go round 'block_4_expand_relu'. The nearest that works: block_3_project_BN or "
            "block_4_add",
        ),
        ("block_4_expand_rel", "Did you mean 'block_4_expand_relu'"),
        ("out_relu", "nothing stands after 'out_relu'"),
    ],
)
def test_layers_that_no_tail_can_start_from_say_why(layer: str, message: str) -> None:
    with pytest.raises(NetworkError, match=message):
        build_tail(Origin(backbone="mobilenetv2", layer=layer, size=32, weights="random:0"))


def test_a_tail_starts_in_networks_whose_sums_are_no_layers() -> None:
    import keras

    origin = Origin(
        backbone="mobilenetv3small", layer="expanded_conv_10_add", size=32, weights="random:0"
    )
    base = load_base("mobilenetv3small", size=32, with_top=False, weights="random:0")
    pictures = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype(np.float32)
    given, expected = keras.Model(base.input, [base.get_layer(origin.layer).output, base.output])(
        pictures
    )
    np.testing.assert_allclose(
        build_tail(origin)(given), expected, rtol=1e-4, atol=1e-4 * float(np.abs(expected).max())
    )


def test_other_weights_than_those_of_the_embeddings_are_refused() -> None:
    import keras

    base = build_base("mobilenetv2", size=32)
    digest = hash_weights(keras.Model(base.inputs, base.get_layer(LAYER).output))
    with pytest.raises(NetworkError, match="expected those that its features were made with"):
        build_tail(
            Origin(
                backbone="mobilenetv2",
                layer=LAYER,
                size=32,
                weights="random:0",
                cuts=(LAYER,),
                sha256=digest,
            )
        )


def test_maps_that_no_network_made_are_refused(maps: Features) -> None:
    with pytest.raises(ValueError, match="tail: expected maps of a pretrained network"):
        Tail().fit(replace(maps, origin=None), Y, folds=make_folds(), weight=np.ones(N))


def test_from_pictures_to_curves_on_disk(
    experiment: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = experiment(
        n=24, replace={"mobilenetv2/block_3_expand_relu:map": "mobilenetv2/block_15_add:map"}
    )
    asked = (
        'names = ["mean", "ridge", "tail"]\nfolds = 3\nmaps = "networks"\nkeep = "all"\naccept = '
        '["labels-differ"]\n'
    )
    path.write_text(
        f"{path.read_text()}[models]\n{asked}[models.params.tail]\nepochs = 2\nhidden = [4]\n"
    )
    monkeypatch.chdir(path.parent)
    run_extraction(read_settings(path, ExtractSettings))
    settings = read_settings(path, FitSettings)
    fit_all(settings)
    cell = ("area", "mobilenetv2/block_15_add:map", "tail")
    curves = read_curves(settings.folder, *cell)
    assert tuple(curves) == CURVE_COLUMNS
    assert curves.groupby("fold").size().to_dict() == {0: 2, 1: 2, 2: 2}
    assert "network_sha256" in read_run(settings.folder, *cell)["inputs"]
    assert not (settings.folder / "runs/area/mobilenetv2/block_15_add%3Amap/ridge").exists()
    assert (
        settings.folder / "models/income/mobilenetv2/block_15_add%3Amap/tail/tail.npz"
    ).is_file()
    assert not (settings.folder / "checkpoints").exists()
