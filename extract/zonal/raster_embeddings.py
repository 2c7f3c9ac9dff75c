"""Store the statistics of rasters inside tiles or areas as an embedding like any other."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from extract.config.arrays import Array, Float32s, Ints
from extract.config.cuts import Cut, parse_cut
from extract.errors import RasterError
from extract.files.hashing import hash_file
from extract.files.locks import locked
from extract.settings import ExtractSettings
from extract.store.backbone_shards import BackboneShards
from extract.store.incoming import (
    ImportSummary,
    Incoming,
    Origin,
    check_absent,
    write_incoming,
)
from extract.tables.tile_table import Tiles, read_tiles
from extract.tiling.boundaries import read_areas
from extract.tiling.geo import load_geo, read_crs
from extract.zonal.pool_rasters import Pooled, Reading, pool_rasters
from extract.zonal.rasters import Raster, read_rasters
from extract.zonal.zones import Zones, make_squares

_NO_ZONE = "its area has no polygon"


@dataclass(frozen=True, kw_only=True)
class RasterRequest:
    """What to pool, and where.

    Attributes
    ----------
    sources : `<product>/<version>` → raster, or folder of GeoTIFFs, of one product.
    reading : statistics, and how cells are read.
    n_parts : parts of a tile's side, for a map of means; 1 for one vector a tile.
    crs : of rasters whose headers say none.
    areas : boundaries and the column of their codes, to pool over the area of each row; None for
        the squares of tiles.
    areas_crs : of boundaries whose file says none.
    least : part of a zone that has to have data in every band; a row with less is rejected.
    """

    sources: Mapping[str, Path]
    reading: Reading
    n_parts: int = 1
    crs: str | None = None
    areas: tuple[str, str] | None = None
    areas_crs: str | None = None
    least: float = 0.5


class _Rows(NamedTuple):
    """The zones of a table.

    Attributes
    ----------
    zones : polygons; with parts, those of a tile follow each other.
    place : (n_rows,), number of each row's first zone; −1 where it has none.
    """

    zones: Zones
    place: Ints


def embed_rasters(
    settings: ExtractSettings,
    request: RasterRequest,
    *,
    fresh: bool = False,
    on_zones: Callable[[int, int], None] | None = None,
) -> ImportSummary:
    """Write `features/<product>.h5`: statistics of rasters inside the tile or area of each row.

    A row holds the statistics one after the other, each of all bands. The file's attribute
    `imported_from` names the rasters with their hashes, bands, CRS and licence.

    Parameters
    ----------
    fresh : replace what is there.
    on_zones : called with the number of zones of a raster that are done, and to do in all.

    Raises
    ------
    RasterError : a table without places, a raster that cannot be read or lies elsewhere, a name
        that is no cut.
    BoundaryError : boundaries that cannot be read or lie elsewhere.
    VectorFileError : features of that name are there already.
    LockError : the folder is in use.
    """
    cuts = _parse_names(request)
    tiles = read_tiles(settings)
    target = BackboneShards(settings, tiles, cuts[0].backbone, tiles_sha256=tiles.sha256)
    check_absent(target, fresh=fresh)
    rasters = {
        cut: read_rasters(path, stated_crs=request.crs)
        for cut, path in zip(cuts, request.sources.values(), strict=True)
    }
    _check_code(rasters[cuts[0]], request)
    rows = _find_zones(settings, tiles, request, rasters[cuts[0]])
    vectors = {}
    reasons = np.full(len(tiles), "", object)
    taken = {}
    for cut, sheets in rasters.items():
        pooled = pool_rasters(sheets, rows.zones, request.reading, on_zones=on_zones)
        vectors[cut.dataset] = _arrange(pooled, request.n_parts)
        reasons = np.where(reasons == "", _judge(cut, pooled, rows, request), reasons)
        taken[str(cut)] = _tell_taken(sheets, request)
    place = np.where(reasons == "", rows.place, -1)
    summary = ImportSummary(path=target.virtual, n_tiles=len(tiles), n_extra=0, taken=taken)
    with locked(settings.folder / "features"):
        incoming = Incoming(vectors, place, reasons)
        write_incoming(target, incoming, _describe(rasters, request), summary)
    return summary


def _check_code(rasters: list[Raster], request: RasterRequest) -> None:
    code = request.reading.code
    if code != "stored" and any(raster.is_scaled for raster in rasters):
        raise RasterError(
            f"{rasters[0].path}: states a scale, by which its numbers are read; --code {code} "
            "would change them twice. Leave --code out."
        )


def _tell_taken(rasters: list[Raster], request: RasterRequest) -> str:
    pools = ", ".join(request.reading.pools)
    parts = f" in {request.n_parts} × {request.n_parts} parts" if request.n_parts > 1 else ""
    bands = _count(len(rasters[0].bands), "band")
    files = _count(len(rasters), "file")
    return f"{pools} of {bands}{parts}, from {files}"


def _count(number: int, noun: str) -> str:
    return f"1 {noun}" if number == 1 else f"{number} {noun}s"


def _parse_names(request: RasterRequest) -> list[Cut]:
    pooling = "flat" if request.n_parts == 1 else "map"
    if pooling == "map" and request.reading.pools != ("mean",):
        raise RasterError("a map holds means alone: leave --pool out, or write --pool mean.")
    cuts = []
    for name in request.sources:
        try:
            cuts.append(parse_cut(f"{name}:{pooling}"))
        except ValueError:
            raise RasterError(
                f"--as {name}: expected <product>/<version>, as alphaearth/2024."
            ) from None
    products = sorted({cut.backbone for cut in cuts})
    if len(products) != 1:
        raise RasterError(f"expected rasters of one product at a time, got {', '.join(products)}.")
    return cuts


def _find_zones(
    settings: ExtractSettings, tiles: Tiles, request: RasterRequest, rasters: list[Raster]
) -> _Rows:
    if request.areas is not None:
        return _find_areas(settings, tiles, request, request.areas, rasters)
    return _Rows(_find_squares(settings, tiles, request.n_parts), np.arange(len(tiles)))


def _find_squares(settings: ExtractSettings, tiles: Tiles, n_parts: int) -> Zones:
    section = settings.tiles
    size_m = section.grid.size_m if section.grid is not None else section.size_m
    if tiles.xy is None or size_m is None or section.crs is None:
        raise RasterError(
            "[tiles] x and y, size_m, crs: not all are set; rasters are pooled inside the square "
            "around each tile's centre. Set them, or name the boundaries of areas with --areas."
        )
    crs = read_crs(section.crs, what="[tiles] crs")
    return make_squares(tiles.xy, size_m, crs, n_parts=n_parts)


def _find_areas(
    settings: ExtractSettings,
    tiles: Tiles,
    request: RasterRequest,
    areas: tuple[str, str],
    rasters: list[Raster],
) -> _Rows:
    """Return the polygon of each area, and the number of each row's area."""
    if request.n_parts > 1:
        raise RasterError("--map cuts the squares of tiles into parts: leave --areas or --map out.")
    shapely = load_geo("shapely")
    source, column = areas
    crs = rasters[0].crs
    corners = []
    for raster in rasters:
        outline = Zones(np.array([shapely.box(*raster.bounds)]), raster.crs)
        corners.append(shapely.bounds(outline.bring_into(crs))[0])
    read = read_areas(source, column, crs=crs, bounds=np.array(corners), stated=request.areas_crs)
    polygons = pd.Series(read.polygons.to_numpy(), index=read.codes)
    joined = polygons.groupby(level=0).agg(lambda parts: shapely.union_all(parts.to_numpy()))
    place = joined.index.get_indexer(pd.Index(tiles.area))
    if (place < 0).all():
        raise RasterError(
            f"--areas {source}: none of its codes ({', '.join(joined.index[:3])} …) is one of "
            f"the table's {settings.tiles.area!r} ({', '.join(tiles.area.iloc[:3])} …)."
        )
    shapes: Array = joined.to_numpy()
    return _Rows(Zones(shapes, crs), place.astype(np.int64))


def _arrange(pooled: Pooled, n_parts: int) -> Float32s:
    """Return vectors, (n, n_pools n_bands), or maps, (n, n_parts, n_parts, n_bands)."""
    values = np.nan_to_num(pooled.values).astype(np.float32)
    if n_parts == 1:
        return values.reshape(len(values), -1)
    return values.reshape(-1, n_parts, n_parts, values.shape[2])


def _judge(cut: Cut, pooled: Pooled, rows: _Rows, request: RasterRequest) -> Array:
    """Return the reason to reject each row, '' where there is none."""
    share = pooled.share.reshape(-1, request.n_parts**2)
    has_data = np.all(share > 0, axis=1)
    mean_share = np.mean(share, axis=1)
    reasons = np.full(len(rows.place), _NO_ZONE, object)
    for row, place in enumerate(rows.place.tolist()):
        if place < 0:
            continue
        is_enough = has_data[place] and mean_share[place] >= request.least
        reasons[row] = ""
        if not is_enough:
            reasons[row] = f"{cut.layer} has data for {100 * mean_share[place]:.0f} % of it"
    return reasons


def _describe(rasters: Mapping[Cut, list[Raster]], request: RasterRequest) -> Origin:
    facts: dict[str, Any] = {
        "pools": request.reading.pools,
        "code": request.reading.code,
        "nodata": request.reading.nodata,
        "areas": request.areas,
    }
    for cut, sheets in rasters.items():
        first = sheets[0]
        facts[cut.dataset] = {
            "files": {str(sheet.path): hash_file(sheet.path) for sheet in sheets},
            "bands": first.bands,
            "crs": first.crs.to_string(),
            "license": first.license,
        }
    name = f"{request.reading.code} {','.join(request.reading.pools)}"
    return Origin(description=json.dumps(facts), version=name)
