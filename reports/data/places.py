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
from models.uncertainty.conformal import NOMINAL, Errors, find_half_width
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
    half_widths : by target and nominal coverage, as `{"income": {"0.95": 4.2}}`; without those for
        which there are too few areas.
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
    places = _locate(collected)
    if places is None:
        return None
    predictions = collected.tile_predictions
    if places["kind"] == "area":
        predictions = collected.predictions
    found = {}
    for column in ("truth", "prediction"):
        wide = predictions.pivot(index="unit", columns="target", values=column)
        found[column] = wide.reindex(places["names"]).astype(float)
    is_predicted = found["prediction"].notna().any(axis=1).to_numpy()
    if not is_predicted.any():
        return None
    for name in ("names", "areas", "xy", "polygons"):
        if places[name] is not None:
            places[name] = places[name][is_predicted]
    truth = found["truth"][is_predicted]
    prediction = found["prediction"][is_predicted]
    shown = predictions.drop_duplicates("target")[["target", "model", "cut"]].astype(str)
    models = {target: (model, cut) for target, model, cut in shown.to_numpy().tolist()}
    errors = (prediction - truth).abs()
    half_widths = {
        target: _find_half_widths(collected, target, models[target], errors[target], places)
        for target in models
    }
    return Places(
        **places,
        truth=truth,
        prediction=prediction,
        models={target: models[target] for target in collected.targets if target in models},
        half_widths=half_widths,
    )


def _locate(collected: Collected) -> dict[str, Any] | None:
    tiles = collected.tiles
    if tiles is None or collected.tile_predictions.empty:
        return None
    if collected.boundaries is not None:
        return _place_areas(collected.boundaries)
    if tiles.xy is not None and np.ptp(tiles.xy, axis=0).max() > 0:
        return _place_tiles(tiles, tiles.xy, collected)
    return None


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


def _find_half_widths(
    collected: Collected,
    target: str,
    model: tuple[str, str],
    errors: pd.Series[float],
    places: dict[str, Any],
) -> dict[str, float]:
    """Return the half widths of a kept model's intervals, or else those that its errors give.

    The errors of a model that was chosen by them are a little too small.
    """
    level = "area" if model[0].endswith("@area") else places["kind"]
    for kept in list_kept(collected.settings.folder, target):
        if (kept.facts.get("model"), kept.facts.get("cut")) == model:
            widths = kept.facts.get("intervals", {}).get(level, {})
            return {nominal: half for nominal, half in widths.items() if half is not None}
    is_known = errors.notna().to_numpy()
    area, _ = pd.factorize(places["areas"][is_known])
    size = np.asarray(errors, np.float64)[is_known]
    known = Errors(size, area, np.zeros_like(area))
    found = {str(nominal): find_half_width(known, nominal) for nominal in NOMINAL}
    return {nominal: half for nominal, half in found.items() if np.isfinite(half)}
