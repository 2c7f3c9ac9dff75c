"""Lay tiles on a lattice fixed by the coordinates: a survey that grows keeps its tiles and ids."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from extract.config.arrays import Floats, Ints

_BLOCK_CELLS = 2048  # side of what is read at once, in cells, where tiles are not larger
_TOUCH_M = 1e-6
_MOST_TILES = 1e8


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
        steps = self.steps[rows].astype(np.float64)
        return steps * self.stride_m

    def ids(self, rows: Ints | slice = slice(None)) -> list[str]:
        """Name tiles by their south-west corners, as `e530000n180800`."""
        pattern = "e{:.10g}n{:.10g}"
        return [pattern.format(*corner) for corner in self.corners(rows)]

    def blocks(self, rows: Ints, *, cell_m: float) -> list[Ints]:
        """Group some tiles into squares that are read at once; return the rows of each."""
        side = int(_BLOCK_CELLS * cell_m / self.stride_m)
        blocks = self.steps[rows] // max(1, side)
        east, north = blocks.T
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
    low, high = np.hsplit(bounds, 2)
    sides = (high - low + size_m) / stride_m
    n_tiles = sides.prod(axis=1).sum()
    if n_tiles > _MOST_TILES:
        raise ValueError(
            f"the rasters' bounds hold about {n_tiles:.3g} tiles, more than {_MOST_TILES:.0e}. "
            "Is a header wrong? Else raise --stride-m, or make them in parts."
        )
    before = low + _TOUCH_M - size_m
    last = high - _TOUCH_M
    first = np.floor(before / stride_m) + 1
    end = np.ceil(last / stride_m)
    limits = np.hstack([first, end]).astype(np.int64)
    found = []
    for west, south, east, north in limits:
        squares = np.mgrid[west:east, south:north]
        found.append(squares.reshape(2, -1))
    steps = np.unique(np.hstack(found), axis=1)
    return Lattice(size_m=size_m, stride_m=stride_m, steps=steps.T)
