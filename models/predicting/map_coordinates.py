"""Where tiles lie on the Earth: the way from a place's coordinates to the longitude and latitude of GeoJSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from extract.errors import PlaceError
from extract.tiling.geo import load_geo, read_crs
from models.predicting.place import Place
from models.predicting.place_settings import PlaceSettings

_FAR = 10.0  # degrees beyond where a CRS is used: its coordinates are still taken at their word


@dataclass(frozen=True, slots=True)
class Squares:
    """From tile centres to what GeoJSON wants: `half` is 0 for points [m]."""

    map: Map
    half: float

    def features(self, frame: pd.DataFrame) -> Iterator[str]:
        """Return a feature a tile."""
        x = frame["x"].to_numpy()
        y = frame["y"].to_numpy()
        corners = [(-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1)] if self.half else [(0, 0)]
        turned = [
            np.stack(self.map.turn(x + i * self.half, y + j * self.half), axis=-1)
            for i, j in corners
        ]
        around = np.stack(turned, axis=1).round(7)
        west, south, east, north = self.map.bounds
        is_there = ((around >= [west, south]) & (around <= [east, north])).all(axis=(1, 2))
        if not is_there.all():
            lost = np.flatnonzero(~is_there)[0]
            raise PlaceError(
                f"tile {frame['id'].iloc[lost]}: its place ({x[lost]:g}, {y[lost]:g}) is far from where [tiles] crs "
                "is used. Mend the coordinates (are x and y swapped?), or the crs."
            )
        facts = (
            frame.drop(columns=["x", "y"])
            .astype(object)
            .where(frame.drop(columns=["x", "y"]).notna(), None)
        )
        for ring, properties in zip(around.tolist(), facts.to_dict("records"), strict=True):
            shape = (
                {"type": "Polygon", "coordinates": [ring]}
                if self.half
                else {"type": "Point", "coordinates": ring[0]}
            )
            yield json.dumps(
                {"type": "Feature", "geometry": shape, "properties": properties},
                ensure_ascii=False,
                default=_plain,
            )


def _plain(value: Any) -> Any:
    return value.item()


class Map(NamedTuple):
    """Where coordinates lie: `turn` gives longitude and latitude; `bounds`, west, south, east and north of all that can be."""

    turn: Any
    bounds: tuple[float, float, float, float]


def check_map(settings: PlaceSettings) -> Map | None:
    """Return the way from a place's coordinates to longitude and latitude; None where there are no coordinates, or no CRS of them.

    Raises
    ------
    PlaceError : a CRS whose coordinates are no metres. ValueError : no such CRS; the extra `geo` is not installed.
    """
    tiles = settings.tiles
    if tiles.crs is None or (tiles.x is None and tiles.grid is None):
        return None
    crs = read_crs(tiles.crs, what="[tiles] crs")
    if not crs.is_projected:
        raise PlaceError(
            f"[tiles] crs of {settings.name!r}: expected that of x and y in metres, as EPSG:27700, got "
            f"{tiles.crs!r}, which has degrees. Bring the coordinates of the table to metres."
        )
    area = crs.area_of_use
    bounds = (-180.0, -90.0, 180.0, 90.0)
    if area is not None and area.west < area.east:  # else it lies on both sides of the date line
        bounds = (area.west - _FAR, area.south - _FAR, area.east + _FAR, area.north + _FAR)
    return Map(load_geo("pyproj").Transformer.from_crs(crs, 4326, always_xy=True).transform, bounds)


def open_squares(place: Place, notes: list[str]) -> Squares | None:
    """Return the way to GeoJSON, which has longitude and latitude alone (RFC 7946); a note where it cannot be gone."""
    if place.settings is None or (
        place.settings.tiles.x is None and place.settings.tiles.grid is None
    ):
        return None
    found = check_map(place.settings)
    tiles = place.settings.tiles
    if found is None:
        notes.append(
            'no GeoJSON: set crs in the place\'s [tiles] (as "EPSG:27700"), which says what its x and y mean.'
        )
        return None
    size = tiles.grid.size_m if tiles.grid is not None else tiles.size_m
    return Squares(found, (size or 0) / 2)
