"""The tile table joined with one cut, and made into what a model is fed: tiles or areas, features, labels, folds."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from extract.config.cuts import CellCut, Cut
from extract.errors import FitError
from extract.store.embeddings import Embeddings
from extract.tables.tile_table import Tiles
from models.data.arrays import Floats, Ints
from models.data.classes import code_labels, commonest
from models.data.features import Features, open_features
from models.data.folds import Folds
from models.families.registry import ModelSpec

_POOL_BYTES = 256 << 20  # of float64 tiles that are pooled at once


@dataclass(frozen=True, slots=True, kw_only=True)
class CutData:
    """The usable tiles of one cut, in the order of the table.

    Attributes
    ----------
    cut : `<backbone>/<layer>:<pooling>`, or `none`.
    tiles : (n,), row of each usable tile in the table.
    embedding : (n, d), in memory or on disk as stored; d is 0 for `none`.
    pictures : (n,) of `extract.pictures.decode.PICTURE`, or None where the features do not hold them.
    source : hashes of what was read.
    """

    cut: CellCut
    tiles: Ints
    embedding: Features
    pictures: NDArray[np.void] | None
    source: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """What one model is fitted on. A row is a tile, or, for `@area` models, the tiles of one area in one part of the folds.

    Attributes
    ----------
    tiles : (n_tiles,), row of each usable tile in the table.
    row_of_tile : (n_tiles,), row of the design that each usable tile belongs to.
    X : (n_rows, n_features). Y : (n_rows, n_numbers), NaN where the label is missing. weight : (n_rows,), mean 1.
    codes : target that is a class → (n_rows,), number of its class, −1 where missing; an area's is its most frequent.
    folds : folds of the rows.
    names : (n_features,) where the features have names of their own (groups, metadata); empty for embeddings.
    """

    tiles: Ints
    row_of_tile: Ints
    X: Features
    Y: Floats
    codes: dict[str, Ints]
    weight: Floats
    folds: Folds
    names: list[str]


def features_path(folder: Path, backbone: str) -> Path:
    """Return the file of a backbone.

    Raises
    ------
    FitError : it is not there.
    """
    path = folder / "features" / f"{backbone}.h5"
    if not path.is_file():
        raise FitError(
            f"{path}: no embeddings of {backbone!r}. Run `make features` with these settings first."
        )
    return path


def read_source(folder: Path, tiles: Tiles, name: CellCut, backbones: list[str]) -> dict[str, str]:
    """Return the hashes of what a cut is read from, without reading it.

    The cut `none` has no features, and the tiles that every backbone accepted, so that baselines are scored on the same.

    Raises
    ------
    FitError : no file, no such cut in it, or other tiles than the table's.
    """
    with ExitStack() as stack:
        opened = [
            stack.enter_context(_open(folder, tiles, backbone))
            for backbone in _backbones(name, backbones)
        ]
        is_ok = np.logical_and.reduce([embeddings.is_ok for embeddings in opened])
        source = {
            "tiles_sha256": tiles.sha256,
            "usable_sha256": hashlib.sha256(is_ok.tobytes()).hexdigest(),
        }
        if not isinstance(name, Cut):
            pictures = _pictures(opened)
            return {
                **source,
                "pictures_sha256": ""
                if pictures is None
                else hashlib.sha256(pictures.tobytes()).hexdigest(),
            }
        return source | {
            "weights_sha256": str(opened[0].attributes.get("weights_sha256", "")),
            "features_sha256": opened[0].checksum(_dataset(opened[0], name)),
        }


def read_cut(
    folder: Path, tiles: Tiles, name: CellCut, backbones: list[str], *, memory: int | None = None
) -> CutData:
    """Join the table and one cut; rejected tiles are left out.

    Parameters
    ----------
    memory : what the features may fill [bytes], as stored or as float32; None for half of what is free. What is larger
        as stored stays on disk, and is read in the file's order whenever it is needed.

    Raises
    ------
    FitError : as `read_source`; no usable tile.
    FeaturesError : features that are not finite.
    """
    source = read_source(folder, tiles, name, backbones)
    with ExitStack() as stack:
        opened = [
            stack.enter_context(_open(folder, tiles, backbone))
            for backbone in _backbones(name, backbones)
        ]
        is_ok = np.logical_and.reduce([embeddings.is_ok for embeddings in opened])
        usable = _usable(name, is_ok)
        pictures = _pictures(opened)
        embedding = Features(np.zeros((len(usable), 0), np.float32))
        if isinstance(name, Cut):
            embedding = open_features(
                opened[0].path, _dataset(opened[0], name), usable, memory=memory
            )
    return CutData(
        cut=name,
        tiles=usable,
        embedding=embedding,
        pictures=None if pictures is None else pictures[usable],
        source=source,
    )


def _backbones(cut: CellCut, backbones: list[str]) -> list[str]:
    return [cut.backbone] if isinstance(cut, Cut) else backbones


def _open(folder: Path, tiles: Tiles, backbone: str) -> Embeddings:
    embeddings = Embeddings(features_path(folder, backbone))
    check_same_tiles(embeddings, tiles)
    return embeddings


def _dataset(embeddings: Embeddings, cut: Cut) -> str:
    dataset = cut.dataset
    if dataset not in embeddings.cuts:
        raise FitError(
            f"{embeddings.path}: no cut {dataset!r}; it has {', '.join(embeddings.cuts)}. "
            "Run `make features` with these settings."
        )
    return dataset


def _pictures(opened: list[Embeddings]) -> NDArray[np.void] | None:
    return next(
        (embeddings.pictures for embeddings in opened if embeddings.pictures is not None), None
    )


def _usable(cut: CellCut, is_ok: NDArray[np.bool_]) -> Ints:
    if not is_ok.any():
        raise FitError(f"{cut}: every tile was rejected; features/rejects.csv says why")
    return np.flatnonzero(is_ok)


def check_same_tiles(embeddings: Embeddings, tiles: Tiles) -> None:
    """Raise `FitError` where the file's ids are not the table's, in order."""
    if not np.array_equal(embeddings.ids.astype(str), tiles.id.to_numpy().astype(str)):
        raise FitError(
            f"{embeddings.path}: {len(embeddings.ids)} tiles that are not the {len(tiles)} of the table, in its "
            "order. Run `make features` anew for this table."
        )


def build_design(
    data: CutData, tiles: Tiles, spec: ModelSpec, *, folds: Folds, region: str | None, weights: str
) -> Design:
    """Make what a model is fed.

    Parameters
    ----------
    folds : folds of all tiles of the table.
    region : the group column of the `region` baseline; None for the first.
    weights : `tile` (every tile counts the same) or `area` (every area does).

    Raises
    ------
    FitError : the model needs what the table or the features do not have.
    """
    folds = folds.take(data.tiles)
    area = pd.factorize(tiles.area.iloc[data.tiles])[0]
    Y = tiles.targets.to_numpy(np.float64)[data.tiles]
    codes = {str(name): code_labels(labels)[data.tiles] for name, labels in tiles.classes.items()}
    X, names = feed_rows(data, tiles, spec, {"group_columns": [region]} if region else {})
    if not spec.area:
        weight = 1 / np.bincount(area)[area] if weights == "area" else np.ones(len(area))
        return Design(
            tiles=data.tiles,
            row_of_tile=np.arange(len(area)),
            X=X,
            Y=Y,
            codes=codes,
            weight=weight / weight.mean(),
            folds=folds,
            names=names,
        )
    row, first = _area_rows(area, folds)
    return Design(
        tiles=data.tiles,
        row_of_tile=row,
        X=pool_rows(X, row),
        Y=_means(Y, row),
        codes={name: commonest(code, row) for name, code in codes.items()},
        weight=np.ones(len(first)),
        folds=Folds(
            kind=folds.kind,
            part=folds.part[first],
            near=_any(folds.near, row),
            per_fold=folds.per_fold,
        ),
        names=[f"{statistic} {name}" for statistic in ("mean", "sd") for name in names],
    )


def feed_rows(
    data: CutData, tiles: Tiles, spec: ModelSpec, feed: Mapping[str, Any]
) -> tuple[Features, list[str]]:
    """Features of the usable tiles, (n, n_features), and their names where they have some.

    Parameters
    ----------
    feed : what is to be as it was when a model was fitted, as its `model.json` says: `group_columns` (the first
        group column is the default region); `columns`, the one-hot columns; `values`, the regions. Of a value that was not there
        then no column is 1, and its region is no region of the model.
    """
    if spec.feed == "place":
        if tiles.xy is None:
            raise FitError(
                f"model {str(spec)!r} needs coordinates, and the settings name none: set x and y (or grid) in "
                "[tiles], or remove it from names in [models]"
            )
        return Features(tiles.xy[data.tiles]), ["easting", "northing"]
    if spec.feed == "region":
        column = tiles.groups[feed.get("group_columns", tiles.groups.columns)[0]]
        code = (
            pd.Index(feed["values"]).get_indexer(column)
            if "values" in feed
            else pd.factorize(column)[0]
        )
        code = np.where(code < 0, len(feed.get("values", ())), code)
        return Features(code[data.tiles, None].astype(np.float64)), [str(column.name)]
    if spec.feed == "metadata":
        facts, names = _metadata(data, spec)
        return Features(facts), names
    if spec.feed == "groups" or spec.groups:
        groups, names = _one_hot(tiles.groups, data.tiles, feed.get("columns"))
        return data.embedding.with_beside(groups), names
    return data.embedding, []


def _one_hot(
    groups: pd.DataFrame, rows: Ints, names: list[str] | None
) -> tuple[NDArray[np.float32], list[str]]:
    """One column a value of every group column, over the whole table so that no fold decides which there are."""
    wide = pd.get_dummies(groups.astype(str), prefix_sep="=", dtype=np.float32)
    wide = wide if names is None else wide.reindex(columns=names, fill_value=np.float32(0))
    return wide.to_numpy()[rows], list(wide.columns)


def _metadata(data: CutData, spec: ModelSpec) -> tuple[NDArray[np.float64], list[str]]:
    """What a picture tells without any network: size of its file, colours, share without data."""
    if data.pictures is None:
        raise FitError(
            f"model {str(spec)!r}: the features do not say how large the picture files are and what colours they "
            "have (imported, or made by an older Roofline). Run `make features FRESH=1`, or remove it from names."
        )
    facts = data.pictures
    columns = [
        np.log1p(facts["bytes"].astype(np.float64)),
        *facts["mean"].T,
        *facts["spread"].T,
        facts["nodata"],
    ]
    names = [
        "log bytes",
        *(f"{s} {c}" for s in ("mean", "spread") for c in ("red", "green", "blue")),
        "nodata",
    ]
    return np.column_stack(columns).astype(np.float64), names


def _area_rows(area: Ints, folds: Folds) -> tuple[Ints, Ints]:
    """Return the row of each tile, one row an (area, part), and one tile of each row."""
    pairs = area.astype(np.int64) * (folds.part.max() + 2) + folds.part + 1
    _, first, row = np.unique(pairs, return_index=True, return_inverse=True)
    return row.ravel(), first


def pool_rows(X: Features, row: Ints) -> Features:
    """Mean and standard deviation of the features over the tiles of each row; columns beside are pooled beside.

    Parameters
    ----------
    row : (n_tiles,), 0 … n_rows − 1, all there.

    Returns
    -------
    (n_rows, 2 · n_features): means, then standard deviations, of the embedding; then the same of what stands beside.
    """
    order = np.argsort(row, kind="stable")
    starts = np.flatnonzero(np.diff(row[order], prepend=-1))
    pooled = np.empty((len(starts), 2, X.shape[1]), np.float32)
    largest = max(1, _POOL_BYTES // (8 * max(1, X.shape[1])))
    for batch in np.split(np.arange(len(starts)), np.flatnonzero(np.diff(starts // largest)) + 1):
        last = starts[batch[-1] + 1] if batch[-1] + 1 < len(starts) else len(order)
        mine = order[starts[batch[0]] : last]
        inside = starts[batch] - starts[batch[0]]
        values = np.vstack([chunk for _, chunk in X.rows(mine).chunks()]).astype(np.float64)
        n = np.diff(inside, append=len(mine))
        mean = np.add.reduceat(values, inside) / n[:, None]
        values -= np.repeat(mean, n, axis=0)
        pooled[batch] = np.stack(
            [mean, np.sqrt(np.add.reduceat(values**2, inside) / n[:, None])], axis=1
        )
    core = pooled[:, :, : X.n_core]
    beside = pooled[:, :, X.n_core :]
    return Features(
        core.reshape(len(starts), -1),
        beside=beside.reshape(len(starts), -1) if beside.size else None,
    )


def _means(Y: Floats, row: Ints) -> Floats:
    """Mean label of each row, over the tiles that have one."""
    known = ~np.isnan(Y)
    if not Y.shape[1]:
        return np.zeros((int(row.max()) + 1, 0))
    n = np.column_stack([np.bincount(row, weights=k) for k in known.T])
    total = np.column_stack([np.bincount(row, weights=y) for y in np.where(known, Y, 0.0).T])
    return np.divide(total, n, out=np.full(n.shape, np.nan), where=n > 0)


def _any(near: NDArray[np.bool_], row: Ints) -> NDArray[np.bool_]:
    """True where one tile of a row is."""
    n_rows = int(row.max()) + 1
    return (
        np.column_stack(
            [np.bincount(row, weights=column, minlength=n_rows) > 0 for column in near.T]
        )
        if near.shape[1]
        else np.zeros((n_rows, 0), dtype=np.bool_)
    )
