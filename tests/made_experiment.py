"""A small experiment with made embeddings: column 0 of a cut tells the label, the others
nothing.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from extract.settings import read_settings
from extract.store.shards import ShardWriter, write_virtual
from extract.tables.tile_table import read_tiles
from models.data.fold_file import open_folds
from models.evaluation.score_runs import build_labels, describe_inputs
from models.execution.fit_progress import FitProgress
from models.fit import fit_all
from models.settings import FitSettings
from models.store.fitted import Fitted
from models.store.runs import run_folder
from models.store.score_tables import join_cut, read_scores
from models.store.scores_file import hash_runs, write_stated

TEXT = """name = "x"
out = "out"
[tiles]
table = "t.csv"
images = "."
area = "area"
x = "x"
y = "y"
groups = ["district"]
[targets]
columns = ["income", "health"]
[extract]
cuts = ["net/last:avg"]
[models]
names = ["mean", "ridge"]
splits = ["area"]
folds = 4
accept = ["labels-differ"]
"""
N, N_AREAS = 100, 25


class Counted(FitProgress):
    """Keeps what was fitted: split, cut, model and target."""

    def __init__(self) -> None:
        super().__init__()
        self.fitted: set[tuple[str, str, str, str]] = set()

    def finish(self, fitted: Fitted, area_r2: dict[str, float]) -> None:
        self.fitted |= {(*fitted.plan.cell.names, target) for target in area_r2}


def make_experiment(folder: Path, **models: Any) -> Path:
    """Write table, features of three cuts and settings; gives the settings' path."""
    folder.mkdir(exist_ok=True)
    write_table(folder)
    path = folder / "s.toml"
    path.write_text(TEXT)
    settings = change(path, **models)
    write_features(settings)
    return path


def write_table(folder: Path, **columns: Any) -> None:
    rng = np.random.default_rng(0)
    area = np.arange(N) // (N // N_AREAS)
    labels = {name: rng.normal(size=N_AREAS)[area] for name in ("income", "health", "crime")}
    table = {
        "id": np.arange(N),
        "area": [f"E{a}" for a in area],
        "x": area * 100.0 + np.arange(N) % 4,
        "y": rng.uniform(0, 90, N),
        "district": [f"D{a % 4}" for a in area],
        **labels,
        **columns,
    }
    pd.DataFrame(table).to_csv(folder / "t.csv", index=False)


def read_signal() -> NDArray[np.float64]:
    """Return the first target of each tile: (N,), equal inside areas."""
    return np.random.default_rng(0).normal(size=N_AREAS)[np.arange(N) // (N // N_AREAS)]


def write_features(
    settings: FitSettings,
    seed: int = 1,
    dataset: tuple[str, ...] = ("last:avg", "first:avg", "mid:avg"),
    *,
    rejected: Collection[int] = (3,),
    backbone: str = "net",
) -> None:
    rng, tiles = np.random.default_rng(seed), read_tiles(settings)
    shard = settings.folder / f"features/{backbone}/part-00000.h5"
    shard.parent.mkdir(parents=True, exist_ok=True)
    signal = tiles.targets.iloc[:, [0]].to_numpy()
    X = {
        name: np.column_stack([signal + 0.3 * rng.normal(size=(N, 1)), rng.normal(size=(N, 5))])
        for name in dataset
    }
    writer = ShardWriter(
        shard,
        tiles.id,
        dict.fromkeys(dataset, (6,)),
        dtype="float16",
        attributes={
            "weights": "random:0",
            "weights_sha256": "w" if backbone == "net" else backbone,
        },
    )
    writer.append(X, ["not an image" if i in rejected else "" for i in range(N)])
    writer.close()
    write_virtual(settings.folder / f"features/{backbone}.h5", [shard])


def state_scores(settings: FitSettings) -> None:
    """Let scores.json say that the tables of scores are of the runs, labels and folds of now."""
    folder = settings.folder
    scores = read_scores(folder)
    parts = scores[["backbone", "layer", "pooling"]].to_numpy().tolist()
    scores = scores.assign(cut=[join_cut(*names) for names in parts])
    runs = scores[["split", "cut", "model"]].drop_duplicates().to_numpy().tolist()
    known = [run for run in runs if (run_folder(folder, *run) / "run.json").is_file()]
    tiles = read_tiles(settings)
    options = settings.models.fold_options
    folds = open_folds(folder, tiles, options, is_read_only=True).folds
    labels = build_labels(tiles, folds, options)
    inputs = describe_inputs(labels, settings.models.seed)
    write_stated(folder, {**inputs, "runs": hash_runs(folder, known)})


def change(path: Path, **values: Any) -> FitSettings:
    """Set keys of the settings file, in [models] where they are new, and read it."""
    text = path.read_text()
    for key, value in values.items():
        line = f"{key} = {str(value).replace(chr(39), chr(34)) if isinstance(value, list) else repr(value)}"
        text, n = re.subn(rf"^{key} = .*$", line, text, flags=re.M)
        text += "" if n else line + "\n"
    path.write_text(text)
    return read_settings(path, FitSettings)


def fit(path: Path, **values: Any) -> Counted:
    """Fit, with changed settings, and give what was heard."""
    heard = Counted()
    fit_all(change(path, **values), heard)
    return heard
