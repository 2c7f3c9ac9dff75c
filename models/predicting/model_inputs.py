"""What a kept model is fed of some tiles of a place: rows made as those that it was fitted on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from extract.tables.tile_table import Tiles
from models.data.arrays import Ints
from models.data.design import CutData, feed_rows, pool_rows
from models.data.features import Features
from models.predicting.place import Place
from models.store.kept_models import KeptModel


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
    is_known: NDArray[np.bool_]


def read_part(place: Place, kept: KeptModel, rows: Ints) -> Part | None:
    """Read the features of some rows of the table into memory; None where every one was rejected."""
    spec = kept.cell.spec
    feed = kept.facts["feed"]
    usable = rows[place.is_ok[rows]]
    if not len(usable):
        return None
    view = place.embedding.rows(usable)
    values = (
        np.vstack([chunk for _, chunk in view.chunks()])
        if view.shape[1]
        else np.zeros((len(usable), 0), np.float32)
    )
    tiles = place.table.take(usable)
    data = CutData(
        cut=kept.cell.cut,
        tiles=np.arange(len(usable)),
        embedding=Features(values, grid=view.grid),
        pictures=place.read_pictures(usable) if spec.feed == "metadata" else None,
        source={},
    )
    X, _ = feed_rows(data, tiles, spec, feed)
    is_known = _are_known(tiles, feed)
    if not spec.area:
        return Part(usable, X, np.arange(len(usable)), is_known)
    row = pd.factorize(tiles.area)[0].astype(np.int64)
    return Part(usable, pool_rows(X, row), row, np.bincount(row, weights=~is_known) == 0)


def _are_known(tiles: Tiles, feed: dict[str, Any]) -> NDArray[np.bool_]:
    """Return whether every group of a tile has a value that was there in training."""
    is_known = np.ones(len(tiles), dtype=bool)
    for name in feed.get("group_columns", ()):
        values = tiles.groups[name].astype(str)
        if "columns" in feed:
            is_known &= (name + "=" + values).isin(feed["columns"]).to_numpy()
        elif "values" in feed:
            is_known &= values.isin([str(value) for value in feed["values"]]).to_numpy()
    return is_known
