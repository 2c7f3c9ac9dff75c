"""The map beside the page, and its GeoPackage: every place with its truth, prediction and interval."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_report import EVIL, Experiment

from extract.settings import read_settings
from models.store.kept_models import KeptModel
from reports.build import MAP, build_content
from reports.data import places as places_module
from reports.data.collect import collect
from reports.data.places import Places, build_places
from reports.page.map_package import tabulate_places, write_package
from reports.page.map_page import describe_places, encode_shorts, render_map
from reports.settings import ReportSettings


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    return Experiment(tmp_path_factory.mktemp("map") / "city").write(splits=("block",))


@pytest.fixture(scope="module")
def collected(city):
    return collect(read_settings(city.config, ReportSettings))


@pytest.fixture(scope="module")
def places(collected) -> Places:
    kept = {
        "model": "ridge",
        "cut": "vgg16/block5_pool:avg",
        "intervals": {"tile": {"0.8": 0.5, "0.95": None}, "area": {"0.8": 0.1}},
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(places_module, "list_kept", lambda *_: [KeptModel(Path(), kept)])
        return build_places(collected)


def decode(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), "<u2")


def test_every_tile_has_its_place_and_out_of_fold_prediction(city, places):
    assert places.kind == "tile"
    assert places.names.tolist() == [str(i) for i in range(60)]
    assert places.side_m == 200
    np.testing.assert_array_equal(places.xy, city.tiles[["x", "y"]])
    np.testing.assert_allclose(places.truth["income"], city.tiles["income"])
    np.testing.assert_allclose(places.prediction["crime"], city.tiles["crime"] * 0.5)
    assert places.half_widths["income"] == {"0.8": 0.5}


def test_values_come_back_from_the_file_and_north_is_up(places):
    document = describe_places(places, {"income": "better"})
    target = document["targets"][0]
    truth = target["least"] + target["step"] * decode(target["truth"]).astype(float)
    np.testing.assert_allclose(truth, places.truth["income"], atol=target["step"])
    assert target["halves"] == {"80 %": 0.5}
    xy = decode(document["xy"]).reshape(-1, 2)
    unit = 200 / document["side"]
    np.testing.assert_allclose(xy[:, 0] * unit, places.xy[:, 0] + 100, atol=unit)
    np.testing.assert_allclose(xy[:, 1] * unit, 1100 - places.xy[:, 1], atol=unit)
    assert decode(encode_shorts(np.array([0.0, np.nan]))).tolist() == [0, 65535]


def test_page_of_the_map_has_names_escaped_and_is_linked(collected, places):
    page = render_map(collected, places)
    assert EVIL not in page
    data = page.split('<script type="application/json" id="places">')[1].split("</script>")[0]
    assert json.loads(data)["areas"][0] == EVIL
    assert MAP in [link.file for link in build_content(collected).links]


def test_map_that_is_sent_alone_warns_of_too_few_areas(collected, places):
    assert "Too few areas" not in render_map(collected, places)
    finding = {"code": "few-areas", "what": "60 tiles lie in 7 areas"}
    warned = replace(collected, audit={"findings": [finding]})
    text = "no accuracy can be claimed from this map.</strong> 60 tiles lie in 7 areas."
    assert text in render_map(warned, places)


def test_without_coordinates_there_is_no_map(tmp_path):
    city = Experiment(tmp_path / "city").write(("income",), ("area",), places=False)
    content = build_content(collect(read_settings(city.config, ReportSettings)))
    assert content.places is None
    assert MAP not in [link.file for link in content.links]


def test_full_city_stays_below_3_mb():
    n = 36_723
    rng = np.random.default_rng(0)
    targets = [f"target {i}" for i in range(7)]
    values = pd.DataFrame(rng.normal(20, 10, (n, 7)), columns=targets)
    ids = np.arange(n)
    places = Places(
        kind="tile",
        names=(1_000_000 + ids).astype(str).astype(object),
        areas=np.array([f"E0100{i // 8:04d}" for i in ids], dtype=object),
        xy=np.column_stack([ids % 190, ids // 190]) * 200.0,
        side_m=200.0,
        polygons=None,
        crs=None,
        truth=values,
        prediction=values / 2,
        models=dict.fromkeys(targets, ("ridge", "vgg16/block5_pool:avg")),
        half_widths={target: {} for target in targets},
    )
    assert len(json.dumps(describe_places(places, {}))) < 2.8e6


def test_geopackage_has_the_rows_of_the_table_and_the_same_bytes(places, tmp_path):
    geopandas = pytest.importorskip("geopandas")
    known = replace(places, crs="EPSG:27700")
    paths = [tmp_path / "a.gpkg", tmp_path / "b.gpkg"]
    for path in paths:
        write_package(known, path)
    read = geopandas.read_file(paths[0], layer="tiles")
    table = tabulate_places(known)
    pd.testing.assert_frame_equal(pd.DataFrame(read.drop(columns="geometry")), table)
    assert read.crs == "EPSG:27700"
    assert read.geometry[11].bounds == (100, 100, 300, 300)
    np.testing.assert_allclose(read["income_high80"] - read["income_prediction"], 0.5)
    np.testing.assert_allclose(
        read["crime_residual"], read["crime_prediction"] - read["crime_truth"]
    )
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_targets_of_one_plain_name_keep_their_columns_apart(places):
    names = {"income": "Income!", "crime": "income?"}
    renamed = replace(
        places,
        truth=places.truth.rename(columns=names),
        prediction=places.prediction.rename(columns=names),
        models={names[target]: model for target, model in places.models.items()},
        half_widths={names[target]: {} for target in places.models},
    )
    assert {"01_income_truth", "02_income_truth"} <= set(tabulate_places(renamed))
