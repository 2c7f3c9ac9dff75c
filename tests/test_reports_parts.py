"""What the page's pictures and tables are made of, against planted truths."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
from made_report import Experiment
from PIL import Image

from extract.settings import read_settings
from reports.data.collect import collect
from reports.sections.cost import build_pareto_table
from reports.sections.error_equity import BY_TRUTH, build_group_errors
from reports.sections.maps import (
    DIVERGING,
    VIRIDIS,
    build_maps,
    draw_picture,
    measure_side,
)
from reports.sections.moran import Moran, compute_moran, describe_moran
from reports.sections.truth import (
    TRUTH,
    average_tenths,
    build_truth,
    count_squares,
    select_inside,
    title_truth,
)
from reports.settings import ReportSettings


@pytest.fixture
def collected(tmp_path):
    return collect(read_settings(Experiment(tmp_path / "city").write().config, ReportSettings))


def test_moran_finds_a_slope_and_no_pattern_in_noise():
    rng = np.random.default_rng(0)
    xy = rng.uniform(0, 1000, (400, 2))
    index, p = compute_moran(xy, xy[:, 0])
    assert index > 0.9
    assert p == 0.001
    index, p = compute_moran(xy, rng.normal(size=400))
    assert abs(index) < 0.1
    assert p > 0.05


@pytest.mark.filterwarnings("ignore")  # theirs
def test_moran_is_that_of_esda():
    esda, weights = pytest.importorskip("esda"), pytest.importorskip("libpysal.weights")
    rng = np.random.default_rng(1)
    xy = rng.uniform(0, 1000, (200, 2))
    values = np.sin(xy[:, 0] / 500) + 2 * rng.normal(size=200)
    near = weights.KNN.from_array(xy, k=8)
    near.transform = "r"
    theirs = esda.Moran(values, near, permutations=999)
    index, p = compute_moran(xy, values)
    assert index == pytest.approx(theirs.I, abs=1e-12)
    assert 0.005 < p == pytest.approx(theirs.p_sim, abs=0.03)


def test_p_values_of_several_indices_are_corrected():
    nothing = Moran(-0.01, 0.6)
    assert "no clusters of residuals on the map, on any of 1 index." in describe_moran(
        {"income": nothing}
    )
    some = Moran(0.2, 0.03)
    assert "on the map for 1 of 1 index" in describe_moran({"income": some})
    assert "on any of 2 indices" in describe_moran({"income": some, "crime": nothing})


def test_moran_of_few_or_equal_values_is_undefined():
    xy = np.random.default_rng(0).uniform(size=(20, 2))
    assert np.isnan(compute_moran(xy[:5], np.arange(5.0))).all()
    assert np.isnan(compute_moran(xy, np.ones(20))).all()


def test_map_has_north_up_one_scale_and_nothing_where_no_tile_is(collected):
    maps = build_maps(collected, "income")
    assert maps.side_m == 200
    picture = Image.open(io.BytesIO(maps.truth)).convert("RGBA")
    assert picture.size == (300, 180)  # 10 × 6 squares
    first = maps.table.query("x == -100 and y == -100").iloc[0]
    assert first["residual"] == pytest.approx(first["prediction"] - first["truth"])
    assert len(maps.table) == 60


def test_squares_have_the_colours_of_the_scale_and_gaps_are_transparent():
    picture = Image.open(
        io.BytesIO(draw_picture(np.array([[0.0, 1.0, np.nan]]), 0, 1, VIRIDIS))
    ).convert("RGBA")
    assert picture.getpixel((0, 0))[:3] == VIRIDIS[0]
    assert picture.getpixel((150, 0))[:3] == VIRIDIS[-1]
    assert picture.getpixel((299, 0))[3] == 0
    middle = (
        Image.open(io.BytesIO(draw_picture(np.array([[0.0]]), -1, 1, DIVERGING)))
        .convert("RGB")
        .getpixel((0, 0))
    )
    assert np.abs(np.array(middle) - DIVERGING[2]).max() < 5


def test_many_places_are_drawn_in_squares_that_fit():
    xy = np.random.default_rng(0).uniform(0, 1e6, (5000, 2))
    assert measure_side(xy) >= 1e6 / 321


def test_errors_fall_on_the_extremes_of_a_shrunken_prediction(collected):
    tenths = build_group_errors(collected, "income").table.query(
        "by == @BY_TRUTH", local_dict={"BY_TRUTH": BY_TRUTH}
    )
    assert tenths["bias"].iloc[0] > 0 > tenths["bias"].iloc[-1]
    assert tenths["n"].sum() == 20


def test_group_that_is_predicted_too_low_is_warned_of(tmp_path):
    city = Experiment(tmp_path / "city").write(
        ("income",), ("area",), reports='higher_is = "more deprived"\n'
    )
    city.tiles.loc[12:, "income"] = np.repeat(np.linspace(2, 3, 16), 3)
    city.tiles.loc[:11, "income"] = 0.0
    city.write_run("area", "vgg16/block5_pool:avg", "ridge", ("income",))
    errors = build_group_errors(collect(read_settings(city.config, ReportSettings)), "income")
    groups = errors.table[errors.table["by"] == "district"].set_index("group")["warning"]
    assert groups["D"] == "too low"
    assert groups.drop("D").tolist() == [""]
    assert "“D”, too well off by 1.25." in errors.sentence


def test_areas_of_few_tiles_have_their_own_errors(tmp_path):
    city = Experiment(tmp_path / "city").write(("income",), ("area",))
    city.tiles.loc[3:4, "LSOA"] = ["lone1", "lone2"]
    city.tiles.to_csv(city.folder / "tiles.csv", index=False)
    table = build_group_errors(
        collect(read_settings(city.config, ReportSettings)), "income"
    ).table.query("by == 'tiles of the area'")
    assert table[["group", "n"]].to_numpy().tolist() == [["1", 3], ["2 to 4", 19]]


def test_calibration_recovers_a_planted_slope():
    prediction = np.linspace(0, 1, 200)
    rows = pd.DataFrame(
        {"truth": 2 * prediction, "prediction": prediction, "residual": -prediction}
    )
    line = average_tenths(rows, "prediction")
    np.testing.assert_allclose(line["truth"], 2 * line["prediction"])
    assert line["n"].tolist() == [20] * 10


def test_squares_count_every_unit_once():
    rows = pd.DataFrame(
        np.random.default_rng(0).normal(size=(5000, 2)), columns=["truth", "prediction"]
    )
    assert count_squares(rows, TRUTH)["n"].sum() == 5000


def test_an_outlier_is_counted_and_does_not_shrink_the_picture():
    values = np.linspace(0, 1, 100)
    rows = pd.DataFrame({"truth": values, "prediction": values})
    rows.loc[100] = [50.0, 0.5]
    inside = select_inside(rows, TRUTH)
    assert len(inside) == 100
    assert inside["truth"].max() == 1


def test_truth_has_a_dot_an_area(collected):
    spec = build_truth(collected, "income")
    assert len(spec["datasets"]["points"]) == 20
    assert spec["encoding"]["x"]["field"] == "prediction"
    assert [layer["data"]["name"] for layer in spec["layer"]] == ["points", "dashed", "tenths"]
    assert title_truth(collected, "income") == "One unit more predicted is 1.50 more in truth"


def test_front_has_no_cell_that_another_beats_in_both(collected):
    table = build_pareto_table(collected)
    for row in table[table["is_front"]].itertuples():
        assert not ((table["seconds"] < row.seconds) & (table["r2"] >= row.r2)).any()
    assert table.loc[table["r2"].idxmax(), "is_front"]
