"""The command `explain`: its files, its gallery, and what it says where it cannot."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from extract.errors import RunFileError
from extract.files.hashing import hash_file
from extract.run import run_extraction
from extract.settings import ExtractSettings, read_settings
from models.cli import app
from models.explaining.drawing import draw_heat, draw_overlay, measure_limit
from models.explaining.explanations import (
    describe_border,
    explanation_folder,
    name_file,
    read_explanation,
)
from models.explaining.heat_maps import WORDS, describe_method, measure_border
from models.explaining.tile_selection import choose_gallery
from models.fit import fit_all
from models.settings import FitSettings
from models.store.runs import read_predictions
from models.store.seal import seal

pytestmark = pytest.mark.slow
N = 48
CUT = "mobilenetv2/block_3_expand_relu:avg"
MODELS = (
    'names = ["mean", "ridge", "ridge@area", "knn", "head"]\nfolds = 3\nkeep = ["ridge", '
    '"ridge@area", "knn", "head"]\n'
    'accept = ["labels-differ"]\n[models.params.head]\nepochs = 5\n'
)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fitted experiment whose tiles carry a bright corner, the brighter the higher the label;
    gives the settings' path.
    """
    folder, rng = tmp_path_factory.mktemp("explain"), np.random.default_rng(0)
    (folder / "tiles").mkdir()
    label = rng.uniform(size=N // 2).repeat(2)
    for i in range(N):
        picture = rng.normal(90, 8, (32, 32, 3))
        picture[:10, :10] += 120 * label[i]
        cv2.imwrite(str(folder / "tiles" / f"{i}.png"), picture.clip(0, 255).astype(np.uint8))
    ids = ["../../up", "a'\"b<i>", "x" * 300, *(f"t{i}" for i in range(3, N))]
    pd.DataFrame(
        {"id": ids, "file": range(N), "area": [f"A{i // 2}" for i in range(N)], "income": label}
    ).to_csv(folder / "t.csv", index=False)
    (folder / "s.toml").write_text(
        'name = "s"\nout = "out"\n[tiles]\ntable = "t.csv"\nimages = "tiles"\npath = '
        '"{file}.png"\narea = "area"\n'
        f'[targets]\ncolumns = ["income"]\n[extract]\ncuts = ["{CUT}"]\nweights = "random:1"\nsize '
        "= 32\n"
        f'precision = "float32"\nbatch = 16\n[models]\n{MODELS}'
    )
    run_extraction(read_settings(folder / "s.toml", ExtractSettings))
    fit_all(read_settings(folder / "s.toml", FitSettings))
    return folder / "s.toml"


def call(path: Path, *options: str) -> str:
    """Explain, and give what was printed."""
    done = CliRunner().invoke(app, ["explain", "--config", str(path), *options])
    assert done.exit_code == 0, done.output
    return done.output


def fail(path: Path, *options: str) -> str:
    done = CliRunner().invoke(app, ["explain", "--config", str(path), *options])
    assert done.exit_code == 1, done.output
    return " ".join(done.output.split())


def folder_of(path: Path, model: str) -> Path:
    return explanation_folder(path.parent / "out", "income", CUT, model)


def test_a_gallery_has_its_files_and_out_of_fold_predictions(fitted: Path) -> None:
    said = call(fitted, "--model", "ridge")
    assert "the tile's prediction is that of the mean tile plus the mean of the map" in said
    folder, facts, tiles = read_explanation(folder_of(fitted, "ridge"))
    assert tiles["role"].value_counts().to_dict() == {"range": 10, "best": 5, "worst": 5}
    assert tiles["id"].is_unique
    for name in tiles[["tile", "heat", "overlay"]].to_numpy().ravel():
        assert cv2.imread(str(folder / name)).shape == (32, 32, 3)
    known = read_predictions(fitted.parent / "out", "area", CUT, "ridge").set_index("id")[
        "prediction"
    ]
    np.testing.assert_array_equal(tiles["prediction"], known[tiles["id"]])
    errors = (tiles["prediction"] - tiles["truth"]).abs()
    assert errors[tiles["role"] == "best"].max() < errors[tiles["role"] == "worst"].min()
    assert facts["method"] == "exact"
    assert facts["sanity"]["depends_on_weights"]
    assert "out of fold" in facts["refitted"]


def test_every_kept_model_is_explained_by_its_own_method(fitted: Path) -> None:
    for model, method in (("ridge@area", "exact"), ("head", "gradients"), ("knn", "occlusion")):
        call(fitted, "--model", model)
        assert read_explanation(folder_of(fitted, model)).facts["method"] == method


def test_neighbours_are_shown_with_labels_and_never_of_the_tiles_own_area(fitted: Path) -> None:
    call(fitted, "--model", "knn", "--tiles", "t10,t20")
    folder, _, tiles = read_explanation(folder_of(fitted, "knn"))
    table = pd.read_csv(fitted.parent / "t.csv").set_index("id")
    for one in tiles.to_dict("records"):
        ids = list(one["neighbour_ids"])
        assert ids
        assert table.loc[one["id"], "area"] not in set(table.loc[ids, "area"])
        np.testing.assert_allclose(one["neighbour_truths"], table.loc[ids, "income"])
        assert one["explained"] == pytest.approx(one["prediction"], abs=0.1)
        assert cv2.imread(str(folder / one["neighbours"])).shape[1] == 32 * len(ids) + 4 * (
            len(ids) - 1
        )


def test_tiles_of_strange_names_stay_in_the_folder(fitted: Path) -> None:
    call(fitted, "--model", "ridge", "--tiles", f"../../up,a'\"b<i>,{'x' * 300}")
    _, _, tiles = read_explanation(folder_of(fitted, "ridge"))
    asked = tiles[tiles["id"].isin(["../../up", "a'\"b<i>", "x" * 300])]
    assert len(asked) == 3
    assert all(
        (folder_of(fitted, "ridge") / name).is_file() and len(name) < 120 for name in asked["heat"]
    )
    assert not list((fitted.parent / "out").glob("*up*"))


def test_tiles_that_are_asked_for_join_the_gallery_on_its_colours(fitted: Path) -> None:
    call(fitted, "--model", "ridge")
    before = read_explanation(folder_of(fitted, "ridge"))
    other = next(i for i in (f"t{n}" for n in range(3, N)) if i not in set(before.tiles["id"]))
    call(fitted, "--model", "ridge", "--tiles", other)
    after = read_explanation(folder_of(fitted, "ridge"))
    assert set(after.tiles["id"]) == {*before.tiles["id"], other}
    assert after.facts["limit"] == before.facts["limit"]
    assert after.tiles.set_index("id").loc[other, "role"] == "asked"
    call(fitted, "--model", "ridge", "--tiles", str(before.tiles["id"].iloc[-1]))
    again = read_explanation(folder_of(fitted, "ridge")).tiles.set_index("id")["role"]
    assert again.to_dict() == after.tiles.set_index("id")["role"].to_dict()


def test_heat_along_the_border_is_measured_and_named() -> None:
    heat = np.ones((5, 6, 6))
    assert measure_border(heat) == 1
    heat[:, 1:-1, 1:-1] = -0.25
    assert measure_border(heat) == 4
    assert "4.0 times as strong as inside" in describe_border(4.0)
    assert "no stronger than inside" in describe_border(1.0)
    assert measure_border(np.ones((5, 2, 2))) is None
    assert measure_border(np.zeros((5, 6, 6))) is None
    assert describe_border(None) == ""


def test_scale_of_colours_is_not_that_of_one_tile() -> None:
    heat = np.ones((12, 4, 4))
    heat[3] = 1000
    assert measure_limit(heat) == 1
    assert measure_limit(np.zeros((12, 4, 4))) == 1
    assert measure_limit(heat[3:4]) == 1000


def test_map_of_an_area_does_not_claim_the_whole_prediction() -> None:
    assert describe_method("exact", is_area=False, has_groups=False) == WORDS["exact"]
    words = describe_method("exact", is_area=True, has_groups=True)
    assert "mean of the map" not in words
    assert "The area's other tiles and the area descriptors add to the prediction too" in words


def test_names_of_files_are_safe_and_differ() -> None:
    assert name_file(17) == "17"
    assert name_file("e0100_1.a") == "e0100_1.a"
    strange = [
        "../x",
        "..",
        "",
        "a/b",
        "a\\b",
        "a b",
        "ü" * 300,
        "x" * 300,
        "x" * 301,
        ".hidden",
        "a\nb",
    ]
    names = [name_file(one) for one in strange]
    assert len(set(names)) == len(strange)
    assert all(
        "/" not in n and "\\" not in n and not n.startswith(".") and len(n) < 100 for n in names
    )


def test_what_is_not_there_is_named(fitted: Path) -> None:
    assert "expected a kept model forest, got: " in (
        said := fail(fitted, "--target", "income", "--model", "forest")
    )
    assert f"ridge@area on {CUT}" in said
    assert "target 'incom': unknown; known: income. Did you mean 'income'?" in fail(
        fitted, "--target", "incom"
    )
    assert "tile 't999': no such id in the table" in fail(
        fitted, "--model", "ridge", "--tiles", "t999"
    )
    assert "method 'cam': this model allows exact, occlusion" in fail(
        fitted, "--model", "ridge", "--method", "cam"
    )
    assert "nothing to explain" in fail(fitted, "--model", "xgboost")


def test_changed_pictures_are_refused(fitted: Path) -> None:
    folder = fitted.parent / "tiles"
    shutil.copy(folder / "5.png", fitted.parent / "kept.png")
    cv2.imwrite(
        str(folder / "5.png"), np.random.default_rng(1).integers(0, 255, (32, 32, 3), np.uint8)
    )
    try:
        assert "expected the embeddings that the features hold" in fail(
            fitted, "--model", "ridge", "--tiles", "t5"
        )
    finally:
        shutil.move(fitted.parent / "kept.png", folder / "5.png")


def test_a_table_that_names_files_outside_is_not_read(fitted: Path) -> None:
    call(fitted, "--model", "head")
    path = folder_of(fitted, "head")
    tiles = pd.read_parquet(path / "tiles.parquet").assign(heat="../../secret.png")
    tiles.to_parquet(path / "tiles.parquet")
    with pytest.raises(RunFileError, match="not the file that `make explain` wrote"):
        read_explanation(path)
    facts = json.loads((path / "explain.json").read_text())
    del facts["sha256"]
    facts["files"]["tiles.parquet"] = hash_file(path / "tiles.parquet")
    (path / "explain.json").write_text(json.dumps(seal(facts)))
    with pytest.raises(RunFileError, match="outside its folder"):
        read_explanation(path)


def test_a_gallery_of_few_tiles_takes_no_tile_twice() -> None:
    predicted = pd.DataFrame(
        {
            "id": range(7),
            "row": range(7),
            "truth": np.arange(7.0),
            "prediction": 3.0,
            "error": np.abs(np.arange(7) - 3.0),
            "fold": 0,
        }
    )
    gallery = choose_gallery(predicted, pd.Series(["A"] * 7))
    assert sorted(gallery["id"]) == list(range(7))


def test_colours_tell_sign_and_size() -> None:
    low, none, high = (
        draw_heat(np.full((2, 2), v), 1.0, 8)[0, 0].astype(int) for v in (-2.0, 0.0, 1.0)
    )
    assert low.tolist() == [0, 90, 150]
    assert none.tolist() == [235, 235, 235]
    assert high.tolist() == [190, 70, 0]
    tile = np.full((8, 8, 3), 77, np.uint8)
    np.testing.assert_array_equal(draw_overlay(tile, np.zeros((2, 2)), 1.0), tile)


def test_classes_are_explained_by_the_class_that_was_predicted(
    experiment: Callable[..., Path],
) -> None:
    path = experiment(
        24,
        {
            '["income"]': '["income"]\nclasses = ["kind"]',
            '"mobilenetv2/block_3_expand_relu:map"]': '"mobilenetv2/block_3_expand_relu:avg"]',
        },
        kind=["a", "b", "c"] * 8,
    )
    path.write_text(
        path.read_text()
        + '[models]\nnames = ["ridge"]\nkeep = "all"\nfolds = 3\naccept = ["labels-differ"]\n'
    )
    run_extraction(read_settings(path, ExtractSettings))
    fit_all(read_settings(path, FitSettings))
    call(path, "--target", "kind")
    _, facts, tiles = read_explanation(
        next((path.parent / "out" / "explain" / "kind").glob("*/*/ridge"))
    )
    assert facts["task"] == "class"
    assert set(tiles["truth"]) <= {"a", "b", "c"}
    assert tiles["explained"].between(0, 1).all()
