"""Cuts side by side: fitted as one matrix, stale with either, predicted, and refused by name."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from made_experiment import N, fit, make_experiment, write_features
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from extract.errors import NoFeatureMapError, PlaceError
from extract.settings import read_settings
from extract.store.embeddings import Embeddings
from extract.tables.tile_table import read_tiles
from models.data.features import OnDisk, SideBySide
from models.data.place_settings import PlaceSettings
from models.explaining.tile_maps import TileMaps
from models.predicting.extract_features import describe_features
from models.predicting.predict import predict_place
from models.settings import FitSettings
from models.store.kept_models import find_kept
from models.store.runs import read_predictions

CUT = "joined/both:flat"
CUTS = ["net/last:avg", "other/first:avg"]
RUN = ("area", CUT, "ridge")
JOINED = f"""
[models.joined]
both = {CUTS}
[models.params.ridge]
alphas = [10.0]
"""


def write_other(path: Path, seed: int) -> None:
    """Write the features of a second network, which rejects another tile than the first."""
    settings = read_settings(path, FitSettings)
    write_features(settings, seed, ("first:avg",), rejected=(7,), backbone="other")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fit an experiment in which the cuts of two networks are joined."""
    path = make_experiment(
        tmp_path_factory.mktemp("joined"), names=["ridge"], keep="all", weights="tile"
    )
    path.write_text(path.read_text().replace('["net/last:avg"]', str(CUTS)) + JOINED)
    write_other(path, seed=2)
    assert {cut for _, cut, _, _ in fit(path).fitted} == {*CUTS, CUT}
    return path


def read_columns(folder: Path) -> np.ndarray:
    columns = []
    for name, cut in (("net", "last:avg"), ("other", "first:avg")):
        with Embeddings(folder / f"features/{name}.h5") as file:
            columns.append(file.read(cut).astype(np.float64))
    return np.hstack(columns)


def test_columns_stand_side_by_side_for_the_tiles_that_both_networks_took(path: Path) -> None:
    settings = read_settings(path, FitSettings)
    X = read_columns(settings.folder)
    y = read_tiles(settings).targets["income"].to_numpy()
    found = read_predictions(settings.folder, *RUN)
    found = found[found["target"] == "income"].set_index("id")
    assert sorted(found.index) == sorted(set(range(N)) - {3, 7})
    for fold in found["fold"].unique():
        held = found.index[found["fold"] == fold]
        training = found.index[found["fold"] != fold]
        model = make_pipeline(StandardScaler(), Ridge(10.0)).fit(X[training], y[training])
        predicted = found.loc[held, "prediction"]
        np.testing.assert_allclose(predicted, model.predict(X[held]), rtol=1e-4, atol=1e-4)


def test_rows_on_disk_are_those_in_memory(path: Path) -> None:
    folder = read_settings(path, FitSettings).folder
    matrices = [
        OnDisk(folder / "features/net.h5", "last:avg", np.array([0, 5, 9])),
        OnDisk(folder / "features/other.h5", "first:avg", np.array([0, 5, 9])),
    ]
    joined = SideBySide(matrices)
    assert joined.shape == (3, 12)
    np.testing.assert_array_equal(joined[np.array([2, 0])], read_columns(folder)[[9, 0]])


def test_the_joined_model_predicts_from_the_features_of_both(path: Path, tmp_path: Path) -> None:
    settings = read_settings(path, FitSettings)
    features = settings.folder / "features"
    facts = predict_place(settings, features, "income", tmp_path / "p", cut=CUT)
    assert facts["n_tiles"] == N
    with pytest.raises(PlaceError, match=r"net and other\. Name the folder that has them"):
        predict_place(settings, features / "net.h5", "income", tmp_path / "q", cut=CUT)


def test_what_cannot_be_done_with_a_joined_cut_is_said(path: Path) -> None:
    settings = read_settings(path, FitSettings)
    kept = find_kept(settings.folder, "income", cut=CUT)
    maps = TileMaps(settings, read_tiles(settings), kept.cut)
    with pytest.raises(NoFeatureMapError, match="Explain a model on one of them"):
        maps.read_maps(np.array([0]))
    place = PlaceSettings.model_validate(settings.model_dump(include={"name", "out", "tiles"}))
    with pytest.raises(PlaceError, match=r'cuts = \["net/last:avg", "other/first:avg"\]'):
        describe_features(place, [kept], set())


def test_new_features_of_either_network_make_the_joined_cut_stale(path: Path) -> None:
    assert fit(path).fitted == set()
    write_other(path, seed=3)
    assert {cut for _, cut, _, _ in fit(path).fitted} == {CUTS[1], CUT}
    write_features(read_settings(path, FitSettings), seed=4)
    assert {cut for _, cut, _, _ in fit(path).fitted} == {CUTS[0], CUT}


@pytest.mark.parametrize(
    ("cuts", "error"),
    [
        (["net/last:avg"], "two different cuts or more"),
        (["net/last:avg", "net/last:avg"], "two different cuts or more"),
        (["net/last:avg", "net/last:map"], "expected vectors, got 'net/last:map'"),
        (["net/last:avg", "net/lost:avg"], "none of.*Did you mean 'net/last:avg'"),
    ],
)
def test_cuts_that_cannot_be_joined_are_refused(
    path: Path, tmp_path: Path, cuts: list[str], error: str
) -> None:
    text = re.sub("^both = .*$", f"both = {cuts}", path.read_text(), flags=re.M)
    (tmp_path / "s.toml").write_text(text)
    with pytest.raises(ValueError, match=error):
        read_settings(tmp_path / "s.toml", FitSettings)
