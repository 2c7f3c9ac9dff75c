"""Zones that rasters are pooled over: squares of tiles, parts of them, or polygons of areas."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from extract.config.arrays import Array, Floats
from extract.tiling.geo import is_same_crs, load_geo

_PARTS = 8  # pieces of a side, each of which is straight in any CRS
_SHORTEST = 1e-9  # piece of a zone without area


class Zones(NamedTuple):
    """Polygons in one CRS.

    Attributes
    ----------
    shapes : (n,) shapely polygons; empty ones cover nothing.
    crs : `pyproj.CRS`.
    """

    shapes: Array
    crs: Any

    def bring_into(self, crs: Any) -> Array:
        """Return the shapes in another CRS; x is always the first axis."""
        if is_same_crs(self.crs, crs):
            return self.shapes
        shapely = load_geo("shapely")
        transformer = load_geo("pyproj").Transformer.from_crs(self.crs, crs, always_xy=True)
        side = np.sqrt(shapely.area(self.shapes))
        longest = np.maximum(side / _PARTS, _SHORTEST)
        pieces = shapely.segmentize(self.shapes, longest)
        shapes: Array = shapely.transform(pieces, transformer.transform, interleaved=False)
        return shapes


def make_squares(xy: Floats, size_m: float, crs: Any, *, n_parts: int = 1) -> Zones:
    """Return the square of each tile, or its parts row by row from the north-west.

    Parameters
    ----------
    xy : (n_tiles, 2), centres [m].
    size_m : side of the tiles [m].
    n_parts : a square has n_parts × n_parts parts.
    """
    shapely = load_geo("shapely")
    side = size_m / n_parts
    half = size_m / 2
    steps = side * np.arange(n_parts)
    x = xy[:, 0, np.newaxis, np.newaxis]
    y = xy[:, 1, np.newaxis, np.newaxis]
    shape = (len(xy), n_parts, n_parts)
    wests = np.broadcast_to(x - half + steps, shape).ravel()
    norths = np.broadcast_to(y + half - steps[:, np.newaxis], shape).ravel()
    souths = norths - side
    easts = wests + side
    squares: Array = shapely.box(wests, souths, easts, norths)
    return Zones(squares, crs)
