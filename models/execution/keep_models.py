"""Refit the models worth keeping on all tiles, and save them."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from typing import Any, NamedTuple

import pandas as pd

from extract.config.cuts import ALL_CUTS, Cut, parse_cell_cut
from models.data.classes import list_classes, spread_classes
from models.data.design import Design, features_path
from models.data.folds import assign_folds, build_folds
from models.execution.fit_cell import Inputs, open_design
from models.families.family import Where
from models.settings import FitSettings
from models.store.cells import Cell, Planned
from models.store.kept_models import model_folder, read_key, save_model
from models.store.licences import read_licence, read_look, read_made
from models.store.runs import join_cut, read_run
from models.uncertainty.applicability import measure_reach
from models.uncertainty.coverage import describe_intervals

LOG = logging.getLogger(__name__)
_MEASURED = ("embedding", "place", "metadata")  # feeds whose rows lie nearer or farther


class Kept(NamedTuple):
    """A cell to refit on all tiles, for one target, and its scores."""

    target: str
    cell: Cell
    scores: list[dict[str, Any]]


def choose_kept(settings: FitSettings, scores: pd.DataFrame) -> list[Kept]:
    """Return the cells to keep of each target, by their areas on the strictest split: the best, or all, or those named; no stack.

    The best has the least RMSE, or for classes the highest balanced accuracy.
    """
    asked = settings.models
    frame = scores[(scores["split"] == asked.strictest) & (scores["backbone"] != str(ALL_CUTS))]
    if isinstance(asked.keep, list):
        frame = frame[frame["model"].isin(asked.keep)]
    kept = []
    for target in settings.targets.names:
        of_target = frame[frame["target"] == target]
        at_areas = of_target[of_target["level"] == "area"]
        ranked = at_areas.loc[
            at_areas["rmse"].fillna(-at_areas["balanced_accuracy"]).sort_values(kind="stable").index
        ]
        for row in ranked.head(1 if asked.keep == "best" else len(ranked)).to_dict("records"):
            cut = [*("backbone", "layer", "pooling"), "model"]
            same = of_target[(of_target[cut] == [row[c] for c in cut]).all(axis=1)]
            cell = Cell(
                asked.strictest,
                parse_cell_cut(join_cut(row["backbone"], row["layer"], row["pooling"])),
                str(row["model"]),
            )
            facts = [
                {str(k): None if pd.isna(v) else v for k, v in one.items()}
                for one in same.to_dict("records")
            ]
            kept.append(Kept(target, cell, facts))
    return sorted(kept, key=lambda one: one.cell.names)  # so that a cut is read once


def list_stale(
    settings: FitSettings, kept: list[Kept], planned: list[Planned]
) -> Iterator[tuple[Kept, str]]:
    """Return the kept models that are not on disk as they should be, with the key of the cell that each belongs to."""
    keys = {(p.cell, t): key for p in planned for t, key in p.keys.items()}
    splits = list(dict.fromkeys(p.cell.split for p in planned))
    for one in kept:  # the intervals' coverage is of every split
        every = [keys.get((one.cell._replace(split=split), one.target), "") for split in splits]
        key = keys[one.cell, one.target] + "".join(f"-{other[:16]}" for other in every[1:])
        path = model_folder(settings.folder, one.target, one.cell.cut, one.cell.model)
        if read_key(path) != key:
            yield one, key


def remove_unkept(settings: FitSettings, kept: list[Kept]) -> None:
    """Remove what was kept earlier and is not any more, so that `predict` finds what the settings ask for."""
    wanted = {
        model_folder(settings.folder, one.target, one.cell.cut, one.cell.model) for one in kept
    }
    for path in sorted((settings.folder / "models").glob("**/model.json")):
        if path.parent not in wanted:
            LOG.info("%s: no longer kept, removed", path.parent)
            shutil.rmtree(path.parent)


def keep_model(inputs: Inputs, one: Kept, key: str) -> None:
    """Refit one cell on all tiles and save it, with all that is needed to feed it again."""
    settings = inputs.settings
    cell = one.cell
    tiles = inputs.tiles
    run = read_run(settings.folder, *cell)
    task = tiles.kind(one.target)
    design = open_design(with_whole_areas(inputs, cell), cell, run["inputs"])
    classes = []
    if task == "class":
        classes = list_classes(tiles.classes[one.target])
        Y = spread_classes(design.codes[one.target], len(classes))
    else:
        Y = design.Y[:, [list(tiles.targets).index(one.target)]]
    model = settings.models.build(cell.spec, task)
    model.where = Where(
        cell=str(cell), targets=(one.target,), held="all tiles", folder=settings.folder, keys=(key,)
    )
    model.fit(design.X, Y, folds=design.folds, weight=design.weight)
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
        "feed": _describe_feed(inputs, cell, design),
        "training": {
            **run["inputs"],
            **run["cells"][one.target]["depends"],
            "n_rows": len(design.X),
        },
        "versions": run["versions"],
        "licence": read_licence(settings.folder, cell.cut),
        **_describe_features(settings, cell),
        **describe_intervals(settings.folder, cell, one.target, tiles),
    }
    path = model_folder(settings.folder, one.target, cell.cut, cell.model)
    reach = (
        measure_reach(design.X, seed=settings.models.seed) if cell.spec.feed in _MEASURED else None
    )
    save_model(path, cell.model, model, facts, reach=reach)


def with_whole_areas(inputs: Inputs, cell: Cell) -> Inputs:
    """Return inputs whose random folds are of whole areas where the model's rows are: what is kept pools all tiles of an area.

    Out of fold, an `@area` model on the split `random` has a row an area and fold, half an area as it were; `predict` has whole
    ones, and the model has to be fitted, and its parameters chosen, on such.
    """
    if cell.split != "random" or not cell.spec.area:
        return inputs
    asked = inputs.settings.models
    tiles = inputs.tiles
    area = tiles.area.to_numpy()
    targets = tiles.targets.to_numpy() if tiles.targets.shape[1] else None
    fold = assign_folds(
        "area",
        area=area,
        xy=tiles.xy,
        targets=targets,
        n_folds=asked.folds,
        seed=asked.seed,
        block_m=asked.block_m,
    )
    whole = build_folds("area", fold, area=area, xy=tiles.xy, block_m=asked.block_m, buffer_m=0)
    return inputs._replace(folds={**inputs.folds, "random": whole})


def _describe_feed(inputs: Inputs, cell: Cell, design: Design) -> dict[str, Any]:
    """Describe how a row is made from a tile, or from the tiles of an area, for `predict` to make it again."""
    spec = cell.spec
    groups = inputs.tiles.groups
    feed: dict[str, Any] = {
        **spec._asdict(),
        "kind": spec.feed,
        "pooling": ["mean", "sd"] if spec.area else [],
        "n_features": design.X.shape[1],
        "names": design.names,
    }
    if spec.groups or spec.feed == "groups":
        feed["group_columns"] = list(groups.columns)
        feed["columns"] = [
            name.removeprefix("mean ")
            for name in design.names
            if not (spec.area and name.startswith("sd "))
        ]
    if spec.feed == "region":
        column = inputs.settings.models.region or groups.columns[0]
        feed["group_columns"], feed["values"] = [column], pd.factorize(groups[column])[1].tolist()
    return feed


def _describe_features(settings: FitSettings, cell: Cell) -> dict[str, Any]:
    """Describe how pictures became features, for those of another place: `look`, and of a network's cut `made`."""
    if isinstance(cell.cut, Cut):
        path = features_path(settings.folder, cell.cut.backbone)
        return {"look": read_look(path), "made": read_made(path)}
    if cell.spec.feed == "metadata":
        return {
            "look": read_look(features_path(settings.folder, settings.extract.backbones[0])),
            "made": {},
        }
    return {"look": {}, "made": {}}
