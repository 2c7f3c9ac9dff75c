"""Pictures as a cut, and the small network that is trained on them from scratch."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from extract.cli import app
from extract.config.cuts import parse_cut
from extract.errors import SettingsError
from extract.run import run_extraction
from extract.settings import ExtractSettings, read_settings
from extract.store.embeddings import Embeddings
from extract.store.verify import find_damage
from models.data.features import Features
from models.data.fold_assignment import assign_folds
from models.data.folds import build_folds
from models.data.model_names import parse_model
from models.families.networks.cnn import Convolutional
from models.fit import fit_all
from models.settings import FitSettings
from models.store.cells import list_cells
from models.store.kept_models import load_model, save_model
from models.store.score_tables import read_scores

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
N, SIDE = 160, 12
RNG = np.random.default_rng(0)
CODE = np.arange(N) % 2
PICTURES = RNG.normal(100, 20, (N, SIDE, SIDE, 3))
PICTURES[CODE == 1, :, ::2] += 40  # stripes
PICTURES[CODE == 0, ::2] += 40  # the same, turned
Y = np.column_stack([CODE == 0, CODE == 1, np.zeros(N)]).astype(float)
FOLDS = build_folds(
    "random",
    assign_folds("random", area=np.arange(N), xy=None, targets=None, n_folds=4, seed=0, block_m=1),
    area=np.arange(N),
    xy=None,
    block_m=1,
    buffer_m=0,
)
MAPS = Features(PICTURES.reshape(N, -1).astype(np.float16), grid=(SIDE, SIDE, 3))


def test_pixels_are_the_pictures_themselves(experiment: Callable[..., Path]) -> None:
    cuts = {
        '"mobilenetv2/block_1_expand_relu:avg", "mobilenetv2/block_3_expand_relu:map"': '"pixels/32:map", "pixels/8:flat"'
    }
    path = experiment(replace=cuts)
    (path.parent / "tiles" / "3.png").write_bytes(b"broken")
    settings = read_settings(path, ExtractSettings)
    run_extraction(settings)
    with Embeddings(settings.folder / "features" / "pixels.h5") as file:
        maps, small = file.read("32:map", slice(0, 4)), file.read("8:flat", slice(0, 1))
        assert file.attributes["weights"] == "pixels"
    picture = cv2.imread(str(path.parent / "tiles" / "0.png"))[..., ::-1]
    assert maps.dtype == np.float16
    np.testing.assert_array_equal(maps[0], picture)
    np.testing.assert_array_equal(
        small[0], cv2.resize(picture, (8, 8), interpolation=cv2.INTER_AREA).ravel()
    )
    assert np.isnan(maps[3]).all()
    assert not find_damage(settings)
    assert not run_extraction(settings).done


def test_pixels_can_be_planned_examined_and_asked_for_layers(
    experiment: Callable[..., Path],
) -> None:
    cuts = {
        '"mobilenetv2/block_1_expand_relu:avg", "mobilenetv2/block_3_expand_relu:map"': '"pixels/16:map"'
    }
    path = experiment(replace=cuts)
    plan = CliRunner().invoke(app, ["plan", "--config", str(path)])
    assert plan.exit_code == 0, plan.output
    assert "16:map" in plan.output
    assert CliRunner().invoke(app, ["doctor", "--config", str(path)]).exit_code == 0
    assert (
        "side that pictures are resized to" in CliRunner().invoke(app, ["layers", "pixels"]).output
    )


def test_a_side_that_is_none_says_what_is_expected() -> None:
    with pytest.raises(ValueError, match="expected 'pixels/<side>:<pooling>'"):
        parse_cut("pixels/block5:map")


def test_a_target_is_made_of_a_column(experiment: Callable[..., Path]) -> None:
    from extract.tables.tile_table import read_tiles

    path = experiment(
        replace={
            '["income"]': '["income"]\nclasses = ["group"]\n[targets.made]\ngroup = "{code:.1}"'
        },
        code=["7a", "2b", "7c"] * 4,
    )
    tiles = read_tiles(read_settings(path, ExtractSettings))
    assert tiles.target_names == ["income", "group"]
    assert tiles.classes["group"].tolist() == ["7", "2", "7"] * 4


@pytest.fixture(scope="module")
def fitted() -> Convolutional:
    labels = np.where(np.arange(N)[:, None] < 10, np.nan, Y)
    return Convolutional(filters=8, dense=16, epochs=15, task="class").fit(
        MAPS, labels, folds=FOLDS, weight=np.ones(N)
    )


def test_what_only_a_convolution_sees_is_found(fitted: Convolutional) -> None:
    predicted = fitted.predict(MAPS)
    assert (predicted.argmax(axis=1) == CODE).mean() > 0.95
    np.testing.assert_allclose(predicted.sum(axis=1), 1)
    assert (predicted[:, 2] == 0).all()  # a class that no row has


def test_a_kept_network_predicts_the_same(fitted: Convolutional, tmp_path: Path) -> None:
    save_model(tmp_path / "kept", "cnn", fitted, {})
    assert {p.name for p in (tmp_path / "kept").iterdir()} == {
        "cnn.npz",
        "cnn.json",
        "model.json",
        "README.md",
    }
    np.testing.assert_allclose(
        load_model(tmp_path / "kept").predict(MAPS), fitted.predict(MAPS), atol=1e-6
    )


@pytest.mark.slow
def test_numbers_come_out_in_their_unit_and_missing_ones_are_left_out() -> None:
    numbers = np.column_stack([np.where(CODE, 50.0, 40.0), np.where(np.arange(N) % 5, 7.0, np.nan)])
    model = Convolutional(filters=8, dense=16, epochs=40).fit(
        MAPS, numbers, folds=FOLDS, weight=np.ones(N)
    )
    predicted = model.predict(MAPS)
    assert np.corrcoef(predicted[:, 0], numbers[:, 0])[0, 1] > 0.9
    assert abs(predicted[:, 0].mean() - 45) < 2
    np.testing.assert_allclose(predicted[:, 1], 7.0)


def test_vectors_are_refused() -> None:
    with pytest.raises(ValueError, match="expected a cut of pooling 'map'"):
        Convolutional().fit(
            Features(np.zeros((4, 3))), Y[:4], folds=FOLDS.take(np.arange(4)), weight=np.ones(4)
        )
    with pytest.raises(ValueError, match="takes neither"):
        parse_model("cnn@area")


def test_cnn_is_fitted_on_maps_alone_and_needs_one(experiment: Callable[..., Path]) -> None:
    path = experiment()
    path.write_text(path.read_text() + '[models]\nnames = ["ridge", "cnn"]\n')
    cells = list_cells(read_settings(path, FitSettings))
    assert [c.cut.pooling for c in cells if c.model == "cnn"] == ["map"]
    path.write_text(path.read_text().replace(', "mobilenetv2/block_3_expand_relu:map"', ""))
    with pytest.raises(SettingsError, match="'cnn' is fed with maps, and no cut is one"):
        read_settings(path, FitSettings)


@pytest.mark.slow
def test_digits_are_read_by_a_network_from_scratch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path: Path = runpy.run_path(str(EXAMPLES / "digits.py"))["write_digits"](tmp_path / "digits")
    path.write_text(
        path.read_text().replace(
            '"mean", "ridge", "knn", "cnn"]', '"mean", "cnn"]\nkeep = ["mean"]'
        )
    )
    run_extraction(read_settings(path, ExtractSettings))
    settings = read_settings(path, FitSettings)
    fit_all(settings)
    scores: pd.DataFrame = read_scores(settings.folder).set_index(["model", "level"])
    assert scores.loc[("cnn", "tile"), "accuracy"] >= 0.97
    assert scores.loc[("mean", "tile"), "accuracy"] < 0.15
