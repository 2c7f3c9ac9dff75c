"""Refit the models worth keeping on all tiles, and save them."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from extract.config.cuts import ALL_CUTS, parse_cell_cut
from extract.errors import FitError, KeptModelError
from extract.files.hashing import hash_text
from models.data.classes import list_classes, spread_classes
from models.data.cut_data import features_path
from models.data.design import Design
from models.data.fold_file import assign_split, build_split
from models.data.folds import Folds
from models.execution.experiment_data import ExperimentData, open_experiment
from models.families.estimator_files import has_safe_form, needs_refit
from models.families.family import Family, FitContext
from models.settings import FitSettings
from models.store.cells import Cell, Planned, hash_labels
from models.store.feature_origin import read_licence, read_look, read_made
from models.store.kept_models import KeptModel, load_model, model_folder, read_key, save_model
from models.store.runs import read_run
from models.store.score_tables import join_cut
from models.uncertainty.applicability import measure_applicability
from models.uncertainty.coverage import describe_intervals

LOG = logging.getLogger(__name__)
_CELL_COLUMNS = ["backbone", "layer", "pooling", "model"]
_MEASURED = ("embedding", "place", "metadata")  # feeds whose rows have distances


class KeptCell(NamedTuple):
    """A cell to refit on all tiles, for one target, and its scores by level.

    Attributes
    ----------
    rivals : the cells that it was chosen from, itself the first; it alone where all are kept.
    """

    target: str
    cell: Cell
    scores: list[dict[str, Any]]
    rivals: list[Cell]


def choose_kept(settings: FitSettings, scores: pd.DataFrame) -> list[KeptCell]:
    """Return the cells to keep of each target: the best, or all, or those of the named models.

    They are ranked by their areas on the farthest split: numbers by RMSE, classes by balanced
    accuracy. Stacks are not kept.
    """
    asked = settings.models
    is_farthest = scores["split"] == asked.farthest
    is_stack = scores["backbone"] == str(ALL_CUTS)
    frame = scores[is_farthest & ~is_stack]
    if isinstance(asked.keep, list):
        frame = frame[frame["model"].isin(asked.keep)]
    kept = []
    for target in settings.targets.names:
        of_target = frame[frame["target"] == target]
        rows = rank_cells(of_target)[_CELL_COLUMNS].to_dict("records")
        ranked = [_name_cell(asked.farthest, row) for row in rows]
        if asked.keep == "best":
            best = [(cell, ranked) for cell in ranked[:1]]
        else:
            best = [(cell, [cell]) for cell in ranked]
        for row, (cell, rivals) in zip(rows, best, strict=False):
            kept.append(KeptCell(target, cell, _list_scores(of_target, row), rivals))
    return sorted(kept, key=lambda one: one.cell.names)  # so that a cut is read once


def _name_cell(split: str, row: dict[Hashable, Any]) -> Cell:
    cut = parse_cell_cut(join_cut(row["backbone"], row["layer"], row["pooling"]))
    return Cell(split, cut, str(row["model"]))


def _list_scores(scores: pd.DataFrame, row: dict[Hashable, Any]) -> list[dict[str, Any]]:
    """Return the scores of one cell, a dictionary a level; None where there is none."""
    names = list(row.values())
    is_cell = (scores[_CELL_COLUMNS] == names).all(axis=1)
    levels = scores[is_cell].astype(object)
    known = levels.where(levels.notna(), None)
    return [{str(name): value for name, value in one.items()} for one in known.to_dict("records")]


def rank_cells(scores: pd.DataFrame) -> pd.DataFrame:
    """Return the scores of one target over areas, the best first."""
    areas = scores[scores["level"] == "area"]
    error = areas["rmse"].fillna(-areas["balanced_accuracy"])
    order = error.sort_values(kind="stable").index
    return areas.loc[order]


def list_stale(
    settings: FitSettings, kept: list[KeptCell], planned: list[Planned]
) -> Iterator[tuple[KeptCell, str]]:
    """Yield the kept models that are not on disk as they should be, with their keys.

    The key holds those of the cells that it was chosen from, on every split, since the intervals
    and their coverage are made from all of them.
    """
    keys = {p.cell: p.keys for p in planned}
    splits = list(dict.fromkeys(p.cell.split for p in planned))
    for one in kept:
        chosen_from = [rival._replace(split=split) for rival in one.rivals for split in splits]
        made_from = [keys.get(cell, {}).get(one.target, "") for cell in chosen_from]
        digest = hash_text(" ".join(made_from))
        key = f"{keys[one.cell][one.target]}-{digest[:16]}"
        if read_key(_folder_of(settings, one)) != key:
            yield one, key


def _folder_of(settings: FitSettings, one: KeptCell) -> Path:
    return model_folder(settings.folder, one.target, one.cell.cut, one.cell.model)


def remove_unkept(settings: FitSettings, kept: list[KeptCell]) -> None:
    """Remove what was kept earlier and is not any more, so that `predict` does not find it."""
    wanted = {_folder_of(settings, one) for one in kept}
    root = settings.folder / "models"
    for path in sorted(root.glob("**/model.json")):
        if path.parent not in wanted:
            LOG.info("%s: no longer kept, removed", path.parent)
            shutil.rmtree(path.parent)


def keep_model(data: ExperimentData, one: KeptCell, key: str) -> bool:
    """Refit one cell on all tiles and save it, with all that is needed to feed it again.

    Returns
    -------
    Whether files hold the model; else it is fitted again when it is asked for.
    """
    settings = data.settings
    cell = one.cell
    tiles = data.tiles
    run = read_run(settings.folder, *cell.names)
    task = tiles.kind(one.target)
    design = data.open_design(cell, run["inputs"], folds=fold_whole_areas(data, cell))
    classes = []
    if task == "class":
        classes = list_classes(tiles.classes[one.target])
    model = _fit_whole(data, design, cell, one.target, key)
    depends = run["cells"][one.target]["depends"]
    facts = {
        "target": one.target,
        "task": task,
        "classes": classes,
        "cut": str(cell.cut),
        "split": cell.split,
        "key": key,
        "settings": settings.as_json(),
        "scores": one.scores,
        "chosen": model.chosen_[0],
        "feed": _describe_feed(data, cell, design),
        "training": {**run["inputs"], **depends, "n_rows": len(design.X)},
        "versions": run["versions"],
        "is_refitted": not has_safe_form(model),
        "licence": read_licence(settings.folder, settings.parts_of(cell.cut)),
        **_describe_features(settings, cell),
        **describe_intervals(settings.folder, cell, one.rivals, one.target, tiles),
    }
    applicability = None
    if cell.spec.feed in _MEASURED:
        applicability = measure_applicability(
            design.X,
            design.folds.fold,
            slopes=model.slopes(),
            seed=settings.models.seed,
        )
    save_model(_folder_of(settings, one), cell.model, model, facts, applicability=applicability)
    return not facts["is_refitted"]


def _fit_whole(data: ExperimentData, design: Design, cell: Cell, target: str, key: str) -> Family:
    """Fit a model of one target on all rows of a design."""
    tiles = data.tiles
    task = tiles.kind(target)
    if task == "class":
        classes = list_classes(tiles.classes[target])
        Y = spread_classes(design.codes[target], len(classes))
    else:
        column = list(tiles.targets).index(target)
        Y = design.Y[:, [column]]
    context = FitContext(
        cell=str(cell),
        targets=(target,),
        held="all tiles",
        folder=data.settings.folder,
        keys=(key,),
    )
    model = data.settings.models.build(cell.spec, task)
    return model.fit(
        design.X,
        Y,
        folds=design.folds,
        weight=design.weight,
        context=context,
    )


def open_kept(settings: FitSettings, kept: KeptModel) -> Family:
    """Read a kept model, or fit it again on the experiment's tiles where no file can hold it.

    Raises
    ------
    RunFileError : as `load_model`.
    KeptModelError : the experiment is not as it was, or is not there.
    """
    model = load_model(kept.path, settings.models.estimators)
    if not needs_refit(model):
        return model
    cell = kept.cell
    target = str(kept.facts["target"])
    training = kept.facts["training"]
    name = cell.spec.family
    now = settings.as_json()["models"]["estimators"][name]
    if kept.facts["settings"]["models"]["estimators"].get(name) != now:
        raise KeptModelError(
            f"{kept.path}: it has to be fitted again, and [models.estimators.{name}] has changed "
            "since. Run `make models`."
        )
    data = open_experiment(settings)
    try:
        design = data.open_design(cell, training, folds=fold_whole_areas(data, cell))
    except FitError as error:
        raise KeptModelError(f"{kept.path}: {error}") from None
    if hash_labels(data.tiles)[target] != training["labels_sha256"]:
        raise KeptModelError(
            f"{kept.path}: it has to be fitted again, and the labels are no longer those that it "
            "was fitted on. Run `make models`."
        )
    return _fit_whole(data, design, cell, target, str(kept.facts["key"]))


def fold_whole_areas(data: ExperimentData, cell: Cell) -> Folds | None:
    """Return folds of whole areas for an `@area` model on the split `random`; else None.

    Out of fold such a model has a row an area and fold, so to speak half an area. `predict` has
    whole ones, and the model has to be fitted, and its parameters chosen, on such.
    """
    if cell.split != "random" or not cell.spec.area:
        return None
    options = data.settings.models.fold_options
    fold = assign_split("area", data.tiles, options)
    return build_split("area", fold, data.tiles, options)


def _describe_feed(data: ExperimentData, cell: Cell, design: Design) -> dict[str, Any]:
    """Describe for `predict` how a row is made from a tile, or from the tiles of an area."""
    spec = cell.spec
    groups = data.tiles.groups
    names = design.names
    feed: dict[str, Any] = {
        **spec._asdict(),
        "kind": spec.feed,
        "pooling": ["mean", "sd"] if spec.area else [],
        "n_features": design.X.shape[1],
        "names": names,
    }
    parts = data.settings.parts_of(cell.cut)
    if len(parts) > 1:
        feed["joined"] = [str(part) for part in parts]
    if spec.groups or spec.feed == "groups":
        columns = names
        if spec.area:
            means = [name for name in names if name.startswith("mean ")]
            columns = [name.removeprefix("mean ") for name in means]
        feed["group_columns"] = list(groups.columns)
        feed["columns"] = columns
    if spec.feed == "region":
        column = data.settings.models.region or groups.columns[0]
        _, values = pd.factorize(groups[column])
        feed["group_columns"] = [column]
        feed["values"] = values.tolist()
    return feed


def _describe_features(settings: FitSettings, cell: Cell) -> dict[str, Any]:
    """Describe how pictures became features: `look`, and of a network's cut `made`."""
    folder = settings.folder
    parts = settings.parts_of(cell.cut)
    if parts:
        path = features_path(folder, parts[0].backbone)
        made = read_made(path) if len(parts) == 1 else {}
        return {"look": read_look(path), "made": made}
    look: dict[str, Any] = {}
    if cell.spec.feed == "metadata":
        path = features_path(folder, settings.extract.backbones[0])
        look = read_look(path)
    return {"look": look, "made": {}}
