"""Kept models predict other places: the same numbers as in memory, in parts, after a kill, and
never from other weights.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from made_experiment import N, change, make_experiment, read_signal, write_features, write_table
from typer.testing import CliRunner

from extract.errors import PlaceError
from extract.settings import read_settings
from extract.store.embeddings import Embeddings
from extract.store.import_vectors import import_embeddings
from extract.store.shards import ShardWriter, write_virtual
from extract.tables.tile_table import read_tiles
from models.cli import app
from models.data.features import Features
from models.data.place_settings import PlaceSettings
from models.fit import fit_all
from models.predicting import place as place_module
from models.predicting.predict import predict_place
from models.predicting.write_predictions import TileFiles
from models.settings import FitSettings
from models.store.kept_models import find_kept, load_model

ROOT = Path(__file__).resolve().parents[1]
PLACE = """
name = "new"
out = "out"
[tiles]
table = "t.csv"
images = "."
area = "area"
x = "x"
y = "y"
size_m = 50
crs = "EPSG:27700"
groups = ["district"]
[extract]
cuts = ["net/last:avg"]
"""


def fitted(folder: Path, names: list[str], **models: Any) -> FitSettings:
    path = make_experiment(
        folder, names=names, keep="all", splits=["area", "block"], block_m=400, **models
    )
    settings = read_settings(path, FitSettings)
    fit_all(settings)
    return settings


def new_place(
    folder: Path, n: int = 50, *, weights: str = "w", shift: float = 0.0, **columns: Any
) -> PlaceSettings:
    folder.mkdir()
    rng = np.random.default_rng(5)
    table = {
        "id": np.arange(n) + 1000,
        "area": [f"Z{i // 7}" for i in range(n)],
        "x": 530000.0 + 50 * np.arange(n),
        "y": 180000.0,
        "district": "D1",
        **columns,
    }
    pd.DataFrame(table).to_csv(folder / "t.csv", index=False)
    (folder / "new.toml").write_text(PLACE)
    settings = read_settings(folder / "new.toml", PlaceSettings)
    shard = settings.folder / "features/net/part-00000.h5"
    shard.parent.mkdir(parents=True)
    writer = ShardWriter(
        shard,
        read_tiles(settings).id,
        {"last:avg": (6,)},
        dtype="float16",
        attributes={"weights": "random:0", "weights_sha256": weights},
    )
    writer.append(
        {"last:avg": rng.normal(size=(n, 6)) + shift}, ["" if i != 4 else "torn" for i in range(n)]
    )
    writer.close()
    write_virtual(settings.folder / "features/net.h5", [shard])
    return settings


@pytest.mark.parametrize(
    "model", ["ridge", "ridge@area", "ridge+groups", "knn", "mean", "region", "location"]
)
def test_every_feed_is_made_again_for_a_new_place(tmp_path: Path, model: str) -> None:
    settings, place = fitted(tmp_path / "town", [model]), new_place(tmp_path / "new")
    facts = predict_place(settings, place, "income", tmp_path / "p", model=model)
    told = pd.read_parquet(tmp_path / "p/predictions.parquet")
    assert list(told["id"]) == list(range(1000, 1050))
    assert told["prediction"].isna().tolist() == [i == 4 for i in range(50)]
    assert facts["n_rejected"] == 1
    assert not facts["in_training"]
    areas = pd.read_csv(tmp_path / "p/areas.csv")
    means = told.groupby("area")["prediction"].mean()
    np.testing.assert_allclose(areas.set_index("area")["prediction"], means[areas["area"]])
    assert areas["n_tiles"].sum() == 49


def test_a_new_process_predicts_what_the_model_in_memory_predicts(tmp_path: Path) -> None:
    settings = fitted(tmp_path / "town", ["ridge"])
    kept = find_kept(settings.folder, "income")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "models",
            "predict",
            "--config",
            str(tmp_path / "town/s.toml"),
            "--target",
            "income",
            "--cut",
            str(kept.cell.cut),
            "--out",
            str(tmp_path / "p"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    told = pd.read_parquet(tmp_path / "p/income/predictions.parquet")
    model = load_model(kept.path)
    with Embeddings(settings.folder / "features/net.h5") as embeddings:
        X = Features(embeddings.read("last:avg")[embeddings.is_ok])
    expected = model.predict(X)[:, 0]
    np.testing.assert_allclose(told["prediction"].dropna(), expected, atol=1e-6)
    assert told["in_training"].all()
    assert "fitted on" in done.stdout


def test_pieces_give_what_one_pass_gives_and_a_kill_loses_no_done_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, place = (
        fitted(tmp_path / "town", ["ridge", "ridge@area"]),
        new_place(tmp_path / "new", 700),
    )
    for model in ("ridge", "ridge@area"):
        predict_place(settings, place, "income", tmp_path / f"whole {model}", model=model)
    monkeypatch.setattr(place_module, "PIECE_TILES", 256)
    for model in ("ridge", "ridge@area"):
        out, seen = tmp_path / model, []

        def stop(n_tiles: int, _: int, seen: list[int] = seen) -> None:
            seen.append(n_tiles)
            if len(seen) == 2:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            predict_place(settings, place, "income", out, model=model, report=stop)
        done = {path.name: path.stat().st_mtime_ns for path in out.glob("parts/*/*")}
        assert len(done) == 2
        kept = []

        def keep(n_tiles: int, _: int, out: Path = out, kept: list[dict[str, int]] = kept) -> None:
            kept.append({path.name: path.stat().st_mtime_ns for path in out.glob("parts/*/*")})

        predict_place(settings, place, "income", out, model=model, report=keep)
        assert len(kept) == 3
        assert done.items() <= kept[-1].items()  # finished pieces are not made again
        pieces, whole = (
            pd.read_parquet(f / "predictions.parquet").sort_values("id")
            for f in (out, tmp_path / f"whole {model}")
        )
        np.testing.assert_allclose(pieces["prediction"], whole["prediction"], atol=1e-9)
        assert not (out / "parts").exists()


def test_what_lies_far_from_the_training_tiles_is_flagged(tmp_path: Path) -> None:
    settings = fitted(tmp_path / "town", ["ridge"])
    cut = str(find_kept(settings.folder, "income").cell.cut)
    near = predict_place(
        settings,
        read_settings(tmp_path / "town/s.toml", PlaceSettings),
        "income",
        tmp_path / "a",
        cut=cut,
    )
    far = predict_place(
        settings,
        new_place(tmp_path / "new", shift=30.0),
        "income",
        tmp_path / "b",
        cut="net/last:avg",
    )
    assert near["n_outside"] <= 0.05 * N
    assert far["n_outside"] == 49
    check_distances(settings, far)


def check_distances(settings: FitSettings, facts: dict[str, Any]) -> None:
    """Check the distances from training tiles against those of all pairs."""
    xy = read_tiles(settings).xy
    places = np.column_stack([530000.0 + 50 * np.arange(50), np.full(50, 180000.0)])
    pairs = np.linalg.norm(places[:, None] - xy[None], axis=2)
    stated = facts["training_distances_m"]
    assert stated["place"]["median"] == pytest.approx(np.median(pairs.min(axis=1)))
    assert set(stated["splits"]) == {"area", "block"}
    assert stated["splits"]["area"]["median"] < stated["splits"]["block"]["median"] < 1000
    assert "half of the tiles lie more than" in facts["notes"][0]
    assert "farther away than any split held out" in facts["notes"][1]


def test_a_group_that_no_training_tile_had_is_outside(tmp_path: Path) -> None:
    settings = fitted(tmp_path / "town", ["ridge+groups"])
    place = new_place(tmp_path / "new", district=["D1"] * 25 + ["<b>nowhere"] * 25)
    predict_place(settings, place, "income", tmp_path / "p", cut="net/last:avg")
    told = pd.read_parquet(tmp_path / "p/predictions.parquet")
    assert told["is_outside"].to_numpy()[25:].all()


def test_squares_are_in_longitude_and_latitude(tmp_path: Path) -> None:
    settings, place = fitted(tmp_path / "town", ["ridge"]), new_place(tmp_path / "new")
    predict_place(settings, place, "income", tmp_path / "p", cut="net/last:avg")
    features = json.loads((tmp_path / "p/predictions.geojson").read_text())["features"]
    ring = np.array(features[0]["geometry"]["coordinates"][0])
    assert len(features) == 50
    assert ring.shape == (5, 2)
    assert (
        np.abs(ring - [-0.128, 51.504]) < 0.01
    ).all()  # 530000, 180000 of the National Grid is Trafalgar Square's south
    assert features[4]["properties"]["prediction"] is None


@pytest.mark.parametrize("size_m", [50.0, None])
def test_geopackage_has_the_rows_and_the_places_of_tiles_and_areas(
    tmp_path: Path, size_m: float | None
) -> None:
    geopandas = pytest.importorskip("geopandas")
    settings, place = fitted(tmp_path / "town", ["mean"]), new_place(tmp_path / "new")
    place = place.model_copy(update={"tiles": place.tiles.model_copy(update={"size_m": size_m})})
    predict_place(settings, place, "income", tmp_path / "p", model="mean")
    for layer, name in (("tiles", "predictions"), ("areas", "areas")):
        read = geopandas.read_file(tmp_path / "p/predictions.gpkg", layer=layer)
        table = pd.read_parquet(tmp_path / f"p/{name}.parquet")
        rows = pd.DataFrame(read.drop(columns="geometry"))
        pd.testing.assert_frame_equal(rows, table, check_dtype=False)
        assert read.crs == "EPSG:27700"
    # seven tiles of 50 m in a row, the first about 530000, 180000
    half = (size_m or 0) / 2
    west, south, east, north = read.geometry[0].bounds
    assert (west, south) == (530000 - half, 180000 - half)
    assert (east, north) == (530300 + half, 180000 + half)


@pytest.mark.parametrize(
    ("crs", "text"),
    [
        ("EPSG:4326", "crs of 'new': expected that of x and y in metres.*which has degrees"),
        ("EPSG:999999", r"\[tiles\] crs: expected"),
        ("EPSG:27700", "tile 1000: its place .* is far from where"),
    ],
)
def test_coordinates_that_are_no_place_are_refused(tmp_path: Path, crs: str, text: str) -> None:
    settings, place = fitted(tmp_path / "town", ["mean"]), new_place(tmp_path / "new", y=1e12)
    place = place.model_copy(update={"tiles": place.tiles.model_copy(update={"crs": crs})})
    with pytest.raises(ValueError, match=text):
        predict_place(settings, place, "income", tmp_path / "p", model="mean")
    assert not list(tmp_path.glob("p/*.json"))


def test_help_names_what_it_speaks_of() -> None:
    shown = " ".join(CliRunner().invoke(app, ["predict", "--help"]).output.split())
    assert "a name and [tiles], its table and pictures" in shown
    example = "Example: roofline predict --config town.toml --tiles new.toml --target income"
    assert example in shown


@pytest.mark.parametrize(
    ("change_place", "text"),
    [
        ({"weights": "other"}, "other weights than the model was fitted on.*Remove them"),
        ({"groups": "[]"}, "no district: name them"),
    ],
)
def test_a_place_that_does_not_fit_is_refused(
    tmp_path: Path, change_place: dict[str, str], text: str
) -> None:
    settings = fitted(tmp_path / "town", ["ridge+groups"])
    place = new_place(tmp_path / "new", weights=change_place.get("weights", "w"))
    if "groups" in change_place:
        place = place.model_copy(update={"tiles": place.tiles.model_copy(update={"groups": []})})
    with pytest.raises(PlaceError, match=text):
        predict_place(settings, place, "income", tmp_path / "p", cut="net/last:avg")


def test_features_alone_give_the_same_tiles(tmp_path: Path) -> None:
    settings, place = fitted(tmp_path / "town", ["ridge", "mean"]), new_place(tmp_path / "new")
    predict_place(settings, place, "income", tmp_path / "a", cut="net/last:avg")
    facts = predict_place(
        settings, place.folder / "features", "income", tmp_path / "b", cut="net/last:avg"
    )
    whole, bare = (pd.read_parquet(tmp_path / name / "predictions.parquet") for name in ("a", "b"))
    pd.testing.assert_frame_equal(whole[bare.columns], bare)
    assert "area" not in bare
    assert not (tmp_path / "b/areas.csv").exists()
    assert "no areas" in facts["notes"][0]
    with pytest.raises(PlaceError, match="no areas, coordinates or descriptors"):
        predict_place(settings, place.folder / "features", "income", tmp_path / "c", model="mean")


def test_a_folder_of_other_predictions_is_left_alone_and_the_same_ones_are_not_made_again(
    tmp_path: Path,
) -> None:
    settings, place = fitted(tmp_path / "town", ["ridge", "mean"]), new_place(tmp_path / "new")
    first = predict_place(settings, place, "income", tmp_path / "p", model="mean")
    stamp = (tmp_path / "p/predictions.csv").stat().st_mtime_ns
    assert predict_place(settings, place, "income", tmp_path / "p", model="mean") == first
    assert (tmp_path / "p/predictions.csv").stat().st_mtime_ns == stamp
    with pytest.raises(PlaceError, match=r"holds predictions of 'income' by 'mean'.*--out"):
        predict_place(settings, place, "income", tmp_path / "p", model="ridge", cut="net/last:avg")


def test_the_intervals_and_their_coverage_stand_beside_the_model(tmp_path: Path) -> None:
    settings = fitted(tmp_path / "town", ["ridge"])
    facts = find_kept(settings.folder, "income").facts
    assert set(facts["intervals"]) == {"tile", "area"}
    assert {(row["split"], row["level"], row["nominal"]) for row in facts["coverage"]} == {
        (split, level, nominal)
        for split in ("area", "block")
        for level in ("tile", "area")
        for nominal in (0.8, 0.95)
    }


def test_classes_come_with_sets_that_hold_the_true_one(tmp_path: Path) -> None:
    signal = read_signal()
    path = make_experiment(tmp_path / "town", names=["ridge"], keep="all", splits=["area"])
    write_table(tmp_path / "town", kind=np.where(signal > 0, "high|er", "low"))
    settings = change(path, columns=["income", "kind"])
    write_features(settings)
    fit_all(settings)
    place = read_settings(path, PlaceSettings)
    predict_place(settings, place, "kind", tmp_path / "p")
    told = pd.read_parquet(tmp_path / "p/predictions.parquet")
    np.testing.assert_allclose(told[["p_high|er", "p_low"]].sum(axis=1).drop(3), 1)
    assert set(told["prediction"].dropna()) == {"high|er", "low"}
    assert told["set80"].drop(3).str.len().gt(0).any()


def test_a_first_piece_without_a_class_lets_later_ones_have_one(tmp_path: Path) -> None:
    pieces = []
    for i, prediction in enumerate((None, "urban")):
        piece = pd.DataFrame({"id": [str(i)], "is_integer_id": [True], "prediction": [prediction]})
        pieces.append(tmp_path / f"{i}.parquet")
        piece.to_parquet(pieces[-1])
    with ExitStack() as stack:
        files = TileFiles(tmp_path, pieces, None, None, stack)
        for path in pieces:
            files.write(pd.read_parquet(path)[["id", "prediction"]])
    told = pd.read_parquet(tmp_path / "predictions.parquet.partial")
    assert told["id"].tolist() == [0, 1]
    assert told["prediction"].isna().tolist() == [True, False]
    assert told["prediction"].iloc[1] == "urban"


def test_ids_that_are_numbers_in_the_first_piece_alone_stay_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place_module, "PIECE_TILES", 256)
    ids = [*map(str, range(699)), "last"]
    settings, place = fitted(tmp_path / "town", ["ridge"]), new_place(tmp_path / "new", 700, id=ids)
    predict_place(settings, place, "income", tmp_path / "p", cut="net/last:avg")
    told = pd.read_parquet(tmp_path / "p/predictions.parquet")
    assert told["id"].tolist() == ids


SLOW = """
import sys, time
from pathlib import Path
from extract.settings import read_settings
from models.predicting import place, predict, write_predictions
from models.data.place_settings import PlaceSettings
from models.settings import FitSettings

def slow(module, name):
    quick = getattr(module, name)
    setattr(module, name, lambda *given, **named: (time.sleep(0.02), quick(*given, **named))[1])

place.PIECE_TILES = 256
for module, name in (
    (predict, "_as_frame"),
    (predict, "write_atomically"),
    (write_predictions, "build_tile_table"),
    (write_predictions, "publish"),
):
    slow(module, name)
folder, model = Path(sys.argv[1]), sys.argv[2]
town = read_settings(folder / "town/s.toml", FitSettings)
new = read_settings(folder / "new/new.toml", PlaceSettings)
predict.predict_place(town, new, "income", folder / "p", model=model)
"""
MOMENTS = {
    "a piece is written": "parts/*/piece-00001.parquet",
    "most are done": "parts/*/piece-00008.parquet",
    "they are joined": "predictions.csv.partial",
    "the first file has its name": "predictions.parquet",
}


@pytest.mark.parametrize(
    ("model", "asked"), [("ridge", list(MOMENTS)), ("ridge@area", ["most are done"])]
)
def test_a_killed_prediction_goes_on_and_ends_in_the_same_files(
    tmp_path: Path, model: str, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place_module, "PIECE_TILES", 256)
    settings, place = fitted(tmp_path / "town", [model]), new_place(tmp_path / "new", 3000)
    predict_place(settings, place, "income", tmp_path / "whole", model=model)
    command, before, moments = (
        [sys.executable, "-c", SLOW, str(tmp_path), model],
        dict[str, int](),
        np.random.default_rng(0),
    )
    for moment in asked:
        process = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
        while not list((tmp_path / "p").glob(MOMENTS[moment])):
            assert process.poll() is None, f"it ended before {moment}"
            time.sleep(0.001)
        time.sleep(moments.uniform(0, 0.02))
        process.kill()
        process.wait()
        after = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "p").glob("parts/*/*.parquet")}
        assert {
            name: after[name] for name in before
        } == before  # what was done is neither lost nor done again
        assert not (tmp_path / "p/predict.json").exists()
        before = after
    assert len(before) >= 9
    predict_place(settings, place, "income", tmp_path / "p", model=model)
    names = sorted(p.name for p in (tmp_path / "whole").iterdir() if p.name != ".lock")
    assert sorted(p.name for p in (tmp_path / "p").iterdir() if p.name != ".lock") == names
    for name in names:
        whole, again = ((tmp_path / folder / name).read_bytes() for folder in ("whole", "p"))
        assert whole == again, name


def import_vectors(
    settings: FitSettings | PlaceSettings, folder: Path, X: Any, version: str
) -> None:
    np.save(folder / "ids.npy", read_tiles(settings).id.to_numpy())
    np.save(folder / "x.npy", X)
    vectors = {"net/last:avg": str(folder / "x.npy")}
    ids = str(folder / "ids.npy")
    import_embeddings(settings, vectors, ids=ids, version=version, fresh=True)


def test_imports_of_one_version_predict_a_new_place_and_of_another_are_refused(
    tmp_path: Path,
) -> None:
    path = make_experiment(tmp_path / "town", names=["ridge"], keep="all", splits=["area"])
    settings = read_settings(path, FitSettings)
    shutil.rmtree(settings.folder / "features")
    signal = read_signal()[:, None].astype(np.float32)
    import_vectors(settings, tmp_path / "town", np.hstack([signal, -signal]), "2024-05")
    fit_all(settings)
    place = new_place(tmp_path / "new")
    shutil.rmtree(place.folder / "features")
    X = np.linspace(-1, 1, 50, dtype=np.float32)[:, None]
    import_vectors(place, tmp_path / "new", np.hstack([X, -X]), "2024-05")
    predict_place(settings, place, "income", tmp_path / "p", model="ridge")
    told = pd.read_parquet(tmp_path / "p/predictions.parquet")["prediction"]
    np.testing.assert_allclose(told, X[:, 0], atol=0.1)
    import_vectors(place, tmp_path / "new", np.hstack([X, -X]), "2025-01")
    with pytest.raises(PlaceError, match=r"imported as version '2025-01'.*same --version"):
        predict_place(settings, place, "income", tmp_path / "q", model="ridge")
