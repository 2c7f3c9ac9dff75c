"""Elevation rasters as one: a file or a folder of them, indexed by their bounds, read window by window."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.errors import RasterError
from extract.tiling.geo import is_same_crs, load_geo, name_crs, read_crs
from extract.tiling.vrt import check_vrt

_DRIVERS = {
    ".tif": "GTiff",
    ".tiff": "GTiff",
    ".asc": "AAIGrid",
    ".vrt": "VRT",
}  # a file is read as nothing else
# the Dead Sea's shore and Everest lie within
_LOWEST_M = -500.0
_HIGHEST_M = 9000.0
_OFF_GRID = 0.01  # cells that a file may lie beside the others' grid
_FARTHEST_M = 1e8  # no projection has coordinates beyond: the Earth is 4e7 m around
_ROWS = 256

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """One file: where it lies on the mosaic's grid, in cells from its origin to the east and south, and its cells."""

    path: Path
    left: int
    top: int
    columns: int
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Mosaic:
    """Rasters on one grid of square cells.

    Attributes
    ----------
    sheets : the files, sorted by path; where two overlap, the first that has data there is taken.
    crs : `pyproj.CRS`, projected, in metres.
    cell_m : side of a cell [m].
    origin : easting and northing of the grid's origin, the north-west corner of the first sheet [m].
    nodata : value that means no data, beside what a file says itself; None for no other.
    """

    sheets: tuple[Sheet, ...]
    crs: Any
    cell_m: float
    origin: tuple[float, float]
    nodata: float | None

    def bounds(self) -> NDArray[np.float64]:
        """(n_sheets, 4), west, south, east and north of every sheet [m]."""
        cells = np.array(
            [(s.left, -s.top - s.rows, s.left + s.columns, -s.top) for s in self.sheets], np.float64
        )
        return cells * self.cell_m + np.array([*self.origin, *self.origin])

    def read(self, left: int, top: int, columns: int, rows: int) -> Floats:
        """Read a window, counted in cells from the origin: (rows, columns) [m], NaN where there is no data or no sheet.

        Raises
        ------
        RasterError : a file cannot be read, or holds values that are no heights.
        """
        heights = np.full((rows, columns), np.nan, np.float32)
        for sheet in self.sheets:
            x0 = max(left, sheet.left)
            x1 = min(left + columns, sheet.left + sheet.columns)
            y0 = max(top, sheet.top)
            y1 = min(top + rows, sheet.top + sheet.rows)
            if x0 < x1 and y0 < y1:
                part = heights[y0 - top : y1 - top, x0 - left : x1 - left]
                found = _read_sheet(
                    sheet.path, (x0 - sheet.left, y0 - sheet.top, x1 - x0, y1 - y0), self.nodata
                )
                np.copyto(part, found, where=np.isnan(part))
        return heights


def open_mosaic(path: Path, *, crs: str | None = None, nodata: float | None = None) -> Mosaic:
    """Look at a raster, or at all in a folder and below it; only headers are read.

    Parameters
    ----------
    path : a GeoTIFF, an ESRI ASCII grid (.asc), a VRT, or a folder of the first two.
    crs : what files are in that do not say it. nodata : value that means no data, where files do not say it.

    Raises
    ------
    RasterError : no raster there, more than one band, cells that are not square or not on one grid, no CRS, two, or one
        that is not in metres.
    """
    files = _list_files(path)
    looks = [_look(file) for file in files]
    cell, (east, north) = looks[0].cell, looks[0].corner
    sheets = []
    for file, look in zip(files, looks, strict=True):
        at = ((look.corner[0] - east) / cell, (north - look.corner[1]) / cell)
        off = max(abs(place - round(place)) for place in at)
        if abs(look.cell / cell - 1) * max(look.columns, look.rows) > _OFF_GRID or off > _OFF_GRID:
            raise RasterError(
                f"{file}: cells of {look.cell:g} m, {off:.2g} cells beside the grid of {files[0]} (cells of "
                f"{cell:g} m). Bring them on one grid with gdalwarp -tr {cell:g} {cell:g} -tap."
            )
        sheets.append(
            Sheet(
                path=file, left=round(at[0]), top=round(at[1]), columns=look.columns, rows=look.rows
            )
        )
    found = [
        (file, _choose_crs(file, look.wkt, crs)) for file, look in zip(files, looks, strict=True)
    ]
    for file, other in found:
        if other is not found[0][1] and not is_same_crs(other, found[0][1]):
            raise RasterError(
                f"{file}: in {name_crs(other)}, but {files[0]} is in {name_crs(found[0][1])}. Bring them into "
                "one with gdalwarp -t_srs."
            )
    return Mosaic(
        sheets=tuple(sheets), crs=found[0][1], cell_m=cell, origin=(east, north), nodata=nodata
    )


def _list_files(path: Path) -> list[Path]:
    if path.is_dir():
        files = sorted(
            p
            for p in path.rglob("*")
            if p.suffix.lower() in _DRIVERS.keys() - {".vrt"} and p.is_file()
        )
        if not files:
            raise RasterError(
                f"{path}: no .tif, .tiff or .asc in this folder. Name the file or folder of the rasters."
            )
        return files
    if not path.is_file():
        raise RasterError(
            f"{path}: no such file or folder. Name the file or folder of the rasters."
        )
    if path.suffix.lower() not in _DRIVERS:
        raise RasterError(
            f"{path}: expected {', '.join(_DRIVERS)}, or a folder of rasters. Convert it with gdal_translate."
        )
    return [path]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """What a file's header says."""

    cell: float
    corner: tuple[float, float]
    columns: int
    rows: int
    wkt: str


def _look(path: Path) -> _Look:
    with _opened(path) as file:
        a, b, west, d, e, north = transform = tuple(file.transform)[:6]
        if not np.all(np.abs(transform) <= _FARTHEST_M):  # NaN is not either
            raise RasterError(
                f"{path}: its header places it at {west:g}, {north:g} with cells of {a:g} m, which is nowhere on "
                "Earth. Mend the header, or fetch the file anew."
            )
        if file.count != 1 or np.dtype(file.dtypes[0]).kind not in "fiu":
            raise RasterError(
                f"{path}: expected one band of heights, got {file.count} of {file.dtypes[0]}. Take the one of "
                "the heights with gdal_translate -b."
            )
        if b or d or a <= 0 or abs(a + e) > 1e-6 * a:
            raise RasterError(
                f"{path}: expected square cells, north up, got the transform {transform}. "
                "Bring it on such a grid with gdalwarp -tr."
            )
        wkt = file.crs.to_wkt() if file.crs else ""
        return _Look(cell=a, corner=(west, north), columns=file.width, rows=file.height, wkt=wkt)


def _choose_crs(path: Path, wkt: str, stated: str | None) -> Any:
    """Return the CRS that a file says, or that was stated for those that say none."""
    said = read_crs(wkt, what=str(path)) if wkt else None
    wanted = read_crs(stated, what="--crs") if stated else None
    if said is not None and wanted is not None and not is_same_crs(said, wanted):
        raise RasterError(
            f"{path}: says that it is in {name_crs(said)}, not in {stated}. Leave --crs out, or bring it there "
            "with gdalwarp -t_srs."
        )
    crs = said or wanted
    if crs is None:
        raise RasterError(
            f"{path}: does not say what its coordinates mean. Say it, as --crs EPSG:27700."
        )
    if not crs.is_projected or any(
        axis.unit_conversion_factor != 1.0 for axis in crs.axis_info[:2]
    ):
        raise RasterError(
            f"{path}: expected coordinates in projected metres, got {name_crs(crs)} "
            f"({crs.axis_info[0].unit_name}). Bring it there with gdalwarp -t_srs."
        )
    return crs


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a raster as what its suffix says, running no code and reading nothing that is not a file here."""
    rasterio = load_geo("rasterio")
    driver = _DRIVERS[path.suffix.lower()]
    if driver == "VRT":
        try:
            check_vrt(path)
        except RasterError as error:
            raise RasterError(f"{path}: {error}. Make the VRT anew with gdalbuildvrt.") from None
    try:
        with rasterio.Env(GDAL_VRT_ENABLE_PYTHON="NO"), rasterio.open(path, driver=driver) as file:
            yield file
    except rasterio.errors.RasterioError as error:
        said = " ".join(str(error.__cause__ or error).split())
        raise RasterError(
            f"{path}: cannot be read as a raster: {said.rstrip('.')}. Fetch or make it anew."
        ) from None


def _read_sheet(path: Path, window: tuple[int, int, int, int], nodata: float | None) -> Floats:
    """Read columns and rows of a file: (rows, columns) [m], NaN without data."""
    with _opened(path) as file:
        has_mask = any(flag.name in ("per_dataset", "alpha") for flag in file.mask_flag_enums[0])
        if file.driver == "AAIGrid":
            _find_line(file, window[1])
        values = file.read(1, window=load_geo("rasterio.windows").Window(*window), masked=has_mask)
        data = np.ma.getdata(values)
        empty = np.ma.getmaskarray(values) | ~np.isfinite(data)
        for value in {file.nodata, nodata} - {None}:
            with np.errstate(over="ignore"):
                empty |= data == (data.dtype.type(value) if data.dtype.kind == "f" else value)
        heights: Floats = data.astype(np.float32)
        if file.scales[0] != 1.0 or file.offsets[0] != 0.0:
            heights = heights * np.float32(file.scales[0]) + np.float32(file.offsets[0])
    heights[empty] = np.nan
    if not empty.all() and (np.nanmin(heights) < _LOWEST_M or np.nanmax(heights) > _HIGHEST_M):
        wrong = heights[(heights < _LOWEST_M) | (heights > _HIGHEST_M)]
        raise RasterError(
            f"{path}: {len(wrong)} cells of {wrong[0]:g} m, which is no height. If that value means no data, "
            f"say so: --nodata {wrong[0]:g}. Heights have to be in metres."
        )
    return heights


def _find_line(file: Any, row: int) -> None:
    """Let GDAL read the lines of an .asc up to a row, in order, so that the first that is missing ends it.

    It finds a line by those before it; of one behind a line that is missing it asks for each of them, and for all before that
    one again: forty lines further it does not come back.
    """
    for start in range(0, row, _ROWS):
        file.read(
            1, window=load_geo("rasterio.windows").Window(0, start, 1, min(_ROWS, row - start))
        )
