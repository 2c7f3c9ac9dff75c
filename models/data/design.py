"""Join the tile table with one cut into what a model is fitted on: features, labels and folds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from extract.config.arrays import Floats, Ints
from extract.errors import FitError
from extract.tables.tile_table import Tiles
from models.data.classes import code_labels, commonest
from models.data.cut_data import CutData
from models.data.features import Features
from models.data.folds import Folds
from models.data.model_names import ModelSpec
from models.data.pooling import any_by_group, mean_by_group, pool_rows

_PICTURE_FACTS = [
    "log bytes",
    "mean red",
    "mean green",
    "mean blue",
    "spread red",
    "spread green",
    "spread blue",
    "nodata",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """What one model is fitted on.

    A row is a tile or, of `@area` models, the tiles of one area in one part of the folds.

    Attributes
    ----------
    tiles : (n_tiles,), row of each usable tile in the table.
    row_of_tile : (n_tiles,), row of the design that each usable tile belongs to.
    X : (n_rows, n_features).
    Y : (n_rows, n_numbers), NaN where the label is missing.
    codes : target that is a class → (n_rows,), index of its class, −1 where missing; of an area
        its most frequent one.
    weight : (n_rows,), mean 1.
    folds : folds of the rows.
    names : (n_features,) of group columns and metadata; empty of embeddings.
    """

    tiles: Ints
    row_of_tile: Ints
    X: Features
    Y: Floats
    codes: dict[str, Ints]
    weight: Floats
    folds: Folds
    names: list[str]


def build_design(
    data: CutData, tiles: Tiles, spec: ModelSpec, *, folds: Folds, region: str | None, weights: str
) -> Design:
    """Build what a model is fitted on.

    Parameters
    ----------
    folds : folds of all tiles of the table.
    region : the group column of the `region` baseline; None for the first.
    weights : `tile` (every tile counts the same) or `area` (every area does).

    Raises
    ------
    FitError : the model needs what the table or the features do not have.
    """
    area, _ = pd.factorize(tiles.area.iloc[data.tiles])
    weight = np.ones(len(area))
    if weights == "area":
        n_tiles = np.bincount(area)
        weight = 1 / n_tiles[area]
    feed = {"group_columns": [region]} if region else {}
    X, names = feed_rows(data, tiles, spec, feed)
    Y = tiles.targets.to_numpy(np.float64)
    codes = {}
    for target, labels in tiles.classes.items():
        code = code_labels(labels)
        codes[str(target)] = code[data.tiles]
    design = Design(
        tiles=data.tiles,
        row_of_tile=np.arange(len(area)),
        X=X,
        Y=Y[data.tiles],
        codes=codes,
        weight=weight / weight.mean(),
        folds=folds.take(data.tiles),
        names=names,
    )
    return _pool_areas(design, area) if spec.area else design


def _pool_areas(design: Design, area: Ints) -> Design:
    """Pool the tiles of each area in each part of the folds into one row."""
    folds = design.folds
    n_parts = folds.part.max() + 2
    area_and_part = area * n_parts + folds.part + 1
    _, first, row = np.unique(area_and_part, return_index=True, return_inverse=True)
    means = [f"mean {name}" for name in design.names]
    deviations = [f"sd {name}" for name in design.names]
    return Design(
        tiles=design.tiles,
        row_of_tile=row,
        X=pool_rows(design.X, row),
        Y=mean_by_group(design.Y, row),
        codes={target: commonest(code, row) for target, code in design.codes.items()},
        weight=np.ones(len(first)),
        folds=Folds(
            kind=folds.kind,
            part=folds.part[first],
            near=any_by_group(folds.near, row),
            per_fold=folds.per_fold,
        ),
        names=means + deviations,
    )


def feed_rows(
    data: CutData, tiles: Tiles, spec: ModelSpec, feed: Mapping[str, Any]
) -> tuple[Features, list[str]]:
    """Return the features of the usable tiles, (n, n_features), and names where they have some.

    Parameters
    ----------
    feed : what has to be as it was when a model was fitted, from its `model.json`:
        `group_columns` (the first is the default region); `columns`, the one-hot columns;
        `values`, the regions. Of a value that was not there then no column is 1, and its region
        is none of the model's.

    Raises
    ------
    FitError : the model needs what the table or the features do not have.
    """
    if spec.feed == "place":
        if tiles.xy is None:
            raise FitError(
                f"model {str(spec)!r} needs coordinates, and the settings name none: set x and y "
                "(or grid) in [tiles], or remove it from names in [models]"
            )
        return Features(tiles.xy[data.tiles]), ["easting", "northing"]
    if spec.feed == "region":
        return _feed_region(tiles, data.tiles, feed)
    if spec.feed == "metadata":
        return _feed_metadata(data, spec)
    if spec.feed == "groups" or spec.groups:
        # of the whole table, so that no fold decides which columns there are
        texts = tiles.groups.astype(str)
        one_hot = pd.get_dummies(texts, prefix_sep="=", dtype=np.float32)
        if "columns" in feed:
            one_hot = one_hot.reindex(columns=feed["columns"], fill_value=np.float32(0))
        groups = one_hot.to_numpy()[data.tiles]
        return replace(data.embedding, beside=groups), list(one_hot.columns)
    return data.embedding, []


def _feed_region(tiles: Tiles, rows: Ints, feed: Mapping[str, Any]) -> tuple[Features, list[str]]:
    """Return the index of each tile's region; a region that is not known has the last one."""
    name = feed.get("group_columns", tiles.groups.columns)[0]
    column = tiles.groups[name]
    values = feed.get("values", column.unique())
    code = pd.Index(values).get_indexer(pd.Index(column))
    is_unknown = code < 0
    code[is_unknown] = len(values)
    regions = code[rows, None]
    return Features(regions.astype(np.float64)), [str(name)]


def _feed_metadata(data: CutData, spec: ModelSpec) -> tuple[Features, list[str]]:
    """Return what a picture tells without any network: file size, colours, share without data."""
    pictures = data.pictures
    if pictures is None:
        raise FitError(
            f"model {str(spec)!r}: the features do not say how large the picture files are and "
            "what colours they have (imported, or made by an older Roofline). Run `make features "
            "FRESH=1`, or remove it from names."
        )
    n_bytes = pictures["bytes"].astype(np.float64)
    colours = [pictures["mean"], pictures["spread"], pictures["nodata"]]
    facts = np.column_stack([np.log1p(n_bytes), *colours])
    return Features(facts.astype(np.float64)), _PICTURE_FACTS
