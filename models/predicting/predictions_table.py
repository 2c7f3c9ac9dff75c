"""Tables of predicted tiles and areas: predictions with intervals, or classes with sets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from extract.config.arrays import Floats
from models.data.classes import choose_classes
from models.predicting.place import Place
from models.store.kept_models import KeptModel
from models.uncertainty.conformal import NOMINAL


def build_tile_table(piece: pd.DataFrame, place: Place, kept: KeptModel) -> pd.DataFrame:
    """Return the table of a piece's tiles, from what `models.predicting.predict` stored of it."""
    table = piece.filter(items=["id", "area", "x", "y"])
    if place.settings is None:
        table = table.drop(columns="area")
    # an @area model predicts areas, and every tile of one the same
    level = "area" if kept.cell.spec.area else "tile"
    widths = kept.facts["intervals"].get(level, {})
    for name, values in _predicted_columns(piece, kept.facts["classes"], widths).items():
        table[name] = values
    table["distance"] = piece["distance"]
    table["point_density"] = piece["density"]
    table["is_outside"] = (piece["distance"] > 1) | ~piece["is_known"]
    table["in_training"] = place.is_training
    return table


def _predicted_columns(
    piece: pd.DataFrame, classes: list[str], widths: dict[str, Any]
) -> dict[str, Any]:
    if not classes:
        return add_bounds(piece["prediction"].to_numpy(), widths)
    names = name_shares(classes)
    shares = piece[names].to_numpy(np.float64)
    return {
        "prediction": choose_classes(shares, classes),
        **_class_sets(shares, classes, widths),
        **dict(zip(names, shares.T, strict=True)),
    }


def name_shares(classes: list[str]) -> list[str]:
    """Return the columns of the classes' probabilities."""
    return [f"p_{name}" for name in classes]


def build_schema(table: pd.DataFrame, *, has_integer_ids: bool) -> pa.Schema:
    """Return the types of a table of tiles; they do not depend on which values are missing."""
    kinds = {"b": pa.bool_(), "f": pa.float64()}
    types = {name: kinds.get(column.dtype.kind, pa.string()) for name, column in table.items()}
    if has_integer_ids:
        types["id"] = pa.int64()
    return pa.schema(types)


def add_bounds(predicted: Floats, widths: dict[str, Any]) -> dict[str, Floats]:
    """Return predictions, (n,), with the bounds of each interval.

    Parameters
    ----------
    widths : nominal coverage → half width; None where there were too few areas, whose bounds are
        NaN.
    """
    columns = {"prediction": predicted}
    for nominal in NOMINAL:
        half = _width_of(nominal, widths, unknown=np.nan)
        percent = round(100 * nominal)
        columns[f"low{percent}"] = predicted - half
        columns[f"high{percent}"] = predicted + half
    return columns


def _width_of(nominal: float, widths: dict[str, Any], *, unknown: float) -> float:
    width = widths.get(str(nominal))
    return unknown if width is None else float(width)


def _class_sets(
    shares: Floats, classes: list[str], widths: dict[str, Any]
) -> dict[str, NDArray[np.object_]]:
    """Return sets of classes that hold the true one as often as they state, joined by `|`."""
    names = np.array(classes, dtype=object)
    is_unknown = np.isnan(shares[:, 0])
    columns = {}
    for nominal in NOMINAL:
        least = 1 - _width_of(nominal, widths, unknown=1.0)
        is_in = shares >= least - 1e-12
        sets = np.array(["|".join(names[row]) for row in is_in], dtype=object)
        sets[is_unknown] = None
        columns[f"set{round(100 * nominal)}"] = sets
    return columns


class AreaTable:
    """Sums over the tiles of each area, collected piece by piece; rejected tiles do not count."""

    def __init__(self, kept: KeptModel) -> None:
        self._classes = kept.facts["classes"]
        self._widths = kept.facts["intervals"].get("area", {})
        self._columns = name_shares(self._classes) or ["prediction"]
        self._sums: list[pd.DataFrame] = []

    def add(self, tiles: pd.DataFrame) -> None:
        """Add the tiles of a piece."""
        values = tiles[self._columns]
        is_known = values.notna().all(axis=1)
        counted = values.assign(n_tiles=is_known.astype(np.int64))
        by_area = counted.groupby(tiles["area"], sort=False)
        self._sums.append(by_area.sum())

    def build(self) -> pd.DataFrame:
        """Return a row an area, in the order of the table; NaN where every tile was rejected."""
        pieces = pd.concat(self._sums)
        sums = pieces.groupby(level=0, sort=False).sum()
        n_tiles = sums["n_tiles"]
        means = sums[self._columns].div(n_tiles.where(n_tiles > 0), axis=0)
        columns: dict[str, Any] = {"area": sums.index, "n_tiles": n_tiles.to_numpy()}
        if self._classes:
            shares = means.to_numpy(np.float64)
            columns["prediction"] = choose_classes(shares, self._classes)
            columns |= dict(zip(self._columns, shares.T, strict=True))
        else:
            predicted = means["prediction"].to_numpy(np.float64)
            columns |= add_bounds(predicted, self._widths)
        return pd.DataFrame(columns)
