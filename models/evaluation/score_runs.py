"""Score the stored predictions of all runs, after the fits.

- `scores.csv`: a row a cell and level, with its scores and intervals.
- `scores_by_tiles.csv`: a row a cell and range of tile counts, on the areas of as many tiles.
- `comparisons.csv`: a row a split, level, target and pair of cells that are compared.
- `winners.csv`: a row a split, level and target: the best cell, and how many are as good.
- `scores.json`: what these were made from, written last (`models.store.scores_file`). Where it
  still holds, nothing is made again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from extract.config.arrays import Array, Floats, Ints
from extract.errors import RunFileError
from extract.tables.tile_table import Tiles
from models.data.classes import code_labels, list_classes
from models.data.fold_file import hash_array, number_score_units
from models.data.folds import FoldOptions, Folds
from models.evaluation.bootstrap import REPLICATES
from models.evaluation.comparisons import COMPARISON_COLUMNS, WINNER_COLUMNS, Row, judge_rows
from models.evaluation.evaluate import CellName
from models.evaluation.out_of_fold import Run, read_predicted, read_probabilities
from models.evaluation.score_split import BY_TILES_COLUMNS, Labelled, Scored, score_split
from models.store.cells import hash_labels
from models.store.runs import read_run
from models.store.score_tables import SCORE_COLUMNS, read_scores, split_cut, write_csv, write_scores
from models.store.scores_file import (
    MadeFrom,
    hash_runs,
    read_stated,
    remove_stated,
    write_stated,
)

_MOST_BYTES = 2**29  # predictions held at once; more targets take several passes over the files
Report = Callable[[int, int], None]  # done, of how many
Seconds = dict[str, float]  # target → duration of its fit [s]


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """What predictions are held against.

    Attributes
    ----------
    ids : (n,), tiles in the order of the table. targets : (n, n_targets), NaN where the label is
        missing.
    classes : (n, n_class_targets), None where the label is missing.
    area : (n,), number of each tile's area.
    units : split → (n,), number of what a resample draws: the areas, or the blocks or groups that
        the split holds out.
    training_means : split → (n, n_targets), mean label of the rows that the models of the tile's
        fold were trained on; NaN in no fold.
    """

    ids: Array
    targets: pd.DataFrame
    area: Ints
    units: dict[str, Ints]
    training_means: dict[str, Floats]
    classes: pd.DataFrame = field(default_factory=pd.DataFrame)

    @property
    def names(self) -> list[str]:
        """Every target: numbers, then classes."""
        return [str(t) for t in (*self.targets, *self.classes)]


def build_labels(tiles: Tiles, folds: dict[str, Folds], options: FoldOptions) -> Labels:
    """Return the labels, and for each split the units and the mean labels of its training rows.

    Parameters
    ----------
    folds : folds of all tiles, by split. options : how they were made.
    """
    number, _ = pd.factorize(tiles.area)
    area = number.astype(np.int64)
    Y = tiles.targets.to_numpy(np.float64)
    return Labels(
        ids=tiles.id.to_numpy(),
        targets=tiles.targets,
        classes=tiles.classes,
        area=area,
        units={split: number_score_units(split, tiles, options) for split in folds},
        training_means={split: _training_means(Y, one) for split, one in folds.items()},
    )


def _training_means(Y: Floats, folds: Folds) -> Floats:
    """Mean label of the training rows of each tile's fold: (n, n_targets), NaN where no label is
    known.
    """
    means = np.full(Y.shape, np.nan)
    is_known = np.isfinite(Y)
    filled = np.where(is_known, Y, 0.0)
    for fold in folds.folds:
        held = folds.parts_of(fold)
        rows = folds.training(held)
        n = is_known[rows].sum(axis=0)
        total = filled[rows].sum(axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            means[folds.held(held)] = total / n
    return means


def score_runs(
    folder: Path, runs: Sequence[Run], labels: Labels, *, seed: int, report: Report | None = None
) -> pd.DataFrame:
    """Score every cell of the runs from its stored predictions, and write `FILES`; nothing is
    fitted.

    Parameters
    ----------
    runs : (split, cut, model) of each finished run. seed : of the resamples.
    report : is told how many (split, target) are scored, of how many.

    Returns
    -------
    The scores, `models.store.score_tables.SCORE_COLUMNS`.

    Raises
    ------
    RunFileError : a run that is missing or damaged, or that predicts tiles which the labels do not
        have.
    """
    seconds = {run: _read_seconds(folder, run) for run in runs}
    made_from = {**describe_inputs(labels, seed), "runs": hash_runs(folder, runs)}
    if is_scored(folder, made_from):
        return read_scores(folder)
    scored = Scored()
    splits = list(dict.fromkeys(split for split, *_ in runs))
    total = len(splits) * len(labels.names)
    done = 0
    for split in splits:
        of_split = [run for run in runs if run[0] == split]
        for target, part in _score_targets(folder, of_split, labels, seed=seed):
            scored.extend(part, split=split, target=target)
            done += 1
            if report:
                report(done, total)
    return _write(folder, scored, seconds, labels, made_from)


def _read_seconds(folder: Path, run: Run) -> Seconds:
    """Read how long the fits of a run took, by target [s]."""
    cells = read_run(folder, *run).get("cells", {})
    return {target: cell.get("seconds", np.nan) for target, cell in cells.items()}


def describe_inputs(labels: Labels, seed: int) -> MadeFrom:
    """Describe what scores depend on besides the runs."""
    ids = np.array(labels.ids, dtype=str)
    means_sha256 = {}
    for split, means in labels.training_means.items():
        for target, mean in zip(labels.targets, means.T, strict=True):
            means_sha256[f"{split} for {target}"] = hash_array(mean)
    return {
        "replicates": REPLICATES,
        "seed": seed,
        "ids_sha256": hash_array(ids),
        "area_sha256": hash_array(labels.area),
        "labels_sha256": hash_labels(labels),
        "units_sha256": {split: hash_array(unit) for split, unit in labels.units.items()},
        "training_means_sha256": means_sha256,
    }


def is_scored(folder: Path, made_from: MadeFrom) -> bool:
    """Return whether the tables on disk are those made from this, unchanged."""
    try:
        return read_stated(folder) == made_from
    except RunFileError:
        return False


def _score_targets(
    folder: Path, runs: list[Run], labels: Labels, *, seed: int
) -> Iterator[tuple[str, Scored]]:
    """Yield each target of one split with the scores of its cells: numbers, then classes."""
    split = runs[0][0]
    cells = [CellName(cut, model) for _, cut, model in runs]
    names = [str(target) for target in labels.targets]
    target_bytes = 4 * len(labels.ids) * len(runs)
    at_once = max(1, _MOST_BYTES // target_bytes)
    for start in range(0, len(names), at_once):
        some = names[start : start + at_once]
        predicted = read_predicted(folder, runs, labels.ids, some)
        for i, target in enumerate(some):
            labelled = Labelled(
                truth=labels.targets[target].to_numpy(np.float64),
                area=labels.area,
                unit=labels.units[split],
                training_mean=labels.training_means[split][:, start + i],
            )
            yield target, score_split(labelled, predicted[i], cells, seed=seed)
    n_classes = {str(t): len(list_classes(column)) for t, column in labels.classes.items()}
    if not n_classes:
        return
    probabilities = read_probabilities(folder, runs, labels.ids, n_classes)
    for target, probability in probabilities.items():
        code = code_labels(labels.classes[target])
        labelled = Labelled(truth=code, area=labels.area, unit=labels.units[split])
        yield target, score_split(labelled, probability, cells, seed=seed)


def _write(
    folder: Path,
    scored: Scored,
    seconds: dict[Run, Seconds],
    labels: Labels,
    made_from: MadeFrom,
) -> pd.DataFrame:
    position = {run: i for i, run in enumerate(seconds)}
    order = {target: i for i, target in enumerate(labels.names)}
    remove_stated(folder)

    def place(row: Row) -> tuple[int, int]:
        return position[row["split"], row["cut"], row["model"]], order[row["target"]]

    ordered = sorted(scored.scores, key=place)
    frame = write_scores(folder, [_score_row(row, seconds) for row in ordered])
    tables = {
        "scores_by_tiles.csv": (scored.by_tiles, BY_TILES_COLUMNS),
        "winners.csv": (scored.winners, WINNER_COLUMNS),
        "comparisons.csv": (judge_rows(scored.comparisons), COMPARISON_COLUMNS),
    }
    for name, (rows, columns) in tables.items():
        write_csv(folder / name, pd.DataFrame(rows, columns=list(columns)))
    write_stated(folder, made_from)
    return frame


def _score_row(row: Row, seconds: dict[Run, Seconds]) -> Row:
    of_run = seconds[row["split"], row["cut"], row["model"]]
    return {
        **dict.fromkeys(SCORE_COLUMNS, np.nan),
        **row,
        **split_cut(row["cut"]),
        "fit_seconds": of_run.get(row["target"], np.nan),
    }
