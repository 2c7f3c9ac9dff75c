"""Tables of predicted tiles and areas: predictions with intervals, or classes with sets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from extract.config.arrays import Floats
from models.predicting.place import Place
from models.store.kept_models import KeptModel
from models.uncertainty.conformal import NOMINAL


def build_tile_table(piece: pd.DataFrame, place: Place, kept: KeptModel) -> pd.DataFrame:
    """Return the table of a piece's tiles, from what `models.predicting.predict` stored of it."""
    columns: dict[str, Any] = {"id": piece["id"]}
    if place.settings is not None:
        columns["area"] = piece["area"]
    if "x" in piece:
        columns |= {"x": piece["x"], "y": piece["y"]}
    # an @area model predicts areas, and every tile of one the same
    level = "area" if kept.cell.spec.area else "tile"
    widths = kept.facts["intervals"].get(level, {})
    classes = kept.facts["classes"]
    if classes:
        shares = piece[[f"p_{name}" for name in classes]].to_numpy(np.float64)
        columns["prediction"] = choose_classes(shares, classes)
        columns |= _class_sets(shares, classes, widths)
        columns |= {f"p_{name}": share for name, share in zip(classes, shares.T, strict=True)}
    else:
        columns |= add_bounds(piece["prediction"].to_numpy(), widths)
    distance = piece["distance"].to_numpy()
    columns["distance"] = distance
    columns["is_outside"] = (distance > 1) | ~piece["is_known"].to_numpy()
    columns["in_training"] = place.is_training
    return pd.DataFrame(columns)


def build_schema(table: pd.DataFrame, *, has_integer_ids: bool) -> pa.Schema:
    """Return the types of a table of tiles; they do not depend on which values are missing."""
    kinds = {"b": pa.bool_(), "f": pa.float64()}
    types = {name: kinds.get(column.dtype.kind, pa.string()) for name, column in table.items()}
    types["id"] = pa.int64() if has_integer_ids else pa.string()
    return pa.schema(list(types.items()))


def add_bounds(predicted: Floats, widths: dict[str, Any]) -> dict[str, Floats]:
    """Return predictions, (n,), with the bounds of each interval.

    Parameters
    ----------
    widths : nominal coverage → half width; None where there were too few areas, whose bounds are
        NaN.
    """
    columns = {"prediction": predicted}
    for nominal in NOMINAL:
        width = widths.get(str(nominal))
        half = np.nan if width is None else float(width)
        columns[f"low{round(100 * nominal)}"] = predicted - half
        columns[f"high{round(100 * nominal)}"] = predicted + half
    return columns


def choose_classes(shares: Floats, classes: list[str]) -> NDArray[np.object_]:
    """Return the likeliest class of each row, (n,); None where the row has no probabilities."""
    is_known = np.isfinite(shares[:, 0])
    names = np.array(classes, dtype=object)
    chosen = names[np.where(is_known[:, None], shares, 0).argmax(axis=1)]
    chosen[~is_known] = None
    return chosen


def _class_sets(
    shares: Floats, classes: list[str], widths: dict[str, Any]
) -> dict[str, NDArray[np.object_]]:
    """Return sets of classes that hold the true one as often as they state, joined by `|`."""
    names = np.array(classes, dtype=object)
    is_known = np.isfinite(shares[:, 0])
    columns = {}
    for nominal in NOMINAL:
        width = widths.get(str(nominal))
        least = 0.0 if width is None else 1 - float(width)
        sets = np.array(["|".join(names[row >= least - 1e-12]) for row in shares], dtype=object)
        sets[~is_known] = None
        columns[f"set{round(100 * nominal)}"] = sets
    return columns


class AreaTable:
    """Sums over the tiles of each area, collected piece by piece; rejected tiles do not count."""

    def __init__(self, kept: KeptModel) -> None:
        classes = kept.facts["classes"]
        self._classes = classes
        self._widths = kept.facts["intervals"].get("area", {})
        self._columns = [f"p_{name}" for name in classes] if classes else ["prediction"]
        self._sums: list[pd.DataFrame] = []

    def add(self, tiles: pd.DataFrame) -> None:
        """Add the tiles of a piece."""
        sums = tiles[["area", *self._columns]].groupby("area", sort=False).sum()
        is_known = tiles[self._columns[0]].notna()
        sums["n_tiles"] = is_known.groupby(tiles["area"], sort=False).sum()
        self._sums.append(sums)

    def build(self) -> pd.DataFrame:
        """Return a row an area, in the order of the table; NaN where every tile was rejected."""
        sums = pd.concat(self._sums).groupby(level=0, sort=False).sum()
        n_tiles = sums["n_tiles"].astype(np.int64)
        means = sums[self._columns].div(n_tiles.where(n_tiles > 0), axis=0)
        columns: dict[str, Any] = {"area": sums.index, "n_tiles": n_tiles.to_numpy()}
        if self._classes:
            shares = means.to_numpy(np.float64)
            columns["prediction"] = choose_classes(shares, self._classes)
            columns |= {name: means[name].to_numpy() for name in self._columns}
        else:
            columns |= add_bounds(means["prediction"].to_numpy(np.float64), self._widths)
        return pd.DataFrame(columns)
