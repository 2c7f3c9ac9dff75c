"""The loop: from embeddings on disk to scores, and only what is not done."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from extract.embeddings import ShardWriter, write_virtual
from extract.settings import read_settings
from extract.tiles import read_tiles
from models.fit import fit_all
from models.keep import load_model
from models.runs import SCORE_COLUMNS, read_predictions, read_run, read_scores, run_folder
from models.settings import Settings

TEXT = """name = "x"
out = "out"
[tiles]
table = "t.csv"
images = "."
area = "area"
x = "x"
y = "y"
[targets]
columns = ["income", "flat"]
[extract]
cuts = ["net/last:avg"]
[models]
names = ["mean", "location", "ridge", "ridge@area", "knn", "stack"]
splits = ["area", "random"]
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    rng, n = np.random.default_rng(0), 100
    area = np.arange(n) // 4
    label = rng.normal(size=25)[area]
    pd.DataFrame({"id": np.arange(n), "area": area, "x": area * 100.0, "y": rng.uniform(0, 90, n),
                  "income": label, "flat": 1.5}).to_csv(tmp_path / "t.csv", index=False)
    (tmp_path / "s.toml").write_text(TEXT)
    settings = read_settings(tmp_path / "s.toml", Settings)
    tiles, shard = read_tiles(settings), tmp_path / "out/features/net/part-00000.h5"
    shard.parent.mkdir(parents=True)
    writer = ShardWriter(shard, tiles.id, {"last:avg": (6,)}, dtype="float16", attributes={"weights_sha256": "w"})
    X = np.column_stack([label + 0.3 * rng.normal(size=n), rng.normal(size=(n, 5))])
    writer.append({"last:avg": X}, ["not an image" if i == 3 else "" for i in range(n)])
    writer.close()
    write_virtual(tmp_path / "out/features/net.h5", [shard])
    return settings


def test_fit_writes_the_contracts_and_resumes(settings: Settings) -> None:
    fit_all(settings)
    scores = read_scores(settings.folder)
    assert list(scores.columns) == list(SCORE_COLUMNS)
    tile = scores[(scores["split"] == "area") & (scores["target"] == "income") & (scores["level"] == "tile")].set_index("model")
    assert tile.loc["ridge", "r2"] > 0.7
    assert tile.loc["mean", "backbone"] == "none"
    assert (tile["n"] == 99).all()
    assert scores[scores["target"] == "flat"]["r2"].isna().all()
    predictions = read_predictions(settings.folder, "area", "net/last:avg", "ridge")
    assert predictions["prediction"].notna().all()
    assert read_run(settings.folder, "area", "none", "location")["chosen"]["income"]["0"]["k"] >= 1
    assert "ridge@area" not in tile.index
    area = scores[(scores["split"] == "area") & (scores["target"] == "income") & (scores["level"] == "area")].set_index("model")
    assert (area["n"] == 25).all()
    assert area.loc[["stack", "ridge@area"], "r2"].min() > 0.7
    assert area.loc["stack", "backbone"] == "all"
    kept = [path.parent.relative_to(settings.folder / "models") for path in settings.folder.glob("models/**/model.json")]
    assert len(kept) == 2
    load_model(settings.folder / "models" / next(path for path in kept if path.parts[0] == "income"))
    path = run_folder(settings.folder, "area", "net/last:avg", "ridge") / "run.json"
    other = run_folder(settings.folder, "area", "none", "mean") / "run.json"
    before, gone = path.stat().st_mtime_ns, other.stat().st_mtime_ns
    other.unlink()
    fit_all(settings)
    assert path.stat().st_mtime_ns == before
    assert other.stat().st_mtime_ns > gone


def test_without_features_the_error_says_so(settings: Settings) -> None:
    (settings.folder / "features/net.h5").unlink()
    with pytest.raises(ValueError, match="make features"):
        fit_all(settings)
