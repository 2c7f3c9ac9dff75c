"""Lay tiles on a lattice fixed by the coordinates: a survey that grows keeps its tiles and ids."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from extract.config.arrays import Floats

_BLOCK_CELLS = 2048  # side of what is read at once, in cells, where tiles are not larger
_TOUCH_M = 1e-6
_MOST_TILES = 1e8

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lattice:
    """Squares of `size_m`, whose south-west corners lie at multiples of `stride_m`.

    Attributes
    ----------
    steps : (n_tiles, 2) int64, multiples to the east and to the north; sorted, each once.
    """

    size_m: float
    stride_m: float
    steps: Ints

    def __len__(self) -> int:
        """Count the tiles."""
        return len(self.steps)

    def corners(self, rows: Ints | slice = slice(None)) -> Floats:
        """Return the south-west corners of tiles: (n_rows, 2), easting and northing [m]."""
        return (self.steps[rows] * self.stride_m).astype(np.float64)

    def ids(self, rows: Ints | slice = slice(None)) -> list[str]:
        """Name tiles by their south-west corners, as `e530000n180800`."""
        return [f"e{east:.10g}n{north:.10g}" for east, north in self.corners(rows)]

    def blocks(self, rows: Ints, *, cell_m: float) -> list[Ints]:
        """Group some tiles into squares that are read at once; return the rows of each."""
        side = max(1, int(_BLOCK_CELLS * cell_m // self.stride_m))
        east, north = (self.steps[rows] // side).T
        groups = pd.Series(rows).groupby([east, north])
        return [group.to_numpy() for _, group in groups]


def build_lattice(bounds: Floats, *, size_m: float, stride_m: float) -> Lattice:
    """Lay tiles over rectangles: every square of the lattice that shares ground with one.

    Parameters
    ----------
    bounds : (n, 4), west, south, east, north [m].

    Raises
    ------
    ValueError : more tiles than any survey has.
    """
    sides = (bounds[:, 2:] - bounds[:, :2] + size_m) / stride_m
    n_tiles = sides.prod(axis=1).sum()
    if n_tiles > _MOST_TILES:
        raise ValueError(
            f"the rasters' bounds hold about {n_tiles:.3g} tiles, more than {_MOST_TILES:.0e}. "
            "Is a header wrong? Else raise --stride-m, or make them in parts."
        )
    first = np.floor((bounds[:, :2] + _TOUCH_M - size_m) / stride_m).astype(np.int64) + 1
    end = np.ceil((bounds[:, 2:] - _TOUCH_M) / stride_m).astype(np.int64)
    found = []
    for (west, south), (east, north) in zip(first, end, strict=True):
        squares = np.mgrid[west:east, south:north]
        found.append(squares.reshape(2, -1).T)
    steps = np.unique(np.concatenate(found), axis=0)
    return Lattice(size_m=size_m, stride_m=stride_m, steps=steps)
