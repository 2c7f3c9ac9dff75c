"""Splits towards a question: whole groups held out, and distances matched to prediction places."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_experiment import N, fit, make_experiment
from scipy.stats import wasserstein_distance

from extract.errors import SettingsError
from extract.settings import read_settings
from extract.tables.tile_table import read_tiles
from models.data.fold_assignment import assign_folds
from models.data.fold_distances import measure_held_out, measure_nearest
from models.data.fold_file import number_score_units, open_folds
from models.data.knndm import match_distances
from models.settings import FitSettings
from models.store.score_tables import read_scores

RNG = np.random.default_rng(7)
AREA = np.repeat(np.arange(120), 4)
XY = RNG.uniform(0, 10_000, (120, 2))[AREA] + RNG.normal(0, 80, (480, 2))
DISTRICT = np.array([f"D{a % 9}" for a in AREA])


def assign(kind: str, **changed: object) -> np.ndarray:
    asked = {
        "area": AREA,
        "xy": XY,
        "targets": None,
        "n_folds": 5,
        "seed": 0,
        "block_m": 1,
        "group": DISTRICT,
        **changed,
    }
    return assign_folds(kind, **asked)


def test_groups_are_held_out_whole() -> None:
    fold = assign("group")
    assert set(fold) == set(range(5))
    assert all(len(set(fold[name == DISTRICT])) == 1 for name in set(DISTRICT))


def test_as_many_folds_as_groups_leave_one_out_each_time() -> None:
    fold = assign("group", n_folds=9)
    assert {len(set(DISTRICT[fold == f])) for f in range(9)} == {1}


def test_an_area_in_two_groups_is_refused() -> None:
    torn = DISTRICT.copy()
    torn[0] = "D8"
    with pytest.raises(ValueError, match=r"1 areas lie in more than one group, as '0' in 'D0' and"):
        assign("group", group=torn)


def test_fewer_groups_than_folds_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 5 groups for 5 folds, got 3"):
        assign("group", group=np.array([f"D{a % 3}" for a in AREA]))


@pytest.mark.parametrize(
    ("west", "share"), [(11_000, 0.35), (0, 1.1)], ids=["a kilometre away", "in between"]
)
def test_held_out_tiles_lie_as_far_from_training_as_the_places(west: float, share: float) -> None:
    places = np.column_stack([west + RNG.uniform(0, 1500, 400), RNG.uniform(0, 10_000, 400)])
    wanted = measure_nearest(places, XY)
    fold = assign("knndm", prediction_xy=places)
    matched = wasserstein_distance(measure_held_out(fold, XY), wanted)
    by_area = wasserstein_distance(measure_held_out(assign("area"), XY), wanted)
    assert matched < share * by_area
    assert all(len(set(fold[a == AREA])) == 1 for a in range(120))
    assert np.bincount(fold).max() <= 0.5 * len(fold)


def test_distances_are_those_of_all_pairs() -> None:
    fold = assign("area")
    pairs = np.linalg.norm(XY[:, None] - XY[None], axis=2)
    pairs[fold[:, None] == fold[None]] = np.inf
    np.testing.assert_allclose(measure_held_out(fold, XY), pairs.min(axis=1))


def test_too_few_areas_to_match_are_refused() -> None:
    with pytest.raises(ValueError, match="expected 5 to 20,000 areas, got 4"):
        match_distances(np.arange(4), XY[:4], XY, n_folds=5, seed=0)


@pytest.mark.parametrize(
    ("models", "said"),
    [
        ({"splits": ["area", "group"]}, "the split 'group' and group go together"),
        ({"group": "district"}, "the split 'group' and group go together"),
        ({"splits": ["knndm"]}, "the split 'knndm' and predict_at go together"),
        ({"splits": ["group"], "group": "distrct"}, "Did you mean 'district'"),
    ],
)
def test_a_split_and_its_key_go_together(tmp_path: Path, models: dict, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        make_experiment(tmp_path, **models)


@pytest.fixture
def towards_a_place(tmp_path: Path) -> Path:
    """An experiment whose models are held against groups, and distances of a place 300 m away."""
    places = pd.DataFrame({"id": range(40), "area": "P", "x": 2700.0 + np.arange(40), "y": 0.0})
    places.to_csv(tmp_path / "p.csv", index=False)
    (tmp_path / "place.toml").write_text(
        'name = "p"\n[tiles]\ntable = "p.csv"\nimages = "."\narea = "area"\nx = "x"\ny = "y"\n'
    )
    return make_experiment(
        tmp_path,
        splits=["area", "knndm", "group"],
        group="district",
        predict_at="place.toml",
    )


def test_a_fit_scores_every_split_and_ranks_on_the_farthest(towards_a_place: Path) -> None:
    fit(towards_a_place)
    settings = read_settings(towards_a_place, FitSettings)
    scores = read_scores(settings.folder)
    assert set(scores["split"]) == {"area", "knndm", "group"}
    assert settings.models.farthest == "group"
    ridge = scores[(scores["model"] == "ridge") & (scores["target"] == "income")]
    assert (ridge["r2"] > 0.5).all()


def test_intervals_of_groups_draw_groups(towards_a_place: Path) -> None:
    settings = read_settings(towards_a_place, FitSettings)
    tiles = read_tiles(settings)
    unit = number_score_units("group", tiles, settings.models.fold_options)
    assert unit.max() + 1 == 4
    assert number_score_units("random", tiles, settings.models.fold_options).max() + 1 == N // 4


def test_folds_are_made_anew_for_other_places(towards_a_place: Path) -> None:
    settings = read_settings(towards_a_place, FitSettings)
    tiles = read_tiles(settings)
    options = settings.models.fold_options
    assert len(open_folds(settings.folder, tiles, options).notes) == 3
    assert open_folds(settings.folder, tiles, options).notes == []
    table = towards_a_place.with_name("p.csv")
    pd.read_csv(table).assign(x=9000.0).to_csv(table, index=False)
    assert open_folds(settings.folder, tiles, options).notes == [
        "folds of split 'knndm' made anew: the places to be predicted changed"
    ]
