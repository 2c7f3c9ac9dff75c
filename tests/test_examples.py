"""The settings in examples/ are read as they stand, and run on a few made pictures."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from extract.run import run_extraction
from extract.settings import ExtractSettings, read_settings
from models.fit import fit_all
from models.settings import FitSettings
from models.store.runs import read_run
from models.store.score_tables import read_scores
from reports.settings import ReportSettings

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
PARAMS = "[models.params.cnn]\nfilters = 4\nepochs = 4\n"


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.toml")), ids=lambda path: path.stem)
def test_every_example_can_be_read(path: Path) -> None:
    assert read_settings(path, ReportSettings).name == path.stem


def write_pictures(folder: Path, n: int = 24) -> None:
    """Write pictures of two colours, a folder each."""
    rng = np.random.default_rng(0)
    for i in range(n):
        colour = "blue" if i % 2 else "red"
        picture = rng.integers(0, 100, (60, 60, 3), dtype=np.uint8)
        picture[..., 0 if colour == "blue" else 2] += 120
        path = folder / colour / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), picture)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "model", "cut"),
    [
        ("forest", "forest", "vgg16/block5_pool:flat"),
        ("cnn", "cnn", "pixels/100:map"),
        ("neighbours", "knn", "vgg19/fc1:flat"),
    ],
)
def test_examples_with_a_folder_a_class_run(
    name: str, model: str, cut: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_pictures(tmp_path / "pictures")
    text = (
        (EXAMPLES / f"{name}.toml")
        .read_text()
        .replace("[extract]\n", '[extract]\nweights = "random:0"\nbatch = 8\n')
    )
    path = tmp_path / f"{name}.toml"
    path.write_text(text + (PARAMS if name == "cnn" else ""))
    run_extraction(read_settings(path, ExtractSettings))
    settings = read_settings(path, FitSettings)
    fit_all(settings)
    scores = read_scores(settings.folder).set_index(["model", "level"])
    assert scores.loc[(model, "tile"), "n"] == 24
    chosen = read_run(settings.folder, "random", cut, model)["chosen"]["class"]
    assert len(chosen) == 5
    if model == "knn":
        assert {one["n_neighbors"] for one in chosen.values()} == {11}
