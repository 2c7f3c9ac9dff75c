"""Maps of areas as polygons."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_report import EVIL, Experiment
from PIL import Image
from typer.testing import CliRunner

from extract.errors import ReportError, SettingsError
from extract.settings import read_settings
from reports.cli import app
from reports.data.boundaries import MAX_PIXELS, read_boundaries
from reports.data.collect import collect
from reports.data.places import build_places
from reports.page.map_page import describe_places
from reports.sections.maps import build_maps
from reports.settings import ReportSettings

geopandas = pytest.importorskip("geopandas")
pytest.importorskip("rasterio")
SETTINGS = 'boundaries = "areas.gpkg"\nboundaries_code = "code"\n'


def write_polygons(path: Path, codes: list[str], *, crs: str = "EPSG:27700") -> Path:
    """Write squares of 1 km side by side from west to east."""
    from shapely.geometry import box

    squares = [
        box(530_000 + 1000 * i, 180_000, 531_000 + 1000 * i, 181_000) for i in range(len(codes))
    ]
    frame = geopandas.GeoDataFrame(
        {"code": codes, "name": "a"}, geometry=squares, crs="EPSG:27700"
    ).to_crs(crs)
    frame.to_file(path, engine="pyogrio")
    return path


@pytest.fixture
def city(tmp_path: Path) -> Experiment:
    city = Experiment(tmp_path / "city").write(
        ("income",), ("area",), places=False, reports=SETTINGS
    )
    write_polygons(
        city.folder / "areas.gpkg", [EVIL, *(f"E{i}" for i in range(1, 19)), "elsewhere"]
    )
    return city


def test_areas_have_their_colours_without_any_coordinates(city: Experiment) -> None:
    maps = build_maps(collect(read_settings(city.config, ReportSettings)), "income")
    assert maps.side_m is None
    picture = np.asarray(Image.open(io.BytesIO(maps.truth)).convert("RGB")).astype(int)
    order = maps.table.sort_values("x")
    assert order["area"].tolist()[:2] == [EVIL, "E1"]
    height, width = picture.shape[:2]
    greens = picture[height // 2, ((np.arange(19) + 0.5) * width / 19).astype(int), 1]
    assert np.corrcoef(greens, order["truth"])[0, 1] > 0.8
    assert np.isfinite(maps.moran.p)


def test_map_of_areas_has_their_shapes_and_mean_predictions(city: Experiment) -> None:
    places = build_places(collect(read_settings(city.config, ReportSettings)))
    assert places.kind == "area"
    assert places.crs == "EPSG:27700"
    assert sorted(places.names) == sorted([EVIL, *(f"E{i}" for i in range(1, 19))])
    truth = city.tiles.groupby("LSOA")["income"].mean()
    np.testing.assert_allclose(places.truth["income"], truth[places.names])
    document = describe_places(places, {})
    # 19 squares of 1 km from west to east: each ring is a point, and three steps along its sides
    side = document["width"] / 19
    west = sorted(min(np.cumsum(rings[0][::2])) for rings in document["shapes"])
    np.testing.assert_allclose(west, side * np.arange(19), atol=1)
    assert document["height"] == pytest.approx(side)
    assert {len(rings[0]) for rings in document["shapes"]} == {8}


def test_page_names_the_file_and_counts_areas_without_a_polygon(city: Experiment) -> None:
    page = city.render()
    assert "Areas as areas.gpkg draws them (1 area without a polygon), north up" in page
    assert EVIL not in page


def test_degrees_are_projected_and_lines_part_the_areas(tmp_path: Path) -> None:
    path = write_polygons(tmp_path / "areas.geojson", ["a", "b", "c"], crs="EPSG:4326")
    read = read_boundaries(path, "code", ["a", "b", "c", "d"])
    assert read.codes == ["a", "b", "c"]
    assert read.n_missing == 1
    assert np.diff(read.centre[:, 0]) == pytest.approx([1000, 1000], rel=0.01)
    assert max(read.number.shape) in (MAX_PIXELS, MAX_PIXELS + 1)
    assert 0 < read.is_line.sum() < 0.05 * (read.number > 0).sum()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"code": "kode"},
            r"no column 'kode'; there are code, name. Did you mean 'code'\? Name it in boundaries_code",
        ),
        ({"areas": ["E9"]}, r"no 'code' is an area of the tile table \(there as 'E9'\)"),
        ({"path": Path("none.gpkg")}, "none.gpkg: no such file or folder"),
    ],
)
def test_what_does_not_fit_is_said(change: dict, message: str, tmp_path: Path) -> None:
    how = {
        "path": write_polygons(tmp_path / "areas.gpkg", ["a"]),
        "code": "code",
        "areas": ["a"],
        **change,
    }
    with pytest.raises(ReportError, match=message):
        read_boundaries(how["path"], how["code"], how["areas"])


def test_what_is_no_polygon_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.gpkg").write_text("no polygons")
    with pytest.raises(ReportError, match=r"a.gpkg: cannot be read .*Name a GeoPackage"):
        read_boundaries(tmp_path / "a.gpkg", "code", ["a"])


def test_what_leads_to_other_places_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "a.gpkg").write_text("<OGRVRTDataSource/>")
    with pytest.raises(ReportError, match=r"XML, which may name data in other places"):
        read_boundaries(tmp_path / "a.gpkg", "code", ["a"])


def test_codes_that_are_numbers_are_written_as_tables_write_them(tmp_path: Path) -> None:
    path = write_polygons(tmp_path / "areas.gpkg", [1.0, 2.0])
    assert read_boundaries(path, "code", ["1", "2", "3"]).codes == ["1", "2"]


def test_without_the_extra_the_remedy_is_its_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "geopandas", None)
    with pytest.raises(ReportError, match=r"needs the extra geo. Install it: pip install"):
        read_boundaries(tmp_path / "a.gpkg", "code", ["a"])


def test_check_finds_a_wrong_polygon_file_before_the_extraction(
    city: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reports.checking.list_notes", lambda *_: [])  # this city has no pictures
    assert CliRunner().invoke(app, ["check", "--config", str(city.config)]).exit_code == 0
    (city.folder / "areas.gpkg").unlink()
    result = CliRunner().invoke(app, ["check", "--config", str(city.config)])
    assert result.exit_code == 1
    assert "no such file or folder" in result.stderr


def test_a_file_without_its_column_is_refused_in_the_settings(tmp_path: Path) -> None:
    city = Experiment(tmp_path / "city").write(
        ("income",), ("area",), reports='boundaries = "areas.gpkg"\n'
    )
    with pytest.raises(SettingsError, match="boundaries and boundaries_code go together"):
        read_settings(city.config, ReportSettings)


def test_all_of_london_is_drawn(shared: Path) -> None:
    folder = shared / "data" / "london_areas"
    codes = pd.read_csv(folder / "london_lsoa_labels.csv").iloc[:, 0].astype(str).tolist()
    read = read_boundaries(folder / "london-2011-lsoa-gen20.shp", "LSOA11CD", codes)
    assert (len(read.codes), read.n_missing) == (4835, 0)
    assert len(np.unique(read.number)) > 4700  # a few areas are smaller than a pixel


@pytest.mark.filterwarnings("ignore:'crs' was not provided:UserWarning")
def test_a_layer_and_metres_without_a_crs_are_read(tmp_path: Path) -> None:
    path = write_polygons(tmp_path / "areas.gpkg", ["a", "b"])
    frame = geopandas.read_file(path)
    frame.to_file(path, layer="other")
    with pytest.raises(ReportError, match="expected a layer of areas, other"):
        read_boundaries(path, "code", ["a"])
    assert read_boundaries(Path(f"{path}:other"), "code", ["a", "b"]).codes == ["a", "b"]
    bare = tmp_path / "bare.geojson"
    frame.set_crs(None, allow_override=True).to_file(bare)
    read = read_boundaries(bare, "code", ["a", "b"])
    assert np.diff(read.centre[:, 0]) == pytest.approx([1000])
