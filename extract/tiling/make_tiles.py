"""Make tiles from elevation rasters: read with a margin, turn into channels, write as pictures."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pandas as pd
from joblib import Parallel, cpu_count, delayed

from extract.config.arrays import Array, Bools, Float32s, Floats, Ints
from extract.errors import OptionError, TableError
from extract.files.atomic import name_place, publish_all
from extract.files.locks import locked
from extract.tables.area_codes import describe_match
from extract.tiling.boundaries import read_areas
from extract.tiling.labels import read_labels
from extract.tiling.lattice import Lattice, build_lattice
from extract.tiling.mosaic import Mosaic, open_mosaic
from extract.tiling.options import Request
from extract.tiling.relief import build_channels, find_ground, margin_cells
from extract.tiling.resample import MARGIN, resample
from extract.tiling.tileset import Tileset

# Of all that OpenCV's PNG writer takes, the fastest on such tiles: half the time of its own choice,
# 5 % larger.
_PNG = [
    cv2.IMWRITE_PNG_COMPRESSION,
    1,
    cv2.IMWRITE_PNG_STRATEGY,
    cv2.IMWRITE_PNG_STRATEGY_RLE,
    cv2.IMWRITE_PNG_FILTER,
    cv2.IMWRITE_PNG_FILTER_UP,
]
OnTiles = Callable[[int, int, int], None]


class MadeTiles(NamedTuple):
    """The counts of a folder of tiles; `seconds` and `n_new` are of this call alone."""

    n_tiles: int
    n_nodata: int
    n_outside: int
    n_new: int
    seconds: float
    settings: Path
    notes: list[str]


def make_tiles(
    request: Request, *, fresh: bool = False, on_tiles: OnTiles | None = None
) -> MadeTiles:
    """Cut a survey into tiles: pictures, the list of what was left out, settings, and a table.

    A call that was killed goes on where it was. A folder made with other options or rasters is
    refused.

    Parameters
    ----------
    request : what to make of what, checked.
    fresh : throw away what other options made.
    on_tiles : called with the counts of tiles done, of all, and of those left out so far.

    Raises
    ------
    OptionError, RasterError, BoundaryError, TableError : an option or an input that cannot be
        used, or a folder that is not this request's.
    """
    open_rasters = partial(open_mosaic, crs=request.crs, nodata=request.nodata)
    surface = open_rasters(request.surface)
    terrain = None
    if request.terrain is not None:
        terrain = open_rasters(request.terrain, grid=surface)
    metres = min(request.size_m, request.stride_m)
    if metres < surface.cell_m:
        raise OptionError(
            "--size-m, --stride-m: expected at least a cell of the surface, "
            f"{surface.cell_m:g} m, got {metres:g}."
        )
    lattice = build_lattice(
        surface.bounds(),
        size_m=request.size_m,
        stride_m=request.stride_m,
    )
    area, notes = _find_areas(request, lattice, surface)
    labels = read_labels(request, area)
    if labels is not None:
        notes += _match_labels(request, area, labels)
    n_new = 0
    start = time.perf_counter()
    with locked(request.out) as note:
        if note:
            notes.append(note)
        tileset = Tileset(request, surface, terrain)
        tileset.claim(fresh=fresh)
        if tileset.is_done():
            notes.append("nothing to do: these tiles are made already")
        else:
            maker = _BlockMaker(request, surface, terrain, lattice)
            (rows,) = np.nonzero(area)  # '' is false
            shares, n_new = _make_blocks(maker, tileset, rows, on_tiles)
            tileset.finish(lattice, area, shares, labels)
        counts = tileset.counts()
    seconds = time.perf_counter() - start
    return MadeTiles(*counts, n_new, seconds, tileset.settings, notes)


def _find_areas(request: Request, lattice: Lattice, surface: Mosaic) -> tuple[Array, list[str]]:
    """Return the area of every tile, '' where it lies in none, and notes for the user.

    Without polygons every tile is an area of its own.
    """
    if request.areas is None:
        return np.array(lattice.ids(), object), []
    areas = read_areas(
        request.areas,
        str(request.area_code),
        crs=surface.crs,
        bounds=surface.bounds(),
        stated=request.areas_crs,
    )
    corners = lattice.corners()
    area = areas.find(corners, size_m=request.size_m, rule=request.rule)
    return area, areas.notes


def _make_blocks(
    maker: _BlockMaker, tileset: Tileset, rows: Ints, on_tiles: OnTiles | None
) -> tuple[Floats, int]:
    """Make every block that is not done, in threads.

    Returns
    -------
    Each tile's share without data, NaN where it was not asked for, and the count of tiles made now.
    """
    blocks = maker.lattice.blocks(rows, cell_m=maker.surface.cell_m)
    shares = np.full(len(maker.lattice), np.nan)
    done = tileset.read_journal()
    for number, found in done.items():
        shares[blocks[number]] = found
    n_before = np.isfinite(shares).sum()
    todo = [number for number in range(len(blocks)) if number not in done]
    workers = maker.request.workers or cpu_count()
    parallel = Parallel(workers, backend="threading", return_as="generator")
    make = delayed(maker.make)
    made = parallel(make(blocks[number]) for number in todo)
    with tileset.journal() as write:
        for number, found in zip(todo, made, strict=True):
            write(number, found)
            shares[blocks[number]] = found
            if on_tiles is not None:
                n_done = np.isfinite(shares).sum()
                n_left_out = np.sum(shares > maker.request.max_nodata)
                on_tiles(int(n_done), len(rows), int(n_left_out))
    n_new = len(rows) - int(n_before)
    return shares, n_new


@dataclass(frozen=True, slots=True)
class _BlockMaker:
    """Makes the pictures of one block at a time; used by several threads at once."""

    request: Request
    surface: Mosaic
    terrain: Mosaic | None
    lattice: Lattice

    def make(self, rows: Ints) -> list[float]:
        """Write the pictures of some neighbouring tiles; return their shares without data."""
        request = self.request
        begins, planes = self._read_channels(self.lattice.corners(rows))
        names = self.lattice.ids(rows)
        shares = []
        paths = []
        for name, begin in zip(names, begins, strict=True):
            tile = self._cut(planes, begin)
            lost = np.isnan(tile[0])
            share = float(lost.mean())
            shares.append(share)
            if share <= request.max_nodata:
                path = request.out / "images" / f"{name}.{request.format}"
                unfinished = path.with_name(f"{path.name}.partial")
                with name_place(unfinished):
                    unfinished.write_bytes(encode(tile, lost, request))
                paths.append(path)
        publish_all(paths)
        return shares

    def _read_channels(self, corners: Floats) -> tuple[Floats, Float32s]:
        """Read the ground under some tiles.

        Returns
        -------
        (n_tiles, 2), rows and columns where the tiles begin in it, and its channels.
        """
        cell_m = self.surface.cell_m
        size_m = self.request.size_m
        opening_m = None if self.terrain else self.request.opening_m
        margin = margin_cells(cell_m=cell_m, opening_m=opening_m) + MARGIN + 1
        west, north = self.surface.origin
        right_m = corners[:, 0] - west
        down_m = north - size_m - corners[:, 1]
        cells = np.column_stack([down_m, right_m]) / cell_m
        begins = cells.round(6)
        ends = begins + size_m / cell_m
        first = np.floor(begins.min(axis=0)).astype(int) - margin
        last = np.ceil(ends.max(axis=0)).astype(int) + margin
        n_rows, n_columns = last - first
        top, left = first
        window = (left, top, n_columns, n_rows)
        heights = self.surface.read(*window)
        if self.terrain is None:
            ground = find_ground(heights, cell_m=cell_m, opening_m=self.request.opening_m)
        else:
            ground = self.terrain.read(*window)
        planes = build_channels(heights, ground, self.request.channels, cell_m=cell_m)
        return begins - first, planes

    def _cut(self, planes: Float32s, begin: Floats) -> Float32s:
        cells = self.request.size_m / self.surface.cell_m
        corner = begin.astype(int) - MARGIN
        row, column = corner
        n_cells = math.ceil(cells) + 2 * MARGIN + 1
        down = slice(row, row + n_cells)
        across = slice(column, column + n_cells)
        return resample(
            planes[:, down, across],
            first=tuple(begin - corner),
            cells=cells,
            pixels=self.request.pixels,
        )


def encode(tile: Float32s, lost: Bools, request: Request) -> bytes:
    """Encode a tile with the stretch that all tiles share.

    Parameters
    ----------
    tile : (n_channels, pixels, pixels); the first channel becomes red, or grey where it is alone.
    lost : (pixels, pixels), true where there is no data: transparent in a PNG, NaN in a TIFF.
    """
    limits = np.array(request.limits, np.float32)
    low, high = limits.T[:, :, None, None]
    levels = (tile - low) / (high - low)
    if request.format == "tiff":
        return _write(".tiff", levels)
    levels[:, lost] = 0.0
    values = np.clip(levels * 255, 0, 255)
    pixels = np.rint(values).astype(np.uint8)
    if not lost.any():
        return _write(".png", pixels, _PNG)
    colours = np.broadcast_to(pixels, (3, *lost.shape))
    opaque = np.where(lost, 0, 255).astype(np.uint8)
    return _write(".png", colours, _PNG, alpha=[opaque])


def _write(
    kind: str, colours: Array, options: Sequence[int] = (), alpha: Sequence[Any] = ()
) -> bytes:
    backwards = colours[::-1]  # OpenCV takes blue, green, red
    image = cv2.merge([*backwards, *alpha])
    _, data = cv2.imencode(kind, image, options)
    return data.tobytes()


def _match_labels(request: Request, area: Array, labels: pd.DataFrame) -> list[str]:
    """Return a note where areas have no label, or refuse that where it was asked for."""
    said = describe_match(area[area != ""], labels.index)
    if said and request.strict:
        raise TableError(f"labels {request.labels}: {said}. Mend them, or leave out --strict.")
    return [f"labels {request.labels}: {said}."] if said else []
