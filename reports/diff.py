"""Two experiments side by side: paired differences on the same tiles, folds and resamples."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import ValidationError

from extract.config.arrays import Array, Float32s
from extract.errors import ReportError
from extract.settings import read_settings
from extract.tables.tile_table import Tiles, read_tiles
from models.data.classes import code_labels, list_classes
from models.data.fold_file import number_score_units, read_folds
from models.data.folds import FoldOptions
from models.evaluation.comparisons import correct_number
from models.evaluation.current import open_current
from models.evaluation.evaluate import CellName, Evaluated, evaluate_level
from models.evaluation.levels import area_level
from models.evaluation.out_of_fold import read_predicted, read_probabilities
from models.evaluation.score_split import Labelled
from models.evaluation.simultaneous import compare_with, largest_differences
from models.store.documents import read_document
from models.store.runs import SCHEMA, SCHEMA_VERSION
from reports.data.collect import SPLITS, read_checked_scores
from reports.settings import ReportSettings

COLUMNS = [
    "target",
    "what",
    "score",
    "first",
    "second",
    "value_first",
    "value_second",
    "difference",
    "low",
    "high",
    "p_corrected",
    "verdict",
]
RECIPE_KEYS = {"tile": "ids_sha256", "area": "area_sha256", "fold": "fold_sha256"}
Pair = tuple[CellName, CellName]  # a cell of the first experiment, and one of the second


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One experiment.

    Attributes
    ----------
    scores : of its areas, with `value`: R², or balanced accuracy of classes.
    """

    settings: ReportSettings
    scores: pd.DataFrame


def open_side(path: Path) -> Side:
    """Read an experiment by its settings file, or by the folder of its artifacts.

    Raises
    ------
    ReportError : a folder without runs. SettingsError, RunFileError : files that are missing or
        damaged.
    """
    settings = _settings_of(path) if path.is_dir() else read_settings(path, ReportSettings)
    scores = read_checked_scores(settings.folder)
    scores = scores.assign(value=scores["r2"].fillna(scores["balanced_accuracy"]))
    return Side(
        settings=settings, scores=scores[(scores["level"] == "area") & np.isfinite(scores["value"])]
    )


def _settings_of(folder: Path) -> ReportSettings:
    """Return the settings that the first run of a folder carries, with `out` set to the folder."""
    runs = sorted(folder.glob("runs/**/run.json"))
    if not runs:
        raise ReportError(
            f"{folder}: no finished run below it. Name a settings file, or the folder that holds "
            "scores.csv."
        )
    document = read_document(runs[0], SCHEMA, SCHEMA_VERSION)
    carried = {**document["settings"], "out": str(folder.resolve())}
    try:
        return ReportSettings.model_validate(carried)
    except ValidationError as error:
        key = ".".join(map(str, error.errors()[0]["loc"]))
        raise ReportError(
            f"{folder}: its runs carry settings that this Roofline does not read ([{key}]). Name "
            "the settings file instead."
        ) from None


def compare_experiments(first: Path, second: Path) -> pd.DataFrame:
    """Compare two experiments on the split held out farthest that both have, over areas.

    Returns
    -------
    `COLUMNS`: for each target its best cell in either (`what` is `best of each`), then every cell
    that both have (`same cell`). The difference is the score (`r2`, or `balanced_accuracy` of
    classes) of the second less that of the first, with a 95 % interval, a p-value and a verdict
    that are corrected for the number of rows of one kind.

    Raises
    ------
    ReportError : other tiles, folds or labels; no split, target or cell in common.
    """
    a = open_side(first)
    b = open_side(second)
    with open_current(a.settings), open_current(b.settings):
        return _compare_sides(first, second, a, b)


def _compare_sides(first: Path, second: Path, a: Side, b: Side) -> pd.DataFrame:
    split = next((s for s in SPLITS if s in set(a.scores["split"]) & set(b.scores["split"])), None)
    if split is None:
        raise ReportError(
            f"{first} and {second}: no split of both was scored. Fit both on the same split."
        )
    tiles = _check_same(a, b, split)
    in_both = set(a.scores["target"]) & set(b.scores["target"])
    rows: list[dict[str, Any]] = []
    for target in a.settings.targets.names:
        if target in in_both:
            rows += _compare_target(a, b, tiles, split, target)
    if not rows:
        raise ReportError(
            f"{first} and {second}: no target that both scored on the split {split!r}."
        )
    return _judged(pd.DataFrame(rows))


def _check_same(a: Side, b: Side, split: str) -> Tiles:
    """Refuse what was not fitted on the same tiles and folds, for the same labels."""
    both = f"{a.settings.folder} and {b.settings.folder}"
    in_first = _read_recipe(a, split)
    in_second = _read_recipe(b, split)
    for word in ("tile", "area", "fold"):
        key = RECIPE_KEYS[word]
        if not in_first.get(key) or in_first[key] != in_second.get(key):
            raise ReportError(
                f"{both}: not the same {word}s on the split {split!r}, so that a difference would "
                "not be the models'. Fit both with the same table, folds and seed."
            )
    tiles = read_tiles(a.settings)
    labels = _join_labels(tiles)
    others = _join_labels(read_tiles(b.settings))
    for target in labels.columns.intersection(others.columns):
        if not labels[target].equals(others[target]):
            raise ReportError(
                f"{both}: the labels of {target!r} differ. Fit both on the same table."
            )
    return tiles


def _read_recipe(side: Side, split: str) -> dict[str, Any]:
    _, recipes = read_folds(side.settings.folder / "folds.parquet")
    recipe: dict[str, Any] = recipes.get(split, {})
    return recipe


def _join_labels(tiles: Tiles) -> pd.DataFrame:
    return pd.concat([tiles.targets, tiles.classes], axis=1)


def _compare_target(
    a: Side, b: Side, tiles: Tiles, split: str, target: str
) -> list[dict[str, Any]]:
    first, second = (_rank_cells(side, split, target) for side in (a, b))
    pairs = [("best of each", first[0], second[0])]
    pairs += [("same cell", cell, cell) for cell in first if cell in second]
    labelled = _label(tiles, target, split, a.settings.models.fold_options)
    in_first = _read_cells(a, split, first, tiles, target)
    in_second = _read_cells(b, split, second, tiles, target)
    rows = []
    for what, one, other in pairs:
        predicted = np.stack([in_first[one], in_second[other]], axis=1)
        both = _evaluate_pair(predicted, (one, other), labelled, seed=a.settings.models.seed)
        if both is not None:
            names = {"first": _name(one), "second": _name(other)}
            rows.append({"target": target, "what": what, **names, **_describe(both)})
    return rows


def _rank_cells(side: Side, split: str, target: str) -> list[CellName]:
    """Return the cells of a target, the best first."""
    rows = side.scores[(side.scores["split"] == split) & (side.scores["target"] == target)]
    rows = rows.sort_values("value", ascending=False, kind="stable")
    return [CellName(*pair) for pair in rows[["cut", "model"]].to_numpy().tolist()]


def _label(tiles: Tiles, target: str, split: str, options: FoldOptions) -> Labelled:
    if target in tiles.classes:
        truth: Array = code_labels(tiles.classes[target])
    else:
        truth = tiles.targets[target].to_numpy(np.float64)
    return Labelled(
        truth=truth,
        area=pd.factorize(tiles.area)[0].astype(np.int64),
        unit=number_score_units(split, tiles, options),
    )


def _read_cells(
    side: Side, split: str, cells: list[CellName], tiles: Tiles, target: str
) -> dict[CellName, Float32s]:
    """Read out-of-fold predictions: (n_tiles,), or of classes (n_tiles, n_classes)."""
    folder = side.settings.folder
    runs = [(split, *cell) for cell in cells]
    ids = tiles.id.to_numpy()
    if target in tiles.classes:
        n_classes = {target: len(list_classes(tiles.classes[target]))}
        predicted = read_probabilities(folder, runs, ids, n_classes)[target]
    else:
        predicted = read_predicted(folder, runs, ids, [target])[0]
    return dict(zip(cells, np.moveaxis(predicted, 1, 0), strict=True))


def _evaluate_pair(
    predicted: Float32s, cells: Pair, labelled: Labelled, *, seed: int
) -> Evaluated | None:
    """Evaluate two cells over the areas of the tiles that both predict; None without any."""
    is_predicted = np.isfinite(predicted).reshape(len(predicted), -1).all(axis=1)
    is_row = is_predicted & labelled.is_labelled
    if not is_row.any():
        return None
    tiles = labelled.tiles(is_row, predicted[is_row])
    return evaluate_level(area_level(tiles), list(cells), seed=seed)


def _describe(both: Evaluated) -> dict[str, Any]:
    """Return both values, and their difference in the same resamples."""
    found = compare_with(1, both, largest_differences(both))
    return {
        "score": both.score,
        "value": both.values[0],
        "best_value": both.values[1],
        "n_units": both.n_units,
        **{name: values[0] for name, values in found._asdict().items()},
    }


def _judged(rows: pd.DataFrame) -> pd.DataFrame:
    """Correct for the number of rows of one kind."""
    n_tests = rows.groupby("what")["p"].transform("count")
    judged = []
    for row, n in zip(rows.to_dict("records"), n_tests, strict=True):
        named = {str(name): value for name, value in row.items()}
        judged.append(correct_number(named, n))
    table = pd.DataFrame(judged)
    table = table.rename(columns={"value": "value_first", "best_value": "value_second"})
    is_same = table["difference"].abs() < 1e-12
    table["verdict"] = table["verdict"].mask(is_same, "the same")
    return table[COLUMNS].sort_values("what", kind="stable").reset_index(drop=True)


def _name(cell: CellName) -> str:
    return cell.model if cell.cut in ("none", "all") else f"{cell.model} on {cell.cut}"
