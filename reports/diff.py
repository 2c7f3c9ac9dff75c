"""Two experiments side by side: what got better, on the same tiles and folds, in the same resamples."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from extract.errors import ReportError
from extract.settings import read_settings
from extract.tables.tile_table import Tiles, read_tiles
from models.data.arrays import Ints
from models.data.classes import code_labels
from models.data.fold_file import read_folds
from models.data.folds import unit_numbers
from models.evaluation.class_compare import Guess, Truth, measure_guesses
from models.evaluation.class_split import ClassLabels, build_guess, list_levels
from models.evaluation.compare import compare_with, correct_holm, judge, largest_differences
from models.evaluation.evaluate import CellName, evaluate_level
from models.evaluation.levels import area_level, tile_level
from models.evaluation.out_of_fold import read_predicted
from models.evaluation.verdicts import Measured, measure_r2
from models.store.runs import read_classes, read_document
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
    "p_holm",
    "verdict",
]
Cell = tuple[str, str]  # cut, model


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of the two: its settings, and its scores of areas, with `value`: R², or balanced accuracy of classes."""

    settings: ReportSettings
    scores: pd.DataFrame


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """What two predictions are held against; `unit` (n_tiles,) is the number of the area or block that is drawn again."""

    tiles: Tiles
    target: str
    unit: Ints
    seed: int

    @property
    def area(self) -> Ints:
        """Number of each tile's area: (n_tiles,)."""
        return pd.factorize(self.tiles.area)[0].astype(np.int64)

    @property
    def of_classes(self) -> ClassLabels:
        """The same, as the scores of classes take it."""
        return ClassLabels(self.tiles.id.to_numpy(), self.tiles.classes, self.area, self.unit)


def open_side(path: Path) -> Side:
    """Read an experiment by its settings file, or by the folder of its artifacts.

    Raises
    ------
    ReportError : a folder without runs. SettingsError, RunFileError : files that are missing or damaged.
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
            f"{folder}: no finished run below it. Name a settings file, or the folder that holds scores.csv."
        )
    document = read_document(runs[0], "roofline.run", 2)
    return ReportSettings.model_validate({**document["settings"], "out": str(folder.resolve())})


def compare_experiments(first: Path, second: Path) -> pd.DataFrame:
    """Compare two experiments on the strictest split that both have, over areas.

    Returns
    -------
    `COLUMNS`: for each target its best cell in either (`what` is `best of each`), then every cell that both have
    (`same cell`). The difference is the score (`r2`, or `balanced_accuracy` of classes) of the second less that of the
    first, with its 95 % interval and a p-value corrected by Holm's method over the rows of one kind.

    Raises
    ------
    ReportError : other tiles, folds or labels; no split, target or cell in common.
    """
    a = open_side(first)
    b = open_side(second)
    split = next((s for s in SPLITS if s in set(a.scores["split"]) & set(b.scores["split"])), None)
    if split is None:
        raise ReportError(
            f"{first} and {second}: no split of both was scored. Fit both on the same split."
        )
    tiles = _check_same(a, b, split)
    targets = [
        t
        for t in a.settings.targets.names
        if t in set(a.scores["target"]) & set(b.scores["target"])
    ]
    rows = [row for target in targets for row in _compare_target(a, b, tiles, split, target)]
    if not rows:
        raise ReportError(
            f"{first} and {second}: no target that both scored on the split {split!r}."
        )
    return _judged(pd.DataFrame(rows))


def _check_same(a: Side, b: Side, split: str) -> Tiles:
    """Refuse what was not fitted on the same tiles and folds, for the same labels."""
    recipes = [
        read_folds(side.settings.folder / "folds.parquet")[1].get(split, {}) for side in (a, b)
    ]
    for key, word in (("ids_sha256", "tiles"), ("area_sha256", "areas"), ("fold_sha256", "folds")):
        if not recipes[0].get(key) or recipes[0].get(key) != recipes[1].get(key):
            raise ReportError(
                f"{a.settings.folder} and {b.settings.folder}: not the same {word} on the split {split!r}, so that a "
                "difference would not be the models'. Fit both with the same table, folds and seed."
            )
    tables = [read_tiles(side.settings) for side in (a, b)]
    columns = [pd.concat([table.targets, table.classes], axis=1) for table in tables]
    for target in set(columns[0]) & set(columns[1]):
        if not columns[0][target].equals(columns[1][target]):
            raise ReportError(
                f"{a.settings.folder} and {b.settings.folder}: the labels of {target!r} differ. Fit both on the same "
                "table."
            )
    return tables[0]


def _compare_target(
    a: Side, b: Side, tiles: Tiles, split: str, target: str
) -> list[dict[str, Any]]:
    cells = [_ranked(side, split, target) for side in (a, b)]
    shared = [cell for cell in cells[0] if cell in cells[1]]
    pairs = [
        ("best of each", cells[0][0], cells[1][0]),
        *(("same cell", cell, cell) for cell in shared),
    ]
    levels = Labelled(
        tiles=tiles,
        target=target,
        seed=a.settings.models.seed,
        unit=unit_numbers(split, tiles.area.to_numpy(), tiles.xy, a.settings.models.block_m),
    )
    if target in tiles.classes:
        guesses = [
            _guesses(side, split, some, levels) for side, some in zip((a, b), cells, strict=True)
        ]
        measured = (
            _measure_classes(guesses[0][one], guesses[1][other], levels) for _, one, other in pairs
        )
    else:
        predicted = [
            _predicted(side, split, some, tiles, target)
            for side, some in zip((a, b), cells, strict=True)
        ]
        measured = (
            _measure_numbers(
                np.column_stack([predicted[0][one], predicted[1][other]]), (one, other), levels
            )
            for _, one, other in pairs
        )
    return [
        {
            "target": target,
            "what": what,
            "first": _name(one),
            "second": _name(other),
            **_describe(both),
        }
        for (what, one, other), both in zip(pairs, measured, strict=True)
        if both is not None
    ]


def _ranked(side: Side, split: str, target: str) -> list[Cell]:
    """Cells of a target, the best first."""
    rows = side.scores[(side.scores["split"] == split) & (side.scores["target"] == target)]
    rows = rows.sort_values("value", ascending=False, kind="stable")
    return [(cut, model) for cut, model in rows[["cut", "model"]].to_numpy().tolist()]


def _predicted(
    side: Side, split: str, cells: list[Cell], tiles: Tiles, target: str
) -> dict[Cell, NDArray[np.float32]]:
    values = read_predicted(
        side.settings.folder, [(split, *cell) for cell in cells], tiles.id.to_numpy(), [target]
    )[0]
    return dict(zip(cells, values.T, strict=True))


def _guesses(side: Side, split: str, cells: list[Cell], labelled: Labelled) -> dict[Cell, Guess]:
    labels = labelled.of_classes
    code = code_labels(labelled.tiles.classes[labelled.target])
    found = {}
    for cell in cells:
        frame = read_classes(side.settings.folder, split, *cell)
        levels = list_levels(frame[frame["target"] == labelled.target], labels, code)
        found[cell] = build_guess(CellName(*cell), levels, labels)
    return found


def _measure_classes(one: Guess, other: Guess, labelled: Labelled) -> Measured | None:
    """Balanced accuracy of both over the areas of which both saw the same tiles; None where there is no such area."""
    labels = labelled.of_classes
    truth = Truth(code_labels(labelled.tiles.classes[labelled.target]), labels.area, labels.unit)
    return next(
        (m for m in measure_guesses([one, other], truth, seed=labelled.seed) if m.level == "area"),
        None,
    )


def _measure_numbers(
    both: NDArray[np.float32], cells: tuple[Cell, Cell], labelled: Labelled
) -> Measured | None:
    """R² of both over the areas that both predict; None where there is no such area."""
    tiles = labelled.tiles
    unit = labelled.unit
    area = labelled.area
    truth = tiles.targets[labelled.target].to_numpy(np.float64)
    is_row = np.isfinite(both).all(axis=1) & np.isfinite(truth)
    if not is_row.any():
        return None
    level = area_level(
        tile_level(
            truth[is_row], both[is_row], area=area[is_row], unit=unit[is_row], training_mean=None
        )
    )
    return measure_r2(
        evaluate_level(level, [CellName(*cell) for cell in cells], seed=labelled.seed)
    )


def _describe(both: Measured) -> dict[str, Any]:
    """Return both values, and their difference in the same resamples."""
    found = compare_with(
        1, both.values, both.replicates, largest_differences(both.replicates), n_units=both.n_units
    )
    return {
        "score": both.score,
        "value_first": both.values[0],
        "value_second": both.values[1],
        "difference": found.difference[0],
        "low": found.low[0],
        "high": found.high[0],
        "p": found.p[0],
        "p_max": found.p_max[0],
    }


def _judged(rows: pd.DataFrame) -> pd.DataFrame:
    rows["p_holm"] = rows.groupby("what")["p"].transform(
        lambda p: correct_holm(p.to_numpy(np.float64))
    )
    same = rows["difference"].abs() < 1e-12
    verdicts = [
        judge(*values)
        for values in rows[["difference", "p_holm", "p_max"]].to_numpy(np.float64).tolist()
    ]
    rows = rows.assign(verdict=np.where(same, "the same", verdicts))[COLUMNS]
    return rows.sort_values("what", kind="stable").reset_index(drop=True)


def _name(cell: Cell) -> str:
    return cell[1] if cell[0] in ("none", "all") else f"{cell[1]} on {cell[0]}"
