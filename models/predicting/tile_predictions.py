"""What is told of a tile: its prediction with intervals, or its class with sets and probabilities, and how far away it lies."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from extract.tables.tile_table import Tiles
from models.data.arrays import Floats
from models.predicting.place import Place
from models.store.kept_models import KeptModel
from models.uncertainty.conformal import NOMINAL


def tell_tiles(part: pd.DataFrame, tiles: Tiles, place: Place, kept: KeptModel) -> pd.DataFrame:
    """Return the table of a part's tiles.

    Parameters
    ----------
    part : row, prediction (or `p_<class>`, its probability), distance, is_known. tiles : the same rows of the place's table.
    """
    classes = kept.facts["classes"]
    columns: dict[str, Any] = {"id": tiles.id.to_numpy()}
    if place.settings is not None:
        columns["area"] = tiles.area.to_numpy()
    if tiles.xy is not None:
        columns |= {"x": tiles.xy[:, 0], "y": tiles.xy[:, 1]}
    level = (
        "area" if kept.cell.spec.area else "tile"
    )  # an @area model tells of areas, and every tile of one the same
    widths = kept.facts["intervals"].get(level, {})
    columns |= (
        _class_columns(part, classes, widths)
        if classes
        else bounds(part["prediction"].to_numpy(), widths)
    )
    distance = part["distance"].to_numpy()
    is_outside = (distance > 1) | ~part["is_known"].to_numpy()
    return pd.DataFrame(
        {
            **columns,
            "distance": distance,
            "is_outside": is_outside,
            "in_training": place.is_training,
        }
    )


def bounds(predicted: Floats, widths: dict[str, Any]) -> dict[str, Floats]:
    """Return predictions, (n,), and the bounds of each interval; NaN where there were too few areas for one."""
    found = {"prediction": predicted}
    for nominal in NOMINAL:
        width = widths.get(str(nominal))
        half = np.nan if width is None else float(width)
        found |= {
            f"low{nominal:.0%}"[:-1]: predicted - half,
            f"high{nominal:.0%}"[:-1]: predicted + half,
        }
    return found


def _class_columns(
    part: pd.DataFrame, classes: list[str], widths: dict[str, Any]
) -> dict[str, Any]:
    """The likeliest class, the sets that hold the true one as often as they say, and the probabilities."""
    shares = part[[f"p_{name}" for name in classes]].to_numpy(np.float64)
    is_known = np.isfinite(shares[:, 0])
    names = np.array(classes, dtype=object)
    best = names[np.where(is_known[:, None], shares, 0).argmax(axis=1)]
    found: dict[str, Any] = {"prediction": pd.Series(best).where(is_known, None).to_numpy()}
    for nominal in NOMINAL:
        width = widths.get(str(nominal))
        least = 0.0 if width is None else 1 - float(width)
        inside = shares >= least - 1e-12
        found[f"set{nominal:.0%}"[:-1]] = [
            "|".join(names[row]) if known else None
            for row, known in zip(inside, is_known, strict=True)
        ]
    return found | {f"p_{name}": shares[:, i] for i, name in enumerate(classes)}
