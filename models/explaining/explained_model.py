"""A kept model and the tiles that it is asked about, made ready to be explained."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from extract.errors import FitError, KeptModelError
from models.data.arrays import Ints
from models.data.design import Design
from models.data.features import Features
from models.execution.fit_cell import Inputs, open_design
from models.execution.keep_models import with_whole_areas
from models.explaining.feature_maps import Maps
from models.explaining.heat_maps import Subject
from models.explaining.model_rows import Feed
from models.families.family import Chosen, Family
from models.families.nearest_neighbours import Neighbours
from models.families.pca import Reduced, reduce_features
from models.store.kept_models import KeptModel, load_model
from models.store.runs import read_run

# of the tiles whose mean is the mean tile
N_SAMPLE = 512
SAMPLE_BYTES = 256 << 20
N_MAPS = 32  # of those, maps that are pushed through a network
N_NEIGHBOURS = 5


class Opened(NamedTuple):
    """A subject, and what its tiles' neighbours are found in.

    Attributes
    ----------
    design : what the model was fitted on. row : (n,), rows of the design that the tiles are in.
    classes : names of the classes, where the target is one.
    """

    subject: Subject
    design: Design
    row: Ints
    classes: list[str]


def open_subject(inputs: Inputs, kept: KeptModel, gallery: pd.DataFrame) -> Opened:
    """Read a kept model and what it is fed for some tiles.

    Parameters
    ----------
    gallery : `id`, `row` in the table and `prediction` of each tile.

    Raises
    ------
    KeptModelError : a tile without features; or the features are no longer those that the model was fitted on.
    RunFileError : a kept model, or the run that it is of, that is damaged.
    """
    cell = kept.cell
    training = kept.facts["training"]
    try:
        design = open_design(with_whole_areas(inputs, cell), cell, training)
        plain = open_design(inputs, cell._replace(model="ridge"), training)
    except FitError as error:
        raise KeptModelError(
            f"{kept.path}: {error} The kept model is older: run `make models`, then this."
        ) from None
    chosen = read_run(inputs.settings.folder, *cell)["chosen"][str(kept.facts["target"])]
    rows = gallery["row"].to_numpy()
    if not (is_usable := np.isin(rows, design.tiles)).all():
        raise KeptModelError(
            f"tile {gallery['id'][~is_usable].iloc[0]!r}: its picture was rejected, and has no features; "
            "features/rejects.csv says why. Leave it out."
        )
    model = load_model(kept.path)
    at = np.searchsorted(design.tiles, rows)
    row = design.row_of_tile[at]
    counts = np.bincount(design.row_of_tile) if cell.spec.area else np.ones(len(design.X), np.int64)
    feed = Feed(
        spec=cell.spec,
        grid=plain.X.grid,
        own=plain.X.rows(at).array(),
        rows=design.X.rows(row).array(),
        n_tiles=counts[row],
        n_core=design.X.n_core,
    )
    look = plain.X.sample(max(2, min(N_SAMPLE, SAMPLE_BYTES // (4 * plain.X.shape[1]))))
    subject = Subject(
        model=model,
        pooling=kept.cut.pooling,
        feed=feed,
        columns=np.zeros(len(row), np.int64),
        reference=look.mean(axis=0, dtype=np.float64).astype(np.float32),
        sample=_maps(look, plain.X),
        model_of=_blind_model(model, design, row, chosen),
    )
    classes = list(map(str, kept.facts.get("classes") or []))
    return Opened(
        replace(subject, columns=_columns(subject, gallery, classes)), design, row, classes
    )


def _maps(look: NDArray[np.float32], X: Features) -> Maps | None:
    return (
        None
        if X.grid is None
        else look[:: max(1, len(look) // N_MAPS)][:N_MAPS].reshape(-1, *X.grid)
    )


def _columns(subject: Subject, gallery: pd.DataFrame, classes: list[str]) -> Ints:
    """The output that is explained for each tile: of classes, the one that was predicted for it."""
    if not classes:
        return subject.columns
    said = subject.model.predict(subject.feed.whole()).argmax(axis=1)
    return np.array(
        [
            classes.index(p) if p in classes else s
            for p, s in zip(gallery["prediction"], said, strict=True)
        ]
    )


def _blind_model(
    model: Family, design: Design, row: Ints, chosen: dict[str, Chosen]
) -> Callable[[int], Family] | None:
    """Return what makes neighbours blind to a tile's own fold: they were refitted on all, and would find the tile itself.

    With it a tile is predicted, and explained, as it was out of fold, but for the scales of the features, which come from all.

    Parameters
    ----------
    chosen : fold → k and weighting that were chosen without it.
    """
    inner = _inner(model)
    if not isinstance(inner, Neighbours):
        return None

    @lru_cache
    def blind(fold_or_row: tuple[int, int]) -> Family:
        seen = inner.without(np.isin(kept_rows(inner, design), _known_rows(design, *fold_or_row)))
        if (of_fold := chosen.get(str(fold_or_row[0]))) is not None:
            seen.chosen_ = [of_fold] * len(inner.chosen_)
        if not isinstance(model, Reduced):
            return seen
        whole = copy(model)
        whole.fitted_ = seen
        return whole

    folds = design.folds.fold[row].tolist()
    return lambda i: blind((folds[i], -1 if folds[i] >= 0 else int(row[i])))


def kept_rows(model: Neighbours, design: Design) -> Ints:
    """Rows of the design that a model searches, in its order."""
    drawn = model.draw_rows(len(design.X))
    return np.arange(len(design.X)) if drawn is None else drawn


def _known_rows(design: Design, fold: int, row: int) -> Ints:
    """Rows whose labels a tile's out-of-fold prediction knew: not its own fold, nor the buffer round it; else all but its own."""
    if fold < 0:
        return np.delete(np.arange(len(design.X)), row)
    return design.folds.training(design.folds.parts_of(fold))


class Neighbour(NamedTuple):
    """A tile (or of an area, its first) that a prediction was taken from: its row in the table, and the label it gave."""

    row: int
    truth: Any


def find_neighbours(opened: Opened, i: int) -> list[Neighbour]:
    """Return the labelled rows that are nearest to tile i outside its fold, the nearest first; none where the model has none."""
    subject = opened.subject
    design = opened.design
    whole = subject.asked(i)
    inner = _inner(subject.model)
    model = _inner(whole)
    X = subject.feed.whole().rows(np.array([i]))
    if not isinstance(model, Neighbours) or not isinstance(inner, Neighbours):
        return []
    X = reduce_features(X, whole.axes_) if isinstance(whole, Reduced) else X
    fold = int(design.folds.fold[opened.row[i]])
    rows = kept_rows(inner, design)
    rows = rows[np.isin(rows, _known_rows(design, fold, int(opened.row[i])))]
    column = int(subject.columns[i]) if not opened.classes else 0
    labelled = ~np.isnan(model.Y_[:, column])
    n = min(N_NEIGHBOURS, int(model.chosen_[column]["k"]), int(labelled.sum()))
    near = np.flatnonzero(labelled)[model.without(labelled).find_nearest(X, n).order[0]]
    first = np.unique(design.row_of_tile, return_index=True)[1]
    return [
        Neighbour(int(design.tiles[first[rows[j]]]), _label(opened, model.Y_[j], column))
        for j in near
    ]


def _inner(model: Family) -> Family:
    return model.fitted_ if isinstance(model, Reduced) else model


def _label(opened: Opened, y: NDArray[np.float64], column: int) -> Any:
    return opened.classes[int(y.argmax())] if opened.classes else float(y[column])
