"""A new place without features: they are made as the model's were, by the same weights or not at
all, and by nobody twice.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from extract.config.cuts import parse_cut
from extract.errors import PlaceError
from extract.run import run_extraction
from extract.settings import read_settings
from extract.store.embeddings import Embeddings
from extract.store.schema import read_attributes
from models.data.place_settings import PlaceSettings
from models.fit import fit_all
from models.predicting.extract_features import describe_features, make_missing
from models.predicting.predict import predict_place
from models.settings import FitSettings
from models.store.kept_models import KeptModel, find_kept, list_kept

pytestmark = pytest.mark.slow
ROOT, N = Path(__file__).resolve().parents[1], 24
TILES = """
[tiles]
table = "{folder}/t.csv"
images = "{folder}/tiles"
area = "area"
"""
TOWN = (
    """
name = "town"
out = "{folder}/out"
[targets]
columns = ["income"]
[extract]
cuts = ["mobilenetv2/block_1_expand_relu:avg", "mobilenetv2/block_2_expand_relu:map", "mobilenetv2/block_3_expand_relu:avg"]
weights = "random:3"
size = 32
precision = "float32"
shard = 8
batch = 8
[models]
names = ["ridge", "metadata"]
folds = 4
keep = "all"
accept = ["labels-differ"]
"""
    + TILES
)
CUT = "mobilenetv2/block_3_expand_relu:avg"


def run(*words: str | Path, expect: int = 0) -> str:
    """Run a command in its own process, as the extraction that it starts prints beside it."""
    done = subprocess.run(
        [sys.executable, "-m", *map(str, words)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == expect, done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fit a small experiment on features of a small real network; gives its settings file."""
    folder, rng = tmp_path_factory.mktemp("town"), np.random.default_rng(0)
    (folder / "tiles").mkdir()
    for i in range(N):
        cv2.imwrite(
            str(folder / f"tiles/{i}.png"), rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        )
    pd.DataFrame(
        {"id": range(N), "area": [f"A{i // 2}" for i in range(N)], "income": rng.normal(size=N)}
    ).to_csv(folder / "t.csv", index=False)
    (folder / "town.toml").write_text(TOWN.format(folder=folder))
    settings = read_settings(folder / "town.toml", FitSettings)
    run_extraction(settings)
    fit_all(settings)
    for name in ("ridge", "metadata"):
        predict(folder / "town.toml", folder / "town.toml", folder / name, name)
    return folder / "town.toml"


def predict(town: Path, place: Path, out: Path, model: str) -> NDArray[np.float64]:
    """Predict by a kept model; gives the predictions of the tiles."""
    predict_place(
        read_settings(town, FitSettings),
        read_settings(place, PlaceSettings),
        "income",
        out,
        model=model,
        cut=CUT if model == "ridge" else None,
    )
    return pd.read_csv(out / "predictions.csv")["prediction"].to_numpy()


def own(town: Path, model: str) -> NDArray[np.float64]:
    return pd.read_csv(town.parent / model / "predictions.csv")["prediction"].to_numpy()


def place_of(town: Path, folder: Path, more: str = "") -> Path:
    """Write settings of a place that has the town's pictures, and so its predictions; nothing is
    said of networks.
    """
    text = f'name = "new"\nout = "{folder}/out"\n' + TILES.format(folder=town.parent) + more
    (folder / "new.toml").write_text(text)
    return folder / "new.toml"


def kept_models(town: Path) -> list[KeptModel]:
    return list_kept(read_settings(town, FitSettings).folder, "income")


def test_features_are_made_as_the_models_were_and_predict_the_same(
    town: Path, tmp_path: Path
) -> None:
    place = place_of(
        town,
        tmp_path,
        '[extract]\nbatch = 4\nshard = 10\nsize = 64\ncuts = ["vgg16/block1_pool:max"]\n',
    )
    said = run("models", "predict", "--config", town, "--tiles", place, "--cut", CUT)
    assert "features.toml" in said
    told = pd.read_csv(tmp_path / "out/predictions/income/predictions.csv")["prediction"]
    np.testing.assert_allclose(told, own(town, "ridge"), rtol=1e-4)
    features = tmp_path / "out/features/mobilenetv2.h5"
    with (
        Embeddings(features) as made,
        Embeddings(town.parent / "out/features/mobilenetv2.h5") as those,
    ):
        name = parse_cut(CUT).dataset
        np.testing.assert_allclose(made.read(name), those.read(name), rtol=1e-3, atol=1e-3)
        assert made.attributes["weights_sha256"] == those.attributes["weights_sha256"]
    assert json.loads(read_attributes(features)["settings"])["extract"]["batch"] == 4


def test_other_weights_are_refused_before_a_picture_is_embedded_and_told_once(
    town: Path, tmp_path: Path
) -> None:
    place = place_of(town, tmp_path, '[extract]\nweights = "random:4"\n')
    said = run("models", "predict", "--config", town, "--tiles", place, "--cut", CUT, expect=1)
    assert said.count("error:") == 1
    assert "other weights of 'mobilenetv2' than are asked for: expected SHA-256" in said
    assert not list((tmp_path / "out/features").glob("**/*.h5"))
    assert not (tmp_path / "out/predictions").exists()


def test_a_baseline_that_sees_pictures_without_a_network_needs_none(
    town: Path, tmp_path: Path
) -> None:
    told = predict(town, place_of(town, tmp_path), tmp_path / "told", "metadata")
    assert [p.name for p in (tmp_path / "out/features").glob("*.h5")] == ["pixels.h5"]
    np.testing.assert_allclose(told, own(town, "metadata"))


def test_a_killed_extraction_goes_on_and_ends_in_the_same_predictions(
    town: Path, tmp_path: Path
) -> None:
    place = place_of(town, tmp_path, "[extract]\nshard = 2\nbatch = 1\n")
    command = [
        sys.executable,
        "-m",
        "models",
        "predict",
        "--config",
        str(town),
        "--tiles",
        str(place),
        "--cut",
        CUT,
    ]
    process = subprocess.Popen(command, cwd=ROOT, start_new_session=True, stderr=subprocess.DEVNULL)
    first = tmp_path / "out/features/mobilenetv2/part-00000.h5"
    while not first.is_file() and process.poll() is None:
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "out/features/mobilenetv2.h5").exists()
    stamp = first.stat().st_mtime_ns
    np.testing.assert_allclose(
        predict(town, place, tmp_path / "told", "ridge"), own(town, "ridge"), rtol=1e-4
    )
    assert first.stat().st_mtime_ns == stamp


def test_maps_are_stored_where_a_kept_model_is_fed_them_alone(town: Path, tmp_path: Path) -> None:
    place = read_settings(place_of(town, tmp_path), PlaceSettings)
    models = [one for one in kept_models(town) if str(one.cell.cut) == CUT]
    asked = describe_features(place, models, {CUT})["extract"]
    assert asked["cuts"] == [f"mobilenetv2/block_{i}_expand_relu:avg" for i in (1, 2, 3)]
    every = describe_features(place, models, {CUT, "mobilenetv2/block_2_expand_relu:map"})[
        "extract"
    ]
    assert every["cuts"][1] == "mobilenetv2/block_2_expand_relu:map"
    assert (asked["size"], asked["precision"], asked["weights"]) == (
        32,
        "float32",
        {"mobilenetv2": "random:3"},
    )
    assert not {"batch", "shard", "workers"} & set(asked)


def test_pictures_that_are_to_be_read_otherwise_are_refused(town: Path, tmp_path: Path) -> None:
    place = read_settings(place_of(town, tmp_path, "scale = [0, 1]\n"), PlaceSettings)
    with pytest.raises(
        PlaceError,
        match=r"\[tiles\] scale of 'new': got \[0.0, 1.0\].*fitted on pictures with scale = None",
    ):
        make_missing(
            read_settings(town, FitSettings),
            place,
            [find_kept(town.parent / "out", "income", cut=CUT)],
        )


def test_a_place_that_lacks_what_the_last_model_is_fed_is_refused_before_the_first_is_asked(
    town: Path, tmp_path: Path
) -> None:
    place, kept = (
        read_settings(place_of(town, tmp_path), PlaceSettings),
        find_kept(town.parent / "out", "income", cut=CUT),
    )
    needy = kept._replace(facts=kept.facts | {"feed": {"group_columns": ["district"]}})
    with pytest.raises(
        PlaceError, match="is fed the columns district, and the place has no district"
    ):
        make_missing(read_settings(town, FitSettings), place, [kept, needy])
    assert not (place.folder / "features.toml").exists()


def test_features_from_elsewhere_are_asked_for(town: Path, tmp_path: Path) -> None:
    place, kept = (
        read_settings(place_of(town, tmp_path), PlaceSettings),
        find_kept(town.parent / "out", "income", cut=CUT),
    )
    kept = kept._replace(facts=kept.facts | {"made": {"weights": "imported"}})
    with pytest.raises(PlaceError, match=r"came from elsewhere.*python -m extract import"):
        make_missing(read_settings(town, FitSettings), place, [kept])


@pytest.mark.parametrize("change", ["a byte", "a file more"])
def test_a_model_that_was_tampered_with_is_refused_before_hours_of_work(
    town: Path, tmp_path: Path, change: str
) -> None:
    kept: Any = find_kept(town.parent / "out", "income", cut=CUT)
    shutil.copytree(kept.path, tmp_path / "model")
    if change == "a byte":
        file = tmp_path / "model/model.skops"
        file.write_bytes(file.read_bytes()[:-1] + b"x")
    else:
        (tmp_path / "model/more.py").write_text("print()")
    with pytest.raises(ValueError, match=r"not the file that `make models` wrote|does not list"):
        make_missing(
            read_settings(town, FitSettings),
            read_settings(place_of(town, tmp_path), PlaceSettings),
            [kept._replace(path=tmp_path / "model")],
        )
