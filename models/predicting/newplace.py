"""The tiles of a place that a kept model is asked about: checked against what it was fitted on, and fed as it was."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from extract.embeddings import Embeddings, read_attributes
from extract.settings import Settings, parse_cut
from extract.tiles import Tiles, read_tiles
from models.arrays import Ints
from models.cells import Cell
from models.design import CutData, feed_rows, pool_rows, read_cut
from models.families.features import Features, open_features
from models.kept import KeptModel
from models.licences import read_look

_PART_BYTES, _PART_TILES = 128 << 20, 65_536  # of the features in float32, and tiles, of one part


class PlaceError(ValueError):
    """The place cannot be predicted by this model; the text says why, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The tiles of a place, and their features on disk.

    Attributes
    ----------
    settings : of the place; None where there are features alone. tiles : its table; without areas where there are features alone.
    data : the usable tiles of the model's cut, none of which is in memory.
    is_training : the tiles are those that the model was fitted on.
    """

    settings: Settings | None
    tiles: Tiles
    data: CutData
    is_training: bool

    def parts(self, cell: Cell) -> list[Ints]:
        """Give the rows of the table part by part: in the order of the table, or for `@area` models whole areas."""
        n = max(256, min(_PART_TILES, _PART_BYTES // (4 * max(1, self.data.embedding.shape[1]))))
        if not cell.spec.area:
            return [np.arange(start, min(start + n, len(self.tiles))) for start in range(0, len(self.tiles), n)]
        area = pd.factorize(self.tiles.area)[0]
        order = np.argsort(area, kind="stable")
        ends = np.append(np.flatnonzero(np.diff(area[order])) + 1, len(order))
        cuts = [0]
        for before, end in pairwise(ends):
            if end - cuts[-1] > n and before > cuts[-1]:
                cuts.append(int(before))
        return [np.sort(order[start:stop]) for start, stop in zip(cuts, [*cuts[1:], len(order)], strict=True)]


def open_place(source: Settings | Path, kept: KeptModel) -> Place:
    """Read a place's table, and check that its features are such as the model was fitted on.

    Parameters
    ----------
    source : settings of the place; or features alone, the file of the backbone or its folder.

    Raises
    ------
    PlaceError : other weights or pictures made otherwise, a missing group column, another CRS; more is needed than features.
    ValueError : a table or features that cannot be used.
    """
    return _open_features(source, kept) if isinstance(source, Path) else _open_table(source, kept)


def _open_features(path: Path, kept: KeptModel) -> Place:
    spec, cut = kept.cell.spec, kept.cell.cut
    if "/" not in cut or spec.groups or spec.area:
        raise PlaceError(f"model {str(spec)!r} is fed more than the embedding of a tile, and features alone have no areas, "
                         "coordinates or descriptors. Name the settings of the place with --tiles.")
    path = path / f"{parse_cut(cut).backbone}.h5" if path.is_dir() else path
    with Embeddings(path) as embeddings:
        _check_features(path, kept)
        ids, usable, dataset = pd.Series(embeddings.ids), np.flatnonzero(embeddings.is_ok), parse_cut(cut).dataset
        if dataset not in embeddings.cuts:
            raise PlaceError(f"{path}: no cut {dataset!r}; it has {', '.join(embeddings.cuts)}. Add {cut!r} to [extract] cuts.")
        source = {"features_sha256": embeddings.checksum(dataset)}
    empty, none = pd.Series("", index=ids.index), pd.DataFrame(index=ids.index)
    tiles = Tiles(id=ids, path=empty, area=empty, xy=None, target_names=[], targets=none, classes=none, groups=none)
    data = CutData(cut=cut, tiles=usable, embedding=open_features(path, dataset, usable, memory=0), pictures=None, source=source)
    return Place(settings=None, tiles=tiles, data=data, is_training=False)


def _open_table(settings: Settings, kept: KeptModel) -> Place:
    facts, cell = kept.facts, kept.cell
    needed = facts["feed"].get("group_columns", [])
    lost = [name for name in needed if name not in settings.tiles.groups]
    if lost:
        raise PlaceError(f"model {cell.model!r} is fed the columns {', '.join(needed)}, and the place has no {', '.join(lost)}: "
                         "name them in its [tiles] groups, or ask for another --model.")
    settings = settings.model_copy(update={"tiles": settings.tiles.model_copy(update={"groups": needed})})
    if "/" in cell.cut:
        path = settings.folder / "features" / f"{parse_cut(cell.cut).backbone}.h5"
        if not path.is_file():
            raise PlaceError(f"{path}: no embeddings of {parse_cut(cell.cut).backbone!r} of this place. Give its settings the "
                             f"[extract] of the experiment, with the cut {cell.cut!r}, and run `make features` with them first.")
        _check_features(path, kept)
    theirs, ours = facts["settings"]["tiles"].get("crs"), settings.tiles.crs
    if cell.spec.feed == "place" and theirs and ours and theirs != ours:
        raise PlaceError(f"model {cell.model!r} knows places in {theirs}, and those here are in {ours}. Bring the coordinates of "
                         "the table there first.")
    tiles = read_tiles(settings)
    data = read_cut(settings.folder, tiles, cell.cut, settings.extract.backbones, memory=0)
    stated = facts["training"]
    return Place(settings=settings, tiles=tiles, data=data,
                 is_training=all(stated.get(name) == value for name, value in data.source.items()))


def _check_features(path: Path, kept: KeptModel) -> None:
    remedy = "Make the features with the [extract] and [tiles] values of the experiment (`make features FRESH=1`)."
    found, stated = read_attributes(path, "weights_sha256").get("weights_sha256"), kept.facts["training"].get("weights_sha256")
    if found != stated:
        raise PlaceError(f"{path}: made by other weights than the model was fitted on (expected SHA-256 {stated}, got "
                         f"{found}; it counts all layers up to the cuts that are asked for). {remedy}")
    look = read_look(path)
    for name, value in kept.facts["look"].items():
        if look.get(name) != value:
            raise PlaceError(f"{path}: made with {name} = {look.get(name)!r}, and the model was fitted on {name} = {value!r}. "
                             f"{remedy}")


@dataclass(frozen=True, slots=True)
class Part:
    """Some tiles of a place as a model is fed them.

    Attributes
    ----------
    rows : (n,), usable rows of the table. X : (n_rows, n_features). row_of_tile : (n,).
    is_known : (n_rows,), false where a group column has a value that no training row had.
    """

    rows: Ints
    X: Features
    row_of_tile: Ints
    is_known: np.ndarray[Any, np.dtype[np.bool_]]


def read_part(place: Place, kept: KeptModel, rows: Ints) -> Part | None:
    """Read the features of some rows of the table into memory; None where every one was rejected."""
    spec, feed, data = kept.cell.spec, kept.facts["feed"], place.data
    position = np.searchsorted(data.tiles, rows)
    position = position[(position < len(data.tiles)) & (data.tiles[np.minimum(position, len(data.tiles) - 1)] == rows)]
    if not len(position):
        return None
    usable, view = data.tiles[position], data.embedding.rows(position)
    values = np.vstack([chunk for _, chunk in view.chunks()]) if view.shape[1] else np.zeros((len(usable), 0), np.float32)
    some = replace(data, tiles=np.arange(len(usable)), embedding=Features(values, grid=view.grid),
                   pictures=None if data.pictures is None else data.pictures[position])
    tiles = _take(place.tiles, usable)
    X, _ = feed_rows(some, tiles, spec, feed)
    is_known = _are_known(tiles, feed)
    if not spec.area:
        return Part(usable, X, np.arange(len(usable)), is_known)
    row = pd.factorize(tiles.area)[0].astype(np.int64)
    return Part(usable, pool_rows(X, row), row, np.bincount(row, weights=~is_known) == 0)


def _take(tiles: Tiles, rows: Ints) -> Tiles:
    frames = {name: getattr(tiles, name).iloc[rows].reset_index(drop=True)
              for name in ("id", "path", "area", "targets", "classes", "groups")}
    return replace(tiles, xy=None if tiles.xy is None else tiles.xy[rows], **frames)


def _are_known(tiles: Tiles, feed: dict[str, Any]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Tell whether every group of a tile has a value that was there in training."""
    is_known = np.ones(len(tiles), dtype=bool)
    for name in feed.get("group_columns", ()):
        values = tiles.groups[name].astype(str)
        if "columns" in feed:
            is_known &= (name + "=" + values).isin(feed["columns"]).to_numpy()
        elif "values" in feed:
            is_known &= values.isin([str(value) for value in feed["values"]]).to_numpy()
    return is_known
