"""Every place with its truth and out-of-fold predictions, for the map and the GeoPackage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from extract.config.arrays import Floats
from extract.tables.tile_table import Tiles
from models.store.kept_models import list_kept
from reports.data.boundaries import Boundaries
from reports.data.collect import Collected


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Areas where boundaries are named, else tiles.

    Attributes
    ----------
    kind : `area` or `tile`.
    names : (n,), codes of areas or ids of tiles.
    areas : (n,), the area of each tile; those of areas are themselves.
    xy : (n, 2), centres [m].
    side_m : side of a tile's square [m].
    polygons : a GeoSeries of the areas' shapes; None of tiles.
    crs : of the coordinates, as geopandas takes it; None where it is not known.
    truth, prediction : one row a place and one column a target; NaN where there is none.
    models : the model and cut of each target.
    half_widths : by target and nominal coverage, as `{"income": {"0.95": 4.2}}`; without those that
        are not known, as of a model that was not kept.
    """

    kind: str
    names: NDArray[Any]
    areas: NDArray[Any]
    xy: Floats
    side_m: float
    polygons: Any
    crs: Any
    truth: pd.DataFrame
    prediction: pd.DataFrame
    models: dict[str, tuple[str, str]]
    half_widths: dict[str, dict[str, float]]

    @property
    def targets(self) -> list[str]:
        """The targets that were predicted."""
        return list(self.models)


def build_places(collected: Collected) -> Places | None:
    """Return the places of the page's best models; None without coordinates or predictions."""
    tiles = collected.tiles
    predictions = collected.tile_predictions
    if tiles is None or predictions.empty:
        return None
    places: dict[str, Any]
    if collected.boundaries is not None:
        predictions = collected.predictions
        places = _place_areas(collected.boundaries)
    elif tiles.xy is not None and np.ptp(tiles.xy, axis=0).max() > 0:
        places = _place_tiles(tiles, tiles.xy, collected)
    else:
        return None
    found = {}
    for column in ("truth", "prediction"):
        wide = predictions.pivot(index="unit", columns="target", values=column)
        found[column] = wide.reindex(places["names"]).astype(float)
    is_predicted = found["prediction"].notna().any(axis=1).to_numpy()
    if not is_predicted.any():
        return None
    kept = {name: places[name][is_predicted] for name in ("names", "areas", "xy")}
    if places["polygons"] is not None:
        places["polygons"] = places["polygons"][is_predicted]
    keys = predictions.drop_duplicates("target").set_index("target")
    models = {
        target: (str(keys["model"][target]), str(keys["cut"][target]))
        for target in collected.targets
        if target in keys.index
    }
    return Places(
        **places | kept,
        truth=found["truth"][is_predicted],
        prediction=found["prediction"][is_predicted],
        models=models,
        half_widths={
            target: _read_half_widths(collected, target, places["kind"], *models[target])
            for target in models
        },
    )


def _place_areas(boundaries: Boundaries) -> dict[str, Any]:
    codes = np.array(boundaries.codes, dtype=object)
    return {
        "kind": "area",
        "names": codes,
        "areas": codes,
        "xy": boundaries.centre,
        "side_m": 0.0,
        "polygons": boundaries.polygons,
        "crs": boundaries.polygons.crs,
    }


def _place_tiles(tiles: Tiles, xy: Floats, collected: Collected) -> dict[str, Any]:
    stated = collected.settings.tiles
    side_m = (stated.grid or stated).size_m
    return {
        "kind": "tile",
        "names": tiles.id.astype(str).to_numpy(object),
        "areas": tiles.area.astype(str).to_numpy(object),
        "xy": xy,
        "side_m": float(side_m or measure_spacing(xy)),
        "polygons": None,
        "crs": stated.crs,
    }


def measure_spacing(xy: Floats) -> float:
    """Return the median distance from a place, (n, 2), to the next one [m]."""
    distinct = np.unique(xy, axis=0)
    distances, _ = cKDTree(distinct).query(distinct, k=2)
    return float(np.median(distances[:, 1]))


def _read_half_widths(
    collected: Collected, target: str, kind: str, model: str, cut: str
) -> dict[str, float]:
    """Return the half widths of a kept model's intervals; empty where it was not kept.

    A model of areas (`@area`) predicts areas, and every tile of one the same.
    """
    level = "area" if model.endswith("@area") else kind
    for kept in list_kept(collected.settings.folder, target):
        if (kept.facts.get("model"), kept.facts.get("cut")) == (model, cut):
            widths = kept.facts.get("intervals", {}).get(level, {})
            return {nominal: float(half) for nominal, half in widths.items() if half is not None}
    return {}
