"""Opening of a kept model with the tiles that it is asked about, and their nearest neighbours."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from extract.config.arrays import Bools, Float32s, Ints
from extract.errors import FitError, KeptModelError
from models.data.design import Design
from models.data.features import Features
from models.execution.experiment_data import ExperimentData
from models.execution.keep_models import fold_whole_areas, open_kept
from models.explaining.explained_model import ExplainedModel
from models.families.family import Family
from models.families.fit_results import Chosen
from models.families.nearest_neighbours import Neighbours
from models.families.pca import Reduced, inner_family, reduce_features
from models.store.kept_models import KeptModel
from models.store.runs import read_run

N_SAMPLE = 512  # tiles whose mean is the mean tile
SAMPLE_BYTES = 256 << 20
N_NEIGHBOURS = 5


class Neighbour(NamedTuple):
    """A tile that a prediction was taken from (of an area, its first): row and label."""

    row: int
    truth: Any


class OpenedModel(NamedTuple):
    """A kept model, ready to be explained.

    Attributes
    ----------
    design : what the model was fitted on. row : (n,), rows of the design that the tiles are in.
    classes : names of the classes, where the target is one.
    """

    explained: ExplainedModel
    design: Design
    row: Ints
    classes: list[str]


def open_model(inputs: ExperimentData, kept: KeptModel, gallery: pd.DataFrame) -> OpenedModel:
    """Read a kept model and what it is fed for some tiles.

    Parameters
    ----------
    gallery : `id`, `row` in the table and `prediction` of each tile.

    Raises
    ------
    KeptModelError : a tile without features, or other features than the model was fitted on.
    RunFileError : a kept model, or the run that it is of, that is damaged.
    """
    cell = kept.cell
    training = kept.facts["training"]
    try:
        design = inputs.open_design(cell, training, folds=fold_whole_areas(inputs, cell))
        tiles = inputs.open_design(cell._replace(model="ridge"), training)
    except FitError as error:
        raise KeptModelError(
            f"{kept.path}: {error} The kept model is older: run `make models`, then this."
        ) from None
    at = _find_usable(gallery, design)
    row = design.row_of_tile[at]
    n_tiles = np.ones(len(design.X), np.int64)
    if cell.spec.area:
        n_tiles = np.bincount(design.row_of_tile)
    model = open_kept(inputs.settings, kept)
    run = read_run(inputs.settings.folder, *cell)
    target = str(kept.facts["target"])
    chosen = run["chosen"][target]
    explained = ExplainedModel(
        model=model,
        pooling=kept.cut.pooling,
        is_area=cell.spec.area,
        grid=tiles.X.grid,
        own=tiles.X.rows(at).array(),
        rows=design.X.rows(row).array(),
        n_tiles=n_tiles[row],
        n_core=design.X.n_core,
        columns=np.zeros(len(row), np.int64),
        reference=_average_tiles(tiles.X),
        model_of=_restrict_neighbours(model, design, row, chosen),
    )
    classes = [str(name) for name in kept.facts.get("classes") or []]
    if classes:
        explained = replace(explained, columns=_class_columns(explained, gallery, classes))
    return OpenedModel(
        explained=explained,
        design=design,
        row=row,
        classes=classes,
    )


def _average_tiles(X: Features) -> Float32s:
    """Return the features of the mean tile: (n_features,)."""
    row_bytes = 4 * X.shape[1]
    n = min(N_SAMPLE, SAMPLE_BYTES // row_bytes)
    sample = X.sample(max(2, n))
    mean = sample.mean(axis=0, dtype=np.float64)
    return mean.astype(np.float32)


def _find_usable(gallery: pd.DataFrame, design: Design) -> Ints:
    """Return where among the tiles of the design those of the gallery are."""
    rows = gallery["row"].to_numpy()
    is_usable = np.isin(rows, design.tiles)
    rejected = gallery["id"][~is_usable]
    if len(rejected):
        raise KeptModelError(
            f"tile {rejected.iloc[0]!r}: its picture was rejected, and has no features; "
            "features/rejects.csv says why. Leave it out."
        )
    return np.searchsorted(design.tiles, rows)


def _class_columns(explained: ExplainedModel, gallery: pd.DataFrame, classes: list[str]) -> Ints:
    """Return the class of each tile that was predicted out of fold, else the one predicted now."""
    shares = explained.model.predict(explained.features())
    now = shares.argmax(axis=1)
    predicted = pd.Index(gallery["prediction"])
    known = pd.Index(classes).get_indexer(predicted)
    return np.where(known >= 0, known, now)


def _restrict_neighbours(
    model: Family, design: Design, row: Ints, chosen: dict[str, Chosen]
) -> Callable[[int], Family] | None:
    """Return what keeps neighbours of a tile's own fold out; None for other families.

    They were refitted on all tiles, and would find the tile itself. So a tile is predicted, and
    explained, as it was out of fold, but for the scales of the features, which come from all.

    Parameters
    ----------
    chosen : fold → number and weighting of neighbours that were chosen without it.
    """
    neighbours = inner_family(model)
    if not isinstance(neighbours, Neighbours):
        return None

    @lru_cache
    def restrict(fold: int) -> Family:
        _, is_known = _known_rows(neighbours, design, fold)
        restricted = neighbours.without(is_known)
        of_fold = chosen.get(str(fold))
        if of_fold is not None:
            restricted.chosen_ = [of_fold] * len(neighbours.chosen_)
        if not isinstance(model, Reduced):
            return restricted
        reduced = copy(model)
        reduced.fitted_ = restricted
        return reduced

    folds = design.folds.fold[row].tolist()
    return lambda i: restrict(folds[i])


def _known_rows(model: Neighbours, design: Design, fold: int) -> tuple[Ints, Bools]:
    """Return the rows of the design that a model searches, and which are known out of a fold.

    A tile in no fold may know the rows of all folds.
    """
    n_rows = len(design.X)
    searched = model.draw_rows(n_rows)
    if searched is None:
        searched = np.arange(n_rows)
    known = np.flatnonzero(design.folds.part >= 0)
    if fold >= 0:
        known = design.folds.training(design.folds.parts_of(fold))
    return searched, np.isin(searched, known)


def find_neighbours(opened: OpenedModel, i: int) -> list[Neighbour]:
    """Return the labelled rows nearest to tile i outside its fold, the nearest first.

    Other families have none.
    """
    explained = opened.explained
    design = opened.design
    asked = explained.asked(i)
    model = inner_family(asked)
    fitted = inner_family(explained.model)
    if not isinstance(model, Neighbours) or not isinstance(fitted, Neighbours):
        return []
    row = opened.row[i]
    fold = int(design.folds.fold[row])
    searched, is_known = _known_rows(fitted, design, fold)
    rows = searched[is_known]
    column = 0 if opened.classes else int(explained.columns[i])
    is_labelled = ~np.isnan(model.Y_[:, column])
    labelled = np.flatnonzero(is_labelled)
    n = min(N_NEIGHBOURS, int(model.chosen_[column]["n_neighbors"]), len(labelled))
    X = explained.features().rows(np.array([i]))
    if isinstance(asked, Reduced):
        X = reduce_features(X, asked.axes_)
    nearest = model.without(is_labelled).find_nearest(X, n)
    _, first_tile = np.unique(design.row_of_tile, return_index=True)
    found = []
    for j in labelled[nearest.order[0]]:
        labels = model.Y_[j]
        truth = labels[column]
        if opened.classes:
            truth = opened.classes[labels.argmax()]
        tile = first_tile[rows[j]]
        found.append(Neighbour(int(design.tiles[tile]), truth))
    return found
