"""Tiles as GeoJSON: from the coordinates of a place to longitude and latitude (RFC 7946)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, NamedTuple, TextIO

import numpy as np
import pandas as pd

from extract.errors import PlaceError
from extract.tiling.geo import load_geo, read_crs
from models.data.place_settings import PlaceSettings
from models.predicting.place import Place

_MARGIN = 10.0  # degrees around the area of use of a CRS, within which coordinates are accepted
_CORNERS = ((-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1))


class Projection(NamedTuple):
    """From coordinates [m] to longitude and latitude.

    Attributes
    ----------
    transform : function from x and y to longitude and latitude.
    bounds : west, south, east and north of all places that can be.
    """

    transform: Any
    bounds: tuple[float, float, float, float]


def open_projection(settings: PlaceSettings) -> Projection | None:
    """Return the projection of a place; None where it has no coordinates, or no CRS of them.

    Raises
    ------
    PlaceError : a CRS whose coordinates are not metres.
    ValueError : no such CRS; the extra `geo` is not installed.
    """
    tiles = settings.tiles
    if tiles.crs is None or not _has_coordinates(settings):
        return None
    crs = read_crs(tiles.crs, what="[tiles] crs")
    if not crs.is_projected:
        raise PlaceError(
            f"[tiles] crs of {settings.name!r}: expected that of x and y in metres, as EPSG:27700, "
            f"got {tiles.crs!r}, which has degrees. Bring the coordinates of the table to metres."
        )
    bounds = (-180.0, -90.0, 180.0, 90.0)
    used = crs.area_of_use
    if used is not None and used.west < used.east:  # else it crosses the date line
        bounds = (
            used.west - _MARGIN,
            used.south - _MARGIN,
            used.east + _MARGIN,
            used.north + _MARGIN,
        )
    pyproj = load_geo("pyproj")
    transformer = pyproj.Transformer.from_crs(crs, 4326, always_xy=True)
    return Projection(transformer.transform, bounds)


def _has_coordinates(settings: PlaceSettings) -> bool:
    return settings.tiles.x is not None or settings.tiles.grid is not None


def open_geojson(place: Place, notes: list[str]) -> GeoJson | None:
    """Return the writer of a place's tiles; None, and mostly a note, where there can be no map."""
    settings = place.settings
    if settings is None or not _has_coordinates(settings):
        return None
    projection = open_projection(settings)
    if projection is None:
        notes.append(
            'no GeoJSON: set crs in the place\'s [tiles] (as "EPSG:27700"), the CRS of its x and y.'
        )
        return None
    stated = settings.tiles.grid or settings.tiles
    return GeoJson(projection, stated.size_m or 0.0)


@dataclass(slots=True)
class GeoJson:
    """Writes tiles as squares of `size_m` [m]; as points where it is 0."""

    projection: Projection
    size_m: float
    file: TextIO | None = None
    is_first: bool = True

    def begin(self, file: TextIO) -> None:
        """Write the head of the file."""
        self.file = file
        file.write('{"type": "FeatureCollection", "features": [\n')

    def write(self, table: pd.DataFrame) -> None:
        """Write the tiles of a piece.

        Raises
        ------
        PlaceError : coordinates far from where the CRS is used.
        """
        assert self.file is not None
        properties = table.drop(columns=["x", "y"])
        properties = properties.astype(object)
        properties = properties.where(properties.notna(), None)
        records = properties.to_dict("records")
        for ring, facts in zip(self._rings(table), records, strict=True):
            shape = {"type": "Point", "coordinates": ring[0]}
            if self.size_m:
                shape = {"type": "Polygon", "coordinates": [ring]}
            feature = {"type": "Feature", "geometry": shape, "properties": facts}
            text = json.dumps(feature, ensure_ascii=False, default=_as_plain)
            separator = "" if self.is_first else ",\n"
            self.file.write(separator + text)
            self.is_first = False

    def end(self) -> None:
        """Write the end of the file."""
        assert self.file is not None
        self.file.write("\n]}\n")

    def _rings(self, table: pd.DataFrame) -> Any:
        """List longitude and latitude of each tile's corners: (n_tiles, 5, 2), or (n_tiles, 1,
        2).
        """
        half = self.size_m / 2
        corners = _CORNERS if self.size_m else ((0, 0),)
        rings = np.empty((len(table), len(corners), 2))
        for corner, (i, j) in enumerate(corners):
            x = table["x"].to_numpy() + i * half
            y = table["y"].to_numpy() + j * half
            rings[:, corner] = np.transpose(self.projection.transform(x, y))
        west, south, east, north = self.projection.bounds
        is_far = (rings < [west, south]) | (rings > [east, north]) | np.isnan(rings)
        far = np.flatnonzero(is_far.any(axis=(1, 2)))
        if len(far):
            tile = table.iloc[far[0]]
            raise PlaceError(
                f"tile {tile['id']}: its place ({tile['x']:g}, {tile['y']:g}) is far from where "
                "[tiles] crs is used. Mend the coordinates (are x and y swapped?), or the crs."
            )
        return rings.round(7).tolist()


def _as_plain(value: Any) -> Any:
    return value.item()
