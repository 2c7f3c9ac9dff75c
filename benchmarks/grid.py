"""A full-size grid on disk, as if it had been fitted: for timing what comes after the fits.

Example: python -m benchmarks.grid /tmp/grid
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from extract.config.cuts import ALL_CUTS
from extract.settings import read_settings
from extract.store.shards import ShardWriter, write_virtual
from extract.tables.tile_table import Tiles, read_tiles
from models.data.fold_file import open_folds
from models.evaluation.score_runs import build_labels, score_runs
from models.families.fit_results import CrossFit
from models.settings import FitSettings
from models.store.cells import Planned, plan_cells
from models.store.fitted import Fitted
from models.store.write_run import write_fitted

N_TARGETS = 7
BASELINES = ("mean", "region", "location", "geodemographic")
PICTURES = ("ridge", "ridge@area", "ridge+groups", "knn", "forest", "xgboost", "head", "head@area")
MODELS = (*BASELINES, *PICTURES, "stack")
SPLITS = ("random", "area", "block")
# How close each model comes to the truth in this made grid: the share of the spread that its error
# has.
_ERROR = {
    "mean": 1.0,
    "region": 0.97,
    "location": 0.95,
    "geodemographic": 0.9,
    "ridge": 0.8,
    "knn": 0.88,
    "forest": 0.85,
    "xgboost": 0.82,
    "head": 0.84,
    "stack": 0.78,
}
_SHARD = 1024


def write_grid(
    folder: Path,
    *,
    n_tiles: int = 36_723,
    n_areas: int = 4_835,
    n_cuts: int = 8,
    n_features: int = 16,
    models: tuple[str, ...] = MODELS,
    splits: tuple[str, ...] = SPLITS,
) -> FitSettings:
    """Write a table, embeddings, settings, folds and every run, unless they are there; scores and
    kept models are left to do.

    Predictions are made, not fitted: an area's truth, drawn towards the mean, and noise. They are
    written by the code that writes real ones.

    Parameters
    ----------
    n_features : of each cut; nothing that is timed here reads them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / "done").is_file():
        return read_settings(folder / "grid.toml", FitSettings)
    rng = np.random.default_rng(0)
    _write_table(folder / "tiles.csv", rng, n_tiles, n_areas)
    cuts = [f"net{i % 2}/block{i}:avg" for i in range(n_cuts)]
    path = folder / "grid.toml"
    path.write_text(_text(cuts, models, splits))
    settings = read_settings(path, FitSettings)
    tiles = read_tiles(settings)
    for backbone in settings.extract.backbones:
        _write_features(settings, tiles, backbone, n_features, rng)
    folds = open_folds(settings.folder, tiles, settings.models.fold_options).folds
    for plan in plan_cells(settings, tiles, folds):
        if plan.missing:
            fold = folds[plan.cell.split].fold
            write_fitted(
                settings,
                tiles,
                Fitted(plan, np.arange(n_tiles), fold, _predict(plan, tiles, rng), 10.0, {}),
            )
    _write_stages(settings, n_tiles)
    (folder / "done").touch()
    return settings


def score_grid(settings: FitSettings) -> pd.DataFrame:
    """Score and compare every run of a grid, as `fit` does after its fits."""
    tiles = read_tiles(settings)
    options = settings.models.fold_options
    folds = open_folds(settings.folder, tiles, options).folds
    labels = build_labels(tiles, folds, options)
    runs = [plan.cell.names for plan in plan_cells(settings, tiles, folds)]
    return score_runs(settings.folder, runs, labels, seed=settings.models.seed)


def _write_table(path: Path, rng: np.random.Generator, n_tiles: int, n_areas: int) -> None:
    area = np.concatenate([np.arange(n_areas), rng.integers(0, n_areas, n_tiles - n_areas)])
    centre = rng.uniform(0, 50_000, (n_areas, 2))
    xy = centre[area] + rng.normal(0, 150, (n_tiles, 2))
    labels = rng.normal(20, 8, (n_areas, N_TARGETS))[area]
    table = {
        "id": np.arange(n_tiles),
        "area": [f"E01{a:06d}" for a in area],
        "x": xy[:, 0].round(1),
        "y": xy[:, 1].round(1),
        "district": [f"D{int(x // 9000)}{int(y // 9000)}" for x, y in centre[area]],
        "kind": [f"K{a % 8}" for a in area],
    }
    pd.DataFrame(table | {f"index{t}": labels[:, t].round(3) for t in range(N_TARGETS)}).to_csv(
        path, index=False
    )


def _text(cuts: list[str], models: tuple[str, ...], splits: tuple[str, ...]) -> str:
    """FitSettings; a list of text looks the same in TOML as in Python."""
    targets = [f"index{t}" for t in range(N_TARGETS)]
    return f"""name = "grid"
out = "out"
[tiles]
table = "tiles.csv"
images = "."
area = "area"
x = "x"
y = "y"
groups = ["district", "kind"]
[targets]
columns = {targets}
[extract]
cuts = {cuts}
[models]
names = {list(models)}
splits = {list(splits)}
"""


def _write_features(
    settings: FitSettings, tiles: Tiles, backbone: str, n_features: int, rng: np.random.Generator
) -> None:
    folder = settings.folder / "features" / backbone
    folder.mkdir(parents=True, exist_ok=True)
    cuts, shards = [cut.dataset for cut in settings.extract.cuts_of(backbone)], []
    for i, start in enumerate(range(0, len(tiles), _SHARD)):
        ids = tiles.id.iloc[start : start + _SHARD]
        shards.append(folder / f"part-{i:05d}.h5")
        writer = ShardWriter(
            shards[-1],
            ids,
            dict.fromkeys(cuts, (n_features,)),
            dtype="float16",
            attributes={"weights": "random:0", "weights_sha256": "0" * 64},
        )
        writer.append(
            {cut: rng.normal(size=(len(ids), n_features)) for cut in cuts}, [""] * len(ids)
        )
        writer.close()
    write_virtual(folder.with_suffix(".h5"), shards)


def _write_stages(settings: FitSettings, n_tiles: int) -> None:
    seconds = {"read": 60.0, "decode": 200.0, "forward": 3000.0, "write": 40.0, "total": 3300.0}
    stages = {
        b: {"tiles": n_tiles, "tiles_per_second": n_tiles / 3300, "seconds": seconds}
        for b in settings.extract.backbones
    }
    (settings.folder / "features" / "stages.json").write_text(json.dumps(stages))


def _predict(plan: Planned, tiles: Tiles, rng: np.random.Generator) -> CrossFit:
    """Draw an area's truth towards the mean, under noise of the area, and of the tile unless the
    model's rows are areas.
    """
    truth, spec = tiles.targets[plan.missing].to_numpy(np.float64), plan.cell.spec
    share = _ERROR[spec.family] * (0.95 if spec.area else 1.0) * (0.97 if spec.groups else 1.0)
    share -= {"random": 0.1}.get(plan.cell.split, 0.0)
    signal = truth.mean(axis=0) + (1 - share**2) * (truth - truth.mean(axis=0))
    area, scale = (
        pd.factorize(tiles.area)[0],
        (0.0 if share >= 1 else 0.5) * share * truth.std(axis=0),
    )

    def draw() -> np.ndarray:
        of_area = rng.normal(size=(area.max() + 1, truth.shape[1]))[area]
        return signal + scale * (
            of_area if spec.area else 0.7 * of_area + 0.7 * rng.normal(size=truth.shape)
        )

    chosen = [{str(f): {"alpha": 10.0} for f in range(5)} for _ in plan.missing]
    if plan.cell.cut is ALL_CUTS:
        chosen = [
            {
                f: {"penalty": 1.0, "weights": dict.fromkeys(plan.inputs["members"], 0.02)}
                for f in one
            }
            for one in chosen
        ]
    return CrossFit(draw(), draw() if plan.is_nested else None, chosen)


if __name__ == "__main__":
    made = write_grid(Path(sys.argv[1]))
    print(made.folder)
