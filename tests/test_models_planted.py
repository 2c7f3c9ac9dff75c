"""Three made worlds whose truth is known, through the whole of `fit`: what the ladder of splits has
to say of each.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_experiment import TEXT, change, fit

from extract.store.shards import ShardWriter, write_virtual
from models.evaluation.standings import build_standings
from models.store.score_tables import read_table

SIDE, TILES = 12, 5  # areas along each side of the map, tiles of an area
AREA = np.repeat(np.arange(SIDE**2), TILES)
N = len(AREA)
CUTS = {
    "own": "net/own:avg",
    "field": "net/empty:avg",
    "signal": "net/signal:avg",
}  # target → the cut made for it
MODELS = ["mean", "location", "ridge", "ridge@area", "stack"]
SPLITS = ["random", "area", "block"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fit all worlds at once: a target is a world, and the cut of its name the pictures that were
    made for it.
    """
    home = tmp_path_factory.mktemp("planted")
    rng = np.random.default_rng(0)
    xy = np.column_stack([AREA % SIDE, AREA // SIDE]) * 400.0 + rng.uniform(0, 300, (N, 2))
    centre = np.column_stack([np.bincount(AREA, weights=c) / TILES for c in xy.T])
    own, signal = rng.normal(size=(2, SIDE**2))[:, AREA]
    field = (np.sin(centre[:, 0] / 350) + np.cos(centre[:, 1] / 400))[AREA]
    pd.DataFrame(
        {
            "id": np.arange(N),
            "area": [f"E{a}" for a in AREA],
            "x": xy[:, 0],
            "y": xy[:, 1],
            "district": "D",
            "own": own,
            "field": field,
            "signal": signal,
        }
    ).to_csv(home / "t.csv", index=False)
    (home / "s.toml").write_text(TEXT)
    settings = change(
        home / "s.toml",
        columns=list(CUTS),
        cuts=list(CUTS.values()),
        names=MODELS,
        splits=SPLITS,
        folds=5,
        block_m=1200.0,
        keep=["mean"],
    )
    pictures = {
        "own:avg": rng.normal(size=(SIDE**2, 200))[AREA]
        + 0.1 * rng.normal(size=(N, 200)),  # tells the area alone
        "empty:avg": rng.normal(size=(N, 8)),
        "signal:avg": np.column_stack([signal + 0.8 * rng.normal(size=N), rng.normal(size=(N, 7))]),
    }
    shard = settings.folder / "features/net/part-00000.h5"
    shard.parent.mkdir(parents=True)
    writer = ShardWriter(
        shard,
        pd.Series(np.arange(N)),
        {name: X.shape[1:] for name, X in pictures.items()},
        dtype="float16",
        attributes={"weights": "random:0", "weights_sha256": "w"},
    )
    writer.append(pictures, [""] * N)
    writer.close()
    write_virtual(settings.folder / "features/net.h5", [shard])
    fit(home / "s.toml")
    return settings.folder


def ladder(folder: Path, target: str, model: str, level: str = "area") -> dict[str, float]:
    """R² on each split of a model on the pictures made for a target."""
    table = build_standings(folder, target, split=None, level=level)
    row = table[(table["model"] == model) & table["cut"].isin([CUTS[target], "none", "all"])]
    assert len(row) == 1
    return {split: float(row[f"r2 {split}"].iloc[0]) for split in SPLITS}


@pytest.mark.parametrize(
    ("model", "level"),
    [
        ("location", "tile"),
        ("location", "area"),
        ("ridge", "tile"),
        ("ridge", "area"),
        ("ridge@area", "area"),
        ("stack", "tile"),
        ("stack", "area"),
    ],
)
def test_pictures_that_tell_the_area_alone_are_good_on_random_and_nothing_on_area_and_block(
    folder, model, level
) -> None:
    r2 = ladder(folder, "own", model, level)
    assert r2["random"] > 0.8
    assert -0.1 < r2["area"] < 0.1
    assert r2["block"] < 0.1


def test_a_smooth_field_without_pictures_is_the_locations_on_area_and_falls_on_block(
    folder: Path,
) -> None:
    place, picture = ladder(folder, "field", "location"), ladder(folder, "field", "ridge")
    assert min(place["random"], place["area"]) > 0.9
    assert place["block"] < place["area"] - 0.4
    assert max(picture.values()) < 0.1
    rows = read_table(folder / "comparisons.csv").query(
        "target == 'field' and split == 'area' and level == 'area'"
    )
    assert set(rows["best_model"].where(rows["kind"] == "best against other").dropna()) == {
        "location"
    }
    assert (rows["verdict"].where(rows["kind"] == "best against other").dropna() == "better").all()
    assert rows.loc[rows["kind"] == "pictures against place", "verdict"].tolist() == ["worse"]


@pytest.mark.parametrize(
    ("model", "splits"), [("ridge", SPLITS), ("ridge@area", SPLITS), ("stack", ["area", "block"])]
)
def test_a_true_signal_is_found_on_every_split_within_the_intervals(
    folder: Path, model: str, splits: list[str]
) -> None:
    """Of the stack on `random` nothing is asked, as it is fed with the pictures that tell the area
    too.
    """
    tables = {
        split: build_standings(folder, "signal", split=split, level="area") for split in splits
    }
    rows = [
        t[(t["model"] == model) & t["cut"].isin([CUTS["signal"], "all"])].iloc[0]
        for t in tables.values()
    ]
    assert all(row[f"r2 {split}"] > 0.7 for split, row in zip(splits, rows, strict=True))
    assert max(row["r2_low"] for row in rows) < min(row["r2_high"] for row in rows)
    blind = tables["block"][tables["block"]["is_baseline"]]
    assert (blind["verdict"] == "worse").all()
    assert (blind["r2 block"] < 0.1).all()


def test_the_mean_is_worth_nothing_anywhere(folder: Path) -> None:
    for target in CUTS:
        assert all(-0.1 < r2 <= 0 for r2 in ladder(folder, target, "mean").values())
