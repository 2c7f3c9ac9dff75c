"""The made city: what it promises about its files, its plan, its labels and its pictures."""

from __future__ import annotations

import hashlib
import re
import tomllib
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy.ndimage import label
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from extract.city.drawing import colour_heights, draw_heights
from extract.city.sample import write_city
from extract.city.town import Town, plan_town
from extract.city.truth import FORMS, TARGETS, compute_ceiling
from extract.errors import OptionError

N_TILES = 300
N_AREAS = 100
NAMES = list(TARGETS)
COLUMNS = ["id", "LSOA11CD", "LAD17NM", "LACCD", "SOAC11CD", *NAMES]


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_city(
        tmp_path_factory.mktemp("city"), n_tiles=N_TILES, n_areas=N_AREAS, seed=0
    ).parent


@pytest.fixture(scope="module")
def table(city: Path) -> pd.DataFrame:
    return pd.read_csv(city / "EmbeddingData.csv")


@pytest.fixture(scope="module")
def town() -> Town:
    return plan_town(n_tiles=600, n_areas=120, seed=0)


def hashes(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def is_contiguous(town: Town, group: NDArray[np.int64]) -> bool:
    """Whether the tiles of every group form one piece, joined over edges."""
    frame = np.full(town.side**2, -1)
    frame[town.ids] = group
    squares = frame.reshape(town.side, town.side)
    return all(label(squares == number)[1] == 1 for number in range(group.max() + 1))


# -- files


def test_the_table_has_the_columns_of_the_real_one(table: pd.DataFrame) -> None:
    assert list(table) == COLUMNS
    assert len(table) == N_TILES
    assert table["LSOA11CD"].nunique() == N_AREAS
    assert not table.isna().any(axis=None)


def test_every_row_has_its_picture_and_every_picture_its_row(
    city: Path, table: pd.DataFrame
) -> None:
    written = {path.name for path in (city / "tiles").iterdir()}
    assert written == {f"LIDAR_{number}.png" for number in table["id"]}


def test_tiles_are_opaque_rgba_of_224_pixels(city: Path) -> None:
    for path in sorted((city / "tiles").iterdir())[::30]:
        tile = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert tile is not None
        assert tile.shape == (224, 224, 4)
        assert tile.dtype == np.uint8
        assert (tile[..., 3] == 255).all()


def test_nothing_but_the_promised_files_is_written(city: Path) -> None:
    written = {path.name for path in city.iterdir()}
    assert written == {"tiles", "EmbeddingData.csv", "ceiling.csv", "README.txt", "demo.toml"}


def test_the_settings_name_what_is_there(city: Path, table: pd.DataFrame) -> None:
    settings = tomllib.loads((city / "demo.toml").read_text(encoding="utf-8"))
    tiles = settings["tiles"]
    assert (city / tiles["table"]).is_file()
    assert (city / tiles["images"] / tiles["path"].format(id=table["id"][0])).is_file()
    assert {tiles["id"], tiles["area"], *tiles["groups"], *settings["targets"]["columns"]} <= set(
        table
    )
    assert (city / settings["targets"]["ceiling"]).is_file()


def test_the_readme_gives_the_function_of_each_target(city: Path) -> None:
    text = (city / "README.txt").read_text(encoding="utf-8")
    assert f"{N_TILES} tiles of 200 m in {N_AREAS} areas, seed 0" in text
    assert all(re.search(rf"^{name}: [+-]0\.\d", text, re.MULTILINE) for name in NAMES)


def test_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_city(tmp_path / name, n_tiles=24, n_areas=6, seed=7)
    assert hashes(tmp_path / "one") == hashes(tmp_path / "two")


def test_another_seed_gives_another_city(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_city(tmp_path / str(seed), n_tiles=20, n_areas=4, seed=seed)
    one = hashes(tmp_path / "0")
    two = hashes(tmp_path / "1")
    same = set(one.values()) & set(two.values())
    assert same <= {one["demo.toml"]}


# -- plan


def test_ids_give_each_tile_its_own_place_in_the_town(city: Path, table: pd.DataFrame) -> None:
    grid = tomllib.loads((city / "demo.toml").read_text(encoding="utf-8"))["tiles"]["grid"]
    size = grid["size_m"]
    east, north = grid["origin"]
    column, row = np.divmod(table["id"].to_numpy(), grid["rows"])
    x = east + size * (column + 0.5)
    y = north - size * (row + 0.5)
    xy = np.column_stack([x, y])
    assert len(np.unique(xy, axis=0)) == N_TILES
    assert (table["id"].diff().dropna() > 0).all()
    assert table["id"].diff().max() > 1
    nearest = np.sort(np.linalg.norm(xy[:, None] - xy, axis=-1), axis=1)[:, 1]
    assert (nearest == size).all()


def test_the_town_and_its_areas_are_each_of_one_piece(town: Town) -> None:
    assert is_contiguous(town, np.zeros_like(town.area))
    assert is_contiguous(town, town.area)
    assert is_contiguous(town, town.borough[town.area])


def test_areas_are_of_unequal_size(town: Town) -> None:
    sizes = np.bincount(town.area)
    assert len(sizes) == 120
    assert sizes.min() == 1
    assert 3 <= np.median(sizes) <= 5
    assert 12 <= sizes.max() <= 30
    assert len(np.unique(town.borough)) == 4


def test_areas_nest_in_larger_ones(table: pd.DataFrame) -> None:
    for inner, outer in (("LSOA11CD", "LAD17NM"), ("LAD17NM", "LACCD"), ("LSOA11CD", "SOAC11CD")):
        assert (table.groupby(inner)[outer].nunique() == 1).all()


@pytest.mark.parametrize(
    ("column", "form"),
    [
        ("LSOA11CD", r"E019\d{5}"),
        ("SOAC11CD", r"[1-3][abc]"),
        ("LACCD", r"[1-3]a1r"),
        ("LAD17NM", r"Borough \d+"),
    ],
)
def test_codes_and_names_are_well_formed(table: pd.DataFrame, column: str, form: str) -> None:
    assert table[column].str.fullmatch(form).all()


# -- labels


def test_labels_are_constant_inside_an_area(table: pd.DataFrame) -> None:
    assert (table.groupby("LSOA11CD")[NAMES].nunique() == 1).all(axis=None)


@pytest.mark.parametrize("seed", range(4))
def test_labels_lie_in_the_real_ranges(seed: int) -> None:
    labels = pd.DataFrame(plan_town(n_tiles=600, n_areas=120, seed=seed).labels, columns=NAMES)
    assert labels[["income", "employment"]].to_numpy().min() > 0
    assert labels[["income", "employment"]].to_numpy().max() < 0.6
    assert (labels[["education", "barriers", "living_environment"]] > 0).all(axis=None)
    assert (labels[["education", "barriers", "living_environment"]] < 100).all(axis=None)
    assert (labels[["health", "crime"]].min() < 0).all()
    assert (labels[["health", "crime"]].max() > 0).all()
    for name, target in TARGETS.items():
        assert labels[name].mean() == pytest.approx(target.mean, abs=0.2 * target.sd)
        assert labels[name].std() == pytest.approx(target.sd, rel=0.25)


def test_the_ceiling_is_the_r2_of_the_noise_free_function(city: Path, table: pd.DataFrame) -> None:
    plan = plan_town(n_tiles=N_TILES, n_areas=N_AREAS, seed=0)
    expected = pd.DataFrame(plan.expected, columns=NAMES)
    ceiling = pd.read_csv(city / "ceiling.csv").set_index(["target", "level"])["r2"]
    assert len(ceiling) == 2 * len(NAMES)
    areas = table.assign(area=plan.area).drop_duplicates("area").sort_values("area")
    for name in NAMES:
        of_tiles = r2_score(table[name], expected[name][plan.area])
        of_areas = r2_score(areas[name], expected[name])
        assert ceiling[name, "tile"] == pytest.approx(of_tiles, abs=1e-4)
        assert ceiling[name, "area"] == pytest.approx(of_areas, abs=1e-4)


def test_the_noise_free_function_is_the_mean_over_the_noise() -> None:
    """A target's expectation, from its definition: averaged over many draws of the noise."""
    plan = plan_town(n_tiles=600, n_areas=120, seed=3)
    draws = np.random.default_rng(0).standard_normal(200_000)
    for k, target in enumerate(TARGETS.values()):
        mean, sd, limit, share, weights = target
        signal = plan.scores @ np.array(weights)
        known = np.sqrt(share) * (signal[0] - signal.mean()) / signal.std()
        span = abs(mean - limit)
        sign = np.sign(mean - limit)
        b = np.sqrt(span - np.sqrt(span**2 - sd**2 / 2))
        a = np.sqrt(span - b**2)
        drawn = limit + sign * (a + sign * b * (known + np.sqrt(1 - share) * draws)) ** 2
        assert plan.expected[0, k] == pytest.approx(drawn.mean(), abs=0.01 * sd)


@pytest.mark.parametrize("seed", range(4))
def test_ceilings_differ_from_barriers_to_living_environment(seed: int) -> None:
    plan = plan_town(n_tiles=600, n_areas=120, seed=seed)
    ceiling = compute_ceiling(plan.labels, plan.expected, plan.area).query("level == 'area'")
    r2 = ceiling.set_index("target")["r2"]
    assert r2.idxmin() == "barriers"
    assert r2.idxmax() == "living_environment"
    assert 0.4 < r2["barriers"] < 0.55
    assert 0.75 < r2["living_environment"] < 0.85


def test_area_groups_are_a_noisy_class_of_the_form(table: pd.DataFrame) -> None:
    """One-hot groups say something of the labels, and less than the form does."""
    areas = table.drop_duplicates("LSOA11CD")
    means = areas.groupby("SOAC11CD")["living_environment"].transform("mean")
    assert 0.15 < r2_score(areas["living_environment"], means) < 0.75


# -- pictures


@pytest.mark.parametrize(
    ("form", "statistic"),
    [
        ("coverage", lambda heights: (heights > 4).mean()),
        ("height", lambda heights: np.median(heights[(heights > 4) & (heights < 20)])),
        ("towers", lambda heights: (heights > 20).mean()),
        ("trees", lambda heights: (heights > 4).mean()),
        ("width", lambda heights: (heights < 0.5).mean()),
    ],
)
def test_each_form_is_seen_in_the_heights(form, statistic) -> None:
    means = []
    for score in (-1.5, 1.5):
        scores = score * (np.array(FORMS) == form)
        tiles = [draw_heights(scores, np.random.default_rng(k)) for k in range(20)]
        means.append(np.mean([statistic(heights) for heights in tiles]))
    assert means[1] > 1.1 * means[0]


def test_flat_ground_is_blue_and_high_roofs_are_pale_yellow() -> None:
    ground = colour_heights(np.zeros((100, 100)))
    roof = colour_heights(np.full((100, 100), 40.0))
    assert ground[0, 0].tolist() == [150, 109, 0, 255]
    assert roof[0, 0].tolist() == [150, 255, 255, 255]


def test_walls_facing_north_east_are_black() -> None:
    heights = np.zeros((100, 100))
    heights[40:70, 40:70] = 15.0
    tile = colour_heights(heights)[..., :3].max(axis=-1)
    edge = 89  # pixels of the cells 40, 55 and 70
    middle = 123
    far_edge = 156
    assert max(tile[edge, middle], tile[middle, far_edge]) < 20
    assert min(tile[far_edge, middle], tile[middle, edge]) > 100


def picture_statistics(path: Path) -> list[float]:
    """Mean and standard deviation of each channel, and the gradients at four scales: 18 numbers."""
    picture = cv2.imread(str(path))
    assert picture is not None
    colours = picture.astype(np.float32) / 255
    found = [*colours.mean(axis=(0, 1)), *colours.std(axis=(0, 1))]
    for scale in (1, 2, 4, 8):
        side = 224 // scale
        grey = cv2.resize(colours.mean(axis=-1), (side, side), interpolation=cv2.INTER_AREA)
        across = np.diff(grey, axis=1)
        down = np.diff(grey, axis=0)
        found += [np.abs(across).mean(), np.abs(down).mean(), across.std()]
    return [float(value) for value in found]


def test_simple_picture_statistics_predict_every_target(city: Path, table: pd.DataFrame) -> None:
    paths = [city / "tiles" / f"LIDAR_{number}.png" for number in table["id"]]
    X = np.array([picture_statistics(path) for path in paths])
    Y = table[NAMES].to_numpy()
    folds = GroupKFold(5, shuffle=True, random_state=0)
    model = make_pipeline(StandardScaler(), Ridge(100.0))
    predicted = cross_val_predict(model, X, Y, groups=table["LSOA11CD"], cv=folds)
    scores = r2_score(Y, predicted, multioutput="raw_values")
    r2 = dict(zip(NAMES, scores, strict=True))
    ceiling = pd.read_csv(city / "ceiling.csv").query("level == 'tile'").set_index("target")["r2"]
    assert min(r2.values()) > 0.15, r2
    assert all(r2[name] < ceiling[name] for name in NAMES), r2


# -- refusals


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"n_tiles": 19, "n_areas": 5},
            r"n_tiles: expected 20 or more, got 19\. Choose a greater number",
        ),
        (
            {"n_tiles": 30, "n_areas": 1},
            r"n_areas: expected 2 or more, got 1\. Choose a greater number",
        ),
        ({"n_tiles": 30, "n_areas": 31}, r"got 31 areas for 30 tiles\. Ask for 30 areas or fewer"),
        ({"n_tiles": 30, "n_areas": 5, "seed": -1}, r"seed: expected 0 or more, got -1"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_written(
    tmp_path: Path, arguments: dict[str, int], message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        write_city(tmp_path / "city", **arguments)
    assert not (tmp_path / "city").exists()


def test_a_folder_with_other_files_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(OptionError, match=r"found other files and no demo\.toml of such a city"):
        write_city(tmp_path, n_tiles=20, n_areas=4)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_settings_of_the_same_name_that_somebody_wrote_are_kept(tmp_path: Path) -> None:
    (tmp_path / "demo.toml").write_text('name = "mine"\n')
    with pytest.raises(OptionError, match=r"no demo\.toml of such a city"):
        write_city(tmp_path, n_tiles=20, n_areas=4)
    assert (tmp_path / "demo.toml").read_text() == 'name = "mine"\n'


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "city").write_text("mine")
    with pytest.raises(OptionError, match="expected a new or empty folder"):
        write_city(tmp_path / "city", n_tiles=20, n_areas=4)


def test_a_city_made_before_is_replaced_whole(tmp_path: Path) -> None:
    write_city(tmp_path / "old", n_tiles=40, n_areas=8, seed=1)
    write_city(tmp_path / "old", n_tiles=20, n_areas=4, seed=2)
    write_city(tmp_path / "new", n_tiles=20, n_areas=4, seed=2)
    assert hashes(tmp_path / "old") == hashes(tmp_path / "new")


def test_a_city_that_was_not_finished_has_no_settings_and_can_be_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(pd.DataFrame, "to_csv", full)
        with pytest.raises(OSError, match="no space left"):
            write_city(tmp_path / "city", n_tiles=20, n_areas=4)
    assert not (tmp_path / "city" / "demo.toml").exists()
    assert write_city(tmp_path / "city", n_tiles=20, n_areas=4).is_file()


@pytest.mark.parametrize(("n_tiles", "n_areas"), [(20, 2), (20, 20), (61, 7), (5000, 1000)])
def test_towns_of_any_size_are_planned(n_tiles: int, n_areas: int) -> None:
    plan = plan_town(n_tiles=n_tiles, n_areas=n_areas, seed=0)
    assert len(np.unique(plan.ids)) == n_tiles
    assert len(np.unique(plan.area)) == n_areas
    assert np.isfinite(plan.labels).all()
    assert compute_ceiling(plan.labels, plan.expected, plan.area)["r2"].max() <= 1
