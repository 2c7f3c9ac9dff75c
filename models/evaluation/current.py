"""Whether what lies in an experiment's folder was made from what lies there now.

Commands that show numbers hold the folder as readers, and compare every hash that `scores.json` and
the runs state with the table, the folds, the settings and the files. What is stale is refused, and
the text says what has changed. Versions of libraries and revisions of models are not compared: they
change what another fit would give, and not what was fitted.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pandas as pd

from extract.errors import RunFileError
from extract.files.hashing import hash_file
from extract.files.locks import locked_to_read
from extract.tables.tile_table import Tiles, read_tiles
from models.data.fold_file import open_folds
from models.data.folds import Folds
from models.evaluation.score_runs import build_labels, describe_inputs
from models.settings import FitSettings
from models.store.cells import Cell, CurrentInputs, Inputs, list_cells
from models.store.kept_models import KeptModel, list_kept
from models.store.runs import read_finished, run_folder
from models.store.scores_file import MadeFrom, read_stated
from models.store.staleness import count_reasons, name_changes
from models.uncertainty.coverage import build_coverage

_OF_THE_PROGRAM = ("versions", "revision")
_WORDS = {
    "replicates": "the number of resamples",
    "seed": "[models] seed",
    "ids_sha256": "the tiles of the table",
    "area_sha256": "the areas of the tiles",
    "labels_sha256": "the labels of {}",
    "units_sha256": "the areas or blocks of {}",
    "training_means_sha256": "the folds of {}, or the labels of their training tiles,",
}


@contextmanager
def open_current(settings: FitSettings) -> Iterator[None]:
    """Hold an experiment's folder as a reader, with its scores and runs checked.

    Raises
    ------
    LockError : a fit is writing into it.
    RunFileError : as `check_current`.
    """
    with locked_to_read(settings.folder):
        check_current(settings)
        yield


def check_current(settings: FitSettings) -> None:
    """Check that scores, runs and kept models are of one fit, and of what lies there now.

    A table that is gone, features that are gone and runs that are gone are not compared.

    Raises
    ------
    RunFileError : something is unfinished, was changed, or is of other data or settings.
    """
    made_from = read_stated(settings.folder)
    reasons = list(_list_changed_runs(settings, made_from["runs"]))
    reasons += _list_older_kept(settings)
    if settings.tiles.source.exists():
        tiles = read_tiles(settings)
        folds = _open_folds(settings, tiles)
        reasons += _list_changed_labels(settings, tiles, folds, made_from)
        current = CurrentInputs(settings, tiles, folds)
        for cell in list_cells(settings):
            reasons += _list_changed_inputs(settings, current, cell)
    if reasons:
        changes = count_reasons([[reason] for reason in reasons])
        raise RunFileError(
            f"{settings.folder}: not what was fitted and scored there: {changes}. Run `make "
            "models` again: it fits and scores what is stale."
        )


def list_kept_changes(settings: FitSettings, kept: KeptModel) -> list[str]:
    """Describe what has changed since a kept model was fitted; nothing where the table is gone."""
    if not settings.tiles.source.exists():
        return []
    tiles = read_tiles(settings)
    folds = _open_folds(settings, tiles)
    current = CurrentInputs(settings, tiles, folds)
    training = dict(kept.facts["training"])
    training.pop("n_rows", None)
    target = str(kept.facts["target"])
    return _compare(current, kept.cell, target, training)


def _open_folds(settings: FitSettings, tiles: Tiles) -> dict[str, Folds]:
    options = settings.models.fold_options
    opened = open_folds(settings.folder, tiles, options, is_read_only=True)
    return opened.folds


def _list_changed_runs(settings: FitSettings, stated: dict[str, str]) -> Iterator[str]:
    """Describe the runs that are not those that were scored, and those that were not scored."""
    for run, sha256 in stated.items():
        folder = run_folder(settings.folder, *_split_name(run))
        path = folder / "run.json"
        if path.is_file() and hash_file(path) != sha256:
            yield f"the run {run} is another than the one that was scored"
    for cell in list_cells(settings):
        folder = run_folder(settings.folder, *cell.names)
        is_finished = (folder / "run.json").is_file()
        if is_finished and str(cell) not in stated:
            yield f"the run {cell} is not scored yet"


def _split_name(run: str) -> tuple[str, str, str]:
    """Take the name of a run apart; a cut may have blanks."""
    split, rest = run.split(" ", 1)
    cut, model = rest.rsplit(" ", 1)
    return split, cut, model


def _list_older_kept(settings: FitSettings) -> Iterator[str]:
    """Describe kept models that were fitted before the run that they are of, and whether
    `coverage.csv` says something else than they do.
    """
    facts = []
    for target in settings.targets.names:
        for kept in list_kept(settings.folder, target):
            facts.append(kept.facts)
            run = read_finished(settings.folder, *kept.cell)
            cells = run.get("cells", {})
            entry = cells.get(target)
            key = str(kept.facts.get("key", ""))
            of_cell, _, _ = key.partition("-")
            if entry is not None and entry["key"] != of_cell:
                yield f"the kept model {kept.cell} of {target} is older than its run"
    path = settings.folder / "coverage.csv"
    if not path.is_file():
        return
    coverage = build_coverage(facts)
    if path.read_bytes() != _as_csv(coverage):
        yield f"{path.name} is not what the kept models say"


def _as_csv(table: pd.DataFrame) -> bytes:
    text = table.to_csv(index=False, lineterminator=os.linesep)
    return text.encode()


def _list_changed_labels(
    settings: FitSettings, tiles: Tiles, folds: dict[str, Folds], made_from: MadeFrom
) -> list[str]:
    """Describe what scores depend on and has changed, of targets and splits of both."""
    asked = settings.models
    labels = build_labels(tiles, folds, asked.fold_options)
    changes = []
    for name, value in describe_inputs(labels, asked.seed).items():
        stated = made_from[name]
        if isinstance(value, dict):
            for key, now in value.items():
                if stated.get(key, now) != now:
                    words = _WORDS[name].format(key)
                    changes.append(f"{words} changed")
        elif stated != value:
            changes.append(f"{_WORDS[name]} changed")
    if len(changes) > 1:
        return [change for change in changes if "training tiles" not in change]
    return changes


def _list_changed_inputs(
    settings: FitSettings, current: CurrentInputs, cell: Cell
) -> Iterator[str]:
    """Describe what a run depends on and has changed since it was fitted."""
    run = read_finished(settings.folder, *cell)
    cells = run.get("cells", {})
    for target, entry in cells.items():
        inputs = run["inputs"] | entry["depends"]
        yield from _compare(current, cell, target, inputs)


def _compare(current: CurrentInputs, cell: Cell, target: str, old: Inputs) -> list[str]:
    """Hold the inputs that a cell was fitted from against those of now."""
    if "members" in old:  # what a stack combines is compared by itself
        return []
    try:
        new = current.read(cell)
        depends = current.depends(cell)
    except ValueError:  # features or weights that are gone
        return []
    if target not in depends:
        return []
    new |= depends[target]
    for name in _OF_THE_PROGRAM:
        new[name] = old.get(name)
    return name_changes(old, new, cell=cell.names, target=target)
