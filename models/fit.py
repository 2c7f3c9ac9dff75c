"""The loop: every model on every cut and split, out of fold; then the best of each target on all tiles."""

from __future__ import annotations

import hashlib
import json
import logging
import platform
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from extract.settings import parse_cut
from extract.tiles import Tiles, read_tiles
from models.design import NONE, Design, features_path, read_blind_design, read_design
from models.family import Family, Floats, Ints
from models.folds import hash_folds, make_folds, make_inner_folds, write_folds
from models.keep import model_folder, save_model
from models.registry import BLIND, build_model
from models.runs import is_done, read_run, run_folder, split_cut, write_run, write_scores
from models.scores import score_levels
from models.settings import Settings

LOG = logging.getLogger(__name__)
_PACKAGES = ("numpy", "scikit-learn", "xgboost", "keras")
Report = Callable[[str, int, int], None]


class Cell(NamedTuple):
    """One run to make: a split, a model, and the cut it is fed."""

    split: str
    cut: str
    model: str


def list_cells(settings: Settings) -> list[Cell]:
    """Give every run that the settings ask for, cut by cut, so that each cut is read once."""
    asked = settings.models
    seeing, blind = [m for m in asked.names if m not in BLIND], [m for m in asked.names if m in BLIND]
    cells = [Cell(s, NONE, m) for s in asked.splits for m in blind]
    return cells + [Cell(s, cut, m) for cut in settings.extract.cuts for s in asked.splits for m in seeing]


def fit_all(settings: Settings, *, report: Report = lambda *_: None) -> pd.DataFrame:
    """Fit and score every cell that is not done, write `scores.csv`, and keep the best models.

    Parameters
    ----------
    report : called with (what, done, of how many) before each cell and at the end.

    Returns
    -------
    The scores, one row a cell and level.

    Raises
    ------
    ValueError : settings, table, embeddings or folds that cannot be used; the text says what to do.
    """
    tiles, folder, cells = read_tiles(settings), settings.folder, list_cells(settings)
    for backbone in settings.extract.backbones:
        features_path(folder, backbone)
    folds: dict[str, Ints] = {split: _folds(settings, split, tiles) for split in settings.models.splits}
    write_folds(folder / "folds.parquet", tiles.id.to_numpy(), folds)
    for i, (cell, design) in enumerate(_with_designs(settings, tiles, cells)):
        report(f"{cell.split} {cell.cut} {cell.model}", i, len(cells))
        fit_cell(settings, tiles, cell, design, folds[cell.split])
    scores = write_scores(folder, [read_run(folder, *cell) for cell in cells])
    kept = list(_choose_kept(settings, scores))
    for i, (target, cell) in enumerate(kept):
        report(f"keep {target} {cell.cut} {cell.model}", len(cells) + i, len(cells) + len(kept))
        keep_cell(settings, tiles, target, cell)
    report("done", len(cells) + len(kept), len(cells) + len(kept))
    return scores


def _with_designs(settings: Settings, tiles: Tiles, cells: list[Cell]) -> Iterator[tuple[Cell, Design]]:
    design: Design | None = None
    for cell in cells:
        if design is None or design.cut != cell.cut:
            design = _design(settings, tiles, cell.cut)
        yield cell, design


def _design(settings: Settings, tiles: Tiles, cut: str) -> Design:
    if cut == NONE:
        return read_blind_design(settings.folder, tiles, settings.extract.backbones)
    return read_design(settings.folder, tiles, parse_cut(cut))


def _folds(settings: Settings, split: str, tiles: Tiles) -> Ints:
    asked = settings.models
    return make_folds(split, area=tiles.area.to_numpy(), xy=tiles.xy, n_folds=asked.folds, seed=asked.seed,
                      block_m=asked.block_m)


def fit_cell(settings: Settings, tiles: Tiles, cell: Cell, design: Design, folds: Ints) -> None:
    """Predict every tile out of fold, score, and write the run; nothing where it is done already."""
    model = build_model(cell.model, seed=settings.models.seed)
    inputs = _inputs(settings, tiles, cell, design, folds, model)
    key = _hash(inputs)
    if is_done(settings.folder, *cell, key):
        return
    start = time.perf_counter()
    predicted, chosen = _predict_folds(settings, cell, design, folds[design.rows], model)
    seconds = time.perf_counter() - start
    names = settings.targets.columns
    frame = _predictions(design, folds[design.rows], predicted, names)
    run = {"split": cell.split, "cut": cell.cut, "model": cell.model, "settings": settings.as_json(), "inputs": inputs,
           "inputs_sha256": key, "seconds": seconds, "versions": _versions(),
           "chosen": {names[t]: {f: c[t] for f, c in chosen.items()} for t in range(len(names))},
           "scores": _score_rows(cell, design, frame, seconds / len(names), settings)}
    write_run(run_folder(settings.folder, *cell), frame, run)
    LOG.info("%s %s %s: %.1f s", *cell, seconds)


def _predict_folds(settings: Settings, cell: Cell, design: Design, fold: Ints, model: Family
                   ) -> tuple[Floats, dict[str, dict[int, dict[str, Any]]]]:
    predicted, chosen = np.full(design.Y.shape, np.nan), {}
    for f in range(settings.models.folds):
        train, test = np.flatnonzero((fold != f) & (fold >= 0)), np.flatnonzero(fold == f)
        if not len(test):
            continue
        fitted = fit_rows(settings, cell.split, design, train, design.Y, model)
        predicted[test] = fitted.predict(design.X[test], None if design.xy is None else design.xy[test])
        chosen[str(f)] = fitted.chosen_
    return predicted, chosen


def fit_rows(settings: Settings, split: str, design: Design, rows: Ints, Y: Floats, model: Family) -> Family:
    """Fit the model on some rows, with inner folds of the same kind."""
    asked, xy = settings.models, None if design.xy is None else design.xy[rows]
    inner = make_inner_folds(split, area=design.area[rows], xy=xy, n_folds=asked.folds, seed=asked.seed, block_m=asked.block_m)
    return model.fit(design.X[rows], Y[rows], inner=inner, xy=xy)


def _predictions(design: Design, fold: Ints, predicted: Floats, names: list[str]) -> pd.DataFrame:
    frames = [pd.DataFrame({"id": design.ids, "fold": fold, "target": name, "truth": design.Y[:, t],
                            "prediction": predicted[:, t]}) for t, name in enumerate(names)]
    return pd.concat(frames, ignore_index=True)


def _score_rows(cell: Cell, design: Design, frame: pd.DataFrame, seconds: float, settings: Settings) -> list[dict[str, Any]]:
    rows = []
    for target in settings.targets.columns:
        part = frame[frame["target"] == target]
        usable = (part["truth"].notna() & part["prediction"].notna()).to_numpy()
        levels = score_levels(part["truth"].to_numpy()[usable], part["prediction"].to_numpy()[usable], design.area[usable],
                              seed=settings.models.seed)
        head = {"split": cell.split, **split_cut(cell.cut), "model": cell.model, "target": target}
        rows += [{**head, **level, "fit_seconds": seconds} for level in levels]
    return rows


def _inputs(settings: Settings, tiles: Tiles, cell: Cell, design: Design, folds: Ints, model: Family) -> dict[str, Any]:
    """Everything that a run's numbers depend on."""
    labels = hashlib.sha256(np.ascontiguousarray(design.Y).tobytes())
    labels.update("\0".join([*settings.targets.columns, *design.area]).encode())
    if design.xy is not None:
        labels.update(np.ascontiguousarray(design.xy).tobytes())
    asked = settings.models
    return {**design.source, "cut": cell.cut, "folds_sha256": hash_folds(tiles.id.to_numpy(), folds),
            "labels_sha256": labels.hexdigest(), "model": cell.model,
            "params": json.loads(json.dumps(model.get_params())),
            "inner": {"kind": cell.split, "folds": asked.folds, "block_m": asked.block_m, "seed": asked.seed}}


def _hash(inputs: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def _versions() -> dict[str, str]:
    names = {"xgboost": "xgboost-cpu"}
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        for candidate in (name, names.get(name, name)):
            try:
                found[name] = version(candidate)
            except ModuleNotFoundError:
                continue
    return found


def _choose_kept(settings: Settings, scores: pd.DataFrame) -> Iterator[tuple[str, Cell]]:
    """Give the cells to keep of each target: the lowest tile RMSE on the strictest split, or all, or those named."""
    asked = settings.models
    frame = scores[(scores["split"] == asked.strictest) & (scores["level"] == "tile")]
    if isinstance(asked.keep, list):
        frame = frame[frame["model"].isin(asked.keep)]
    for target in settings.targets.columns:
        ranked = frame[frame["target"] == target].sort_values("rmse", kind="stable")
        for row in ranked.head(1 if asked.keep == "best" else len(ranked)).to_dict("records"):
            cut = NONE if row["backbone"] == NONE else f"{row['backbone']}/{row['layer']}:{row['pooling']}"
            yield target, Cell(asked.strictest, cut, str(row["model"]))


def keep_cell(settings: Settings, tiles: Tiles, target: str, cell: Cell) -> None:
    """Refit one cell on all tiles and save it; nothing where the same is saved already."""
    run, t = read_run(settings.folder, *cell), settings.targets.columns.index(target)
    path = model_folder(settings.folder, target, cell.cut, cell.model)
    facts = path / "model.json"
    if facts.is_file() and json.loads(facts.read_text(encoding="utf-8")).get("inputs_sha256") == run["inputs_sha256"]:
        return
    design = _design(settings, tiles, cell.cut)
    model = fit_rows(settings, cell.split, design, np.arange(len(design.rows)), design.Y[:, [t]],
                     build_model(cell.model, seed=settings.models.seed))
    scores = [row for row in run["scores"] if row["target"] == target]
    save_model(path, cell.model, model, {"target": target, "cut": cell.cut, "split": cell.split, "scores": scores,
                                         "settings_sha256": _hash(settings.as_json()), "chosen": model.chosen_[0],
                                         "inputs_sha256": run["inputs_sha256"], "versions": _versions()})
