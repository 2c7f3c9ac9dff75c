"""The out-of-fold predictions of every place as GeoPackage."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pandas as pd

from extract.files.atomic import publish
from extract.tiling.geo import read_crs
from models.predicting.geopackage import draw_squares, set_date, write_layer
from models.predicting.predictions_table import add_bounds
from reports.data.places import Places


def can_package(places: Places) -> bool:
    """Return whether a GeoPackage can be written: the CRS is known, the extra `geo` installed."""
    return places.crs is not None and importlib.util.find_spec("pyogrio") is not None


def write_package(places: Places, path: Path) -> None:
    """Write one layer, `areas` or `tiles`, a row a place: `tabulate_places` with its shapes.

    Raises
    ------
    ValueError : a CRS that does not exist.
    """
    shapes = places.polygons
    if shapes is None:
        shapes = draw_squares(places.xy, places.side_m)
    partial = path.with_name(f"partial-{path.name}")  # GDAL wants the suffix
    partial.unlink(missing_ok=True)
    crs = read_crs(places.crs, what="[tiles] crs")
    write_layer(partial, f"{places.kind}s", tabulate_places(places), shapes, crs)
    set_date(partial)
    publish(partial, path)


def tabulate_places(places: Places) -> pd.DataFrame:
    """Return a row a place: its name, and of each target truth, prediction, residual and intervals.

    The columns of a target begin with its name in plain letters, as `income_prediction`. Intervals
    that are not known are left out.
    """
    named = pd.DataFrame({"id": places.names, "area": places.areas})
    if places.kind == "area":
        named = named.drop(columns="id")
    stems = _name_stems(places.targets)
    tables = [
        _tabulate_target(places, target).add_prefix(f"{stem}_") for target, stem in stems.items()
    ]
    return pd.concat([named, *tables], axis=1)


def _tabulate_target(places: Places, target: str) -> pd.DataFrame:
    truth = places.truth[target].to_numpy()
    prediction = places.prediction[target].to_numpy()
    bounds = add_bounds(prediction, places.half_widths[target])
    known = pd.DataFrame(bounds).dropna(axis=1, how="all")
    known.insert(0, "truth", truth)
    known.insert(2, "residual", prediction - truth)
    return known


def _name_stems(targets: list[str]) -> dict[str, str]:
    """Return a plain name of each target, with its number in front where two would be alike."""
    slugs = []
    for target in targets:
        plain = re.sub(r"[^a-z0-9]+", "_", target.lower())
        slugs.append(plain.strip("_")[:40])
    if len(set(slugs)) < len(slugs) or "" in slugs:
        slugs = [f"{number:02d}_{slug}" for number, slug in enumerate(slugs, 1)]
    return dict(zip(targets, slugs, strict=True))
