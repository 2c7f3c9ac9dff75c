"""Pool the cells of rasters inside zones, each block of a file read about once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from extract.config.arrays import Array, Bools, Floats, Ints
from extract.errors import RasterError
from extract.tiling.geo import load_geo, name_crs
from extract.tiling.sheets import open_raster
from extract.zonal.coverage import Coverage, measure_coverage
from extract.zonal.pooling import pool_cells
from extract.zonal.rasters import BandReader, Code, Raster, Window, decode
from extract.zonal.zones import Zones

_MOST_NUMBERS = 1 << 25  # values of cells that are held at once
_MOST_WASTE = 3  # cells that are read for one that lies in a zone


class Reading(NamedTuple):
    """How the cells of a raster are read.

    Attributes
    ----------
    pools : names of the statistics.
    code : what its numbers stand for.
    nodata : value that means no data, beside what the files say themselves.
    """

    pools: tuple[str, ...]
    code: Code = "stored"
    nodata: float | None = None


class Pooled(NamedTuple):
    """Statistics of zones.

    Attributes
    ----------
    values : (n_zones, n_pools, n_bands) float64, NaN where no cell has a value.
    share : (n_zones,), part of each zone where all bands have values.
    """

    values: Floats
    share: Floats


_Covered = dict[int, Coverage]  # by the number of the zone


def pool_rasters(
    rasters: list[Raster],
    zones: Zones,
    reading: Reading,
    *,
    on_zones: Callable[[int, int], None] | None = None,
) -> Pooled:
    """Compute statistics of every band inside every zone, weighted by the ground in each cell.

    The rasters are read side by side: a zone may lie in several. Memory is bounded: zones are read
    in pieces, and where one zone is very large, a few bands at a time.

    Parameters
    ----------
    on_zones : called with the number of zones that are done, and to do in all.

    Raises
    ------
    RasterError : no zone lies in a raster (with both extents, in the CRS of the zones), or a file
        cannot be read.
    """
    n_bands = len(rasters[0].bands)
    plan = _plan(rasters, zones)
    if len(plan.order) == 0:
        raise RasterError(_describe_elsewhere(rasters, zones))
    values = np.full((len(zones.shapes), len(reading.pools), n_bands), np.nan)
    share = np.zeros(len(zones.shapes))
    n_done = 0
    for piece in _cut_pieces(plan, n_bands):
        covered = _measure(rasters, plan, piece)
        share[piece] = 1.0
        for bands in _group_bands(n_bands, plan.n_cells[piece].max()):
            cells = _read(rasters, covered, piece, bands, reading)
            for zone, (band_values, weight) in cells.items():
                pooled = pool_cells(band_values, weight, reading.pools)
                values[zone, :, bands.start : bands.stop] = pooled
                has_value = ~np.isnan(band_values)
                filled = has_value @ weight
                share[zone] = min(share[zone], filled.min())
        n_done += len(piece)
        if on_zones:
            on_zones(n_done, len(plan.order))
    return Pooled(values, share)


class _Plan(NamedTuple):
    """Which zones lie in which rasters.

    Attributes
    ----------
    order : zones that lie in any, in the order of the files and their blocks.
    shapes : of each raster, all zones in its CRS.
    is_in : (n_rasters, n_zones).
    n_cells : (n_zones,), about how many cells each zone has.
    """

    order: Ints
    shapes: list[Array]
    is_in: Bools
    n_cells: Floats


def _plan(rasters: list[Raster], zones: Zones) -> _Plan:
    n_zones = len(zones.shapes)
    nowhere = len(rasters)
    first = np.full(n_zones, nowhere)
    row = np.zeros(n_zones)
    column = np.zeros(n_zones)
    n_cells = np.zeros(n_zones)
    is_in = np.zeros((len(rasters), n_zones), bool)
    brought: dict[str, Array] = {}
    shapes = []
    for i, raster in enumerate(rasters):
        key = name_crs(raster.crs)
        if key not in brought:
            brought[key] = zones.bring_into(raster.crs)
        shapes.append(brought[key])
        place = _locate(raster, brought[key])
        is_in[i] = place.is_in
        n_cells[place.is_in] += place.n_cells[place.is_in]
        is_first = place.is_in & (first == nowhere)
        first[is_first] = i
        row[is_first] = place.row[is_first]
        column[is_first] = place.column[is_first]
    order = np.lexsort((column, row, first))
    is_somewhere = first[order] < nowhere
    return _Plan(order[is_somewhere], shapes, is_in, n_cells)


class _Place(NamedTuple):
    """Where zones lie in a raster: (n_zones,) each.

    Attributes
    ----------
    is_in : whether a zone reaches into it.
    row, column : of the file's blocks, of the zone's north-west corner.
    n_cells : about how many cells of the raster it has.
    """

    is_in: Bools
    row: Floats
    column: Floats
    n_cells: Floats


def _locate(raster: Raster, shapes: Array) -> _Place:
    shapely = load_geo("shapely")
    west, south, east, north = shapely.bounds(shapes).T
    left, lowest, right, highest = raster.bounds
    width = np.minimum(east, right) - np.maximum(west, left)
    height = np.minimum(north, highest) - np.maximum(south, lowest)
    block_rows, block_columns = raster.block
    return _Place(
        is_in=(width > 0) & (height > 0),  # NaN of an empty shape is neither
        row=(highest - north) // (raster.cell_y * block_rows),
        column=(west - left) // (raster.cell_x * block_columns),
        n_cells=width * height / (raster.cell_x * raster.cell_y),
    )


def _cut_pieces(plan: _Plan, n_bands: int) -> Iterator[Ints]:
    """Yield zones, as many as may be held at once with all their bands, but at least one."""
    reached = np.cumsum(plan.n_cells[plan.order] * n_bands)
    number = (reached // _MOST_NUMBERS).astype(np.int64)
    for one in np.unique(number):
        yield plan.order[number == one]


def _group_bands(n_bands: int, n_cells: float) -> Iterator[range]:
    """Yield bands, as many as may be held at once of a zone of that many cells."""
    step = max(1, int(_MOST_NUMBERS // n_cells))
    for start in range(0, n_bands, step):
        yield range(start, min(start + step, n_bands))


def _measure(rasters: list[Raster], plan: _Plan, piece: Ints) -> dict[int, _Covered]:
    """Return which zones each raster covers, and how; by the number of the raster."""
    covered = {}
    for i, raster in enumerate(rasters):
        mine = piece[plan.is_in[i, piece]]
        if len(mine):
            found = measure_coverage(plan.shapes[i][mine], raster)
            covered[i] = {z: one for z, one in zip(mine.tolist(), found, strict=True) if one}
    return covered


def _read(
    rasters: list[Raster],
    covered: dict[int, _Covered],
    piece: Ints,
    bands: range,
    reading: Reading,
) -> dict[int, tuple[Floats, Floats]]:
    """Read the cells of each zone, (n_bands, n_cells), and its share in each, (n_cells,)."""
    values: dict[int, list[Floats]] = {zone: [np.empty((len(bands), 0))] for zone in piece.tolist()}
    shares: dict[int, list[Floats]] = {zone: [np.empty(0)] for zone in piece.tolist()}
    for i, found in covered.items():
        with open_raster(rasters[i].path) as file:
            reader = BandReader(file, bands, nodata=reading.nodata)
            for window, together in _group_zones(found, len(bands)):
                cells = reader.read(window)
                for zone in together:
                    one = found[zone]
                    is_covered = one.share > 0
                    mine = cells[:, *one.window.slices_in(window)][:, is_covered]
                    values[zone].append(decode(mine.astype(np.float64), reading.code))
                    shares[zone].append(one.share[is_covered])
    return {
        zone: (np.concatenate(values[zone], axis=1), np.concatenate(shares[zone]))
        for zone in values
    }


def _group_zones(found: _Covered, n_bands: int) -> Iterator[tuple[Window, list[int]]]:
    """Yield windows with the zones in each, so that neighbours are read together."""
    window: Window | None = None
    together: list[int] = []
    n_cells = 0
    for zone, one in found.items():
        n_cells += one.window.n_cells
        if window is not None:
            wider = window.unite(one.window)
            is_dense = wider.n_cells <= _MOST_WASTE * n_cells
            if is_dense and wider.n_cells * n_bands <= _MOST_NUMBERS:
                window = wider
                together.append(zone)
                continue
            yield window, together
        window = one.window
        together = [zone]
        n_cells = window.n_cells
    if window is not None:
        yield window, together


def _describe_elsewhere(rasters: list[Raster], zones: Zones) -> str:
    shapely = load_geo("shapely")
    corners: list[Any] = []
    for raster in rasters:
        outline = Zones(np.array([shapely.box(*raster.bounds)]), raster.crs)
        corners.extend(outline.bring_into(zones.crs))
    theirs = _name_extent(np.array(corners))
    ours = _name_extent(zones.shapes)
    return (
        f"{rasters[0].path}: covers none of the table's places. In {name_crs(zones.crs)} it spans "
        f"{theirs}, and they span {ours} (west, south, east, north). "
        "Is it the raster of that place, and are the CRS of both right?"
    )


def _name_extent(shapes: Array) -> str:
    corners = load_geo("shapely").total_bounds(shapes)
    return " ".join(f"{value:.8g}" for value in corners)
