"""Where tiles lie: squares on a lattice that the coordinates fix, so that a survey that grows keeps its tiles and ids."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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

    def corners(self, rows: Ints | slice = slice(None)) -> NDArray[np.float64]:
        """(n_rows, 2), easting and northing of the south-west corners [m]."""
        return (self.steps[rows] * self.stride_m).astype(np.float64)

    def ids(self, rows: Ints | slice = slice(None)) -> list[str]:
        """Name tiles by their south-west corners, as `e530000n180800`."""
        return [f"e{east:.10g}n{north:.10g}" for east, north in self.corners(rows)]

    def blocks(self, rows: Ints, *, cell_m: float) -> list[Ints]:
        """Share some tiles among squares that are read at once: each block's rows, in order; every row once."""
        side = max(1, int(_BLOCK_CELLS * cell_m // self.stride_m))
        blocks = self.steps[rows] // side
        _, block = np.unique(blocks, axis=0, return_inverse=True)
        order = np.argsort(block.ravel(), kind="stable")
        return (
            np.split(rows[order], np.flatnonzero(np.diff(block.ravel()[order])) + 1)
            if len(rows)
            else []
        )


def build_lattice(bounds: NDArray[np.float64], *, size_m: float, stride_m: float) -> Lattice:
    """Lay tiles over rectangles: every square of the lattice that shares ground with one.

    Parameters
    ----------
    bounds : (n, 4), west, south, east, north [m].

    Raises
    ------
    ValueError : more tiles than any survey has.
    """
    sides = (bounds[:, 2:] - bounds[:, :2] + size_m) / stride_m
    if sides.prod(axis=1).sum() > _MOST_TILES:
        raise ValueError(
            f"the rasters' bounds hold about {sides.prod(axis=1).sum():.3g} tiles, more than {_MOST_TILES:.0e}. Is "
            "a header wrong? Else raise --stride-m, or make them in parts."
        )
    found = []
    for west, south, east, north in bounds:
        across, up = (
            np.arange(
                np.floor((low + _TOUCH_M - size_m) / stride_m) + 1,
                np.ceil((high - _TOUCH_M) / stride_m),
            )
            for low, high in ((west, east), (south, north))
        )
        found.append(np.stack(np.meshgrid(across, up, indexing="ij"), axis=-1).reshape(-1, 2))
    steps = np.unique(np.concatenate(found).astype(np.int64), axis=0)
    return Lattice(size_m=size_m, stride_m=stride_m, steps=steps)
