"""Read one elevation raster, or all of a folder as one, window by window."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from extract.config.arrays import Float32s
from extract.errors import RasterError
from extract.tiling.geo import choose_crs, is_same_crs, load_geo, name_crs
from extract.tiling.vrt import check_vrt

# a file is read as nothing else
_DRIVERS = {".tif": "GTiff", ".tiff": "GTiff", ".asc": "AAIGrid", ".vrt": "VRT"}
# the Dead Sea's shore and Everest lie within
_LOWEST_M = -500.0
_HIGHEST_M = 9000.0
_OFF_GRID = 0.01  # cells that a file may lie beside the others' grid
_FARTHEST_M = 1e8  # no projection has coordinates beyond: the Earth is 4e7 m around
_ROWS = 256


class Sheet(NamedTuple):
    """One file: what its header says, and its place on the grid of a mosaic.

    Attributes
    ----------
    crs : `pyproj.CRS`.
    cell_m, west, north : side of its cells, and its north-west corner [m].
    left, top : the corner on the mosaic's grid [cells from the origin, east and south].
    """

    path: Path
    crs: Any
    cell_m: float
    west: float
    north: float
    columns: int
    rows: int
    left: int = 0
    top: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Mosaic:
    """Rasters on one grid of square cells.

    Attributes
    ----------
    sheets : the files, sorted by path; where two overlap, the first that has data there is taken.
    crs : `pyproj.CRS`, projected, in metres.
    cell_m : side of a cell [m].
    origin : easting and northing of the north-west corner of the first sheet [m].
    nodata : value that means no data, beside what a file says itself; None for no other.
    """

    sheets: tuple[Sheet, ...]
    crs: Any
    cell_m: float
    origin: tuple[float, float]
    nodata: float | None

    def bounds(self) -> NDArray[np.float64]:
        """Return west, south, east and north of every sheet: (n_sheets, 4) [m]."""
        cells = [(s.left, -s.top - s.rows, s.left + s.columns, -s.top) for s in self.sheets]
        return np.array(cells) * self.cell_m + np.tile(self.origin, 2)

    def read(self, left: int, top: int, columns: int, rows: int) -> Float32s:
        """Read a window, counted in cells from the origin.

        GDAL's boundless reading did the same at a quarter to a half of the speed.

        Returns
        -------
        (rows, columns) float32 [m], NaN where there is no data or no sheet.

        Raises
        ------
        RasterError : a file cannot be read, or holds values that are no heights.
        """
        heights = np.full((rows, columns), np.nan, np.float32)
        for sheet in self.sheets:
            west = max(left, sheet.left)
            east = min(left + columns, sheet.left + sheet.columns)
            north = max(top, sheet.top)
            south = min(top + rows, sheet.top + sheet.rows)
            if west < east and north < south:
                window = (west - sheet.left, north - sheet.top, east - west, south - north)
                found = _read_heights(sheet.path, window, self.nodata)
                part = heights[north - top : south - top, west - left : east - left]
                np.copyto(part, found, where=np.isnan(part))
        return heights


def open_mosaic(
    path: Path,
    *,
    crs: str | None = None,
    nodata: float | None = None,
    grid: Mosaic | None = None,
) -> Mosaic:
    """Read the headers of a raster, or of all in a folder and below it.

    Parameters
    ----------
    path : a GeoTIFF, an ESRI ASCII grid (.asc), a VRT, or a folder of the first two.
    crs : CRS of files that say none.
    nodata : value that means no data, where files do not say it.
    grid : a mosaic whose cells and origin this one has to share; None for its own.

    Raises
    ------
    RasterError : no raster there, more than one band, cells that are not square or not on one
        grid, no CRS, two, or one that is not in metres.
    """
    headers = [_read_header(file, crs) for file in _list_files(path)]
    first = headers[0] if grid is None else grid.sheets[0]
    return Mosaic(
        sheets=tuple(_place_sheet(header, first) for header in headers),
        crs=first.crs,
        cell_m=first.cell_m,
        origin=(first.west, first.north),
        nodata=nodata,
    )


def _list_files(path: Path) -> list[Path]:
    if path.is_dir():
        kinds = _DRIVERS.keys() - {".vrt"}
        files = [file for file in path.rglob("*") if file.suffix.lower() in kinds]
        if not files:
            raise RasterError(
                f"{path}: no .tif, .tiff or .asc in this folder. "
                "Name the file or folder of the rasters."
            )
        return sorted(files)
    if not path.is_file():
        raise RasterError(
            f"{path}: no such file or folder. Name the file or folder of the rasters."
        )
    if path.suffix.lower() not in _DRIVERS:
        raise RasterError(
            f"{path}: expected {', '.join(_DRIVERS)}, or a folder of rasters. "
            "Convert it with gdal_translate."
        )
    return [path]


def _read_header(path: Path, stated_crs: str | None) -> Sheet:
    with _open_raster(path) as file:
        transform = tuple(file.transform)[:6]
        cell_m, turn, west, other_turn, minus_cell_m, north = transform
        if not np.all(np.abs(transform) <= _FARTHEST_M):  # NaN is not either
            raise RasterError(
                f"{path}: its header places it at {west:g}, {north:g} with cells of {cell_m:g} m, "
                "which is nowhere on Earth. Mend the header, or fetch the file anew."
            )
        if file.count != 1 or np.dtype(file.dtypes[0]).kind not in "fiu":
            raise RasterError(
                f"{path}: expected one band of heights, got {file.count} of {file.dtypes[0]}. "
                "Take the one of the heights with gdal_translate -b."
            )
        if turn or other_turn or cell_m <= 0 or abs(cell_m + minus_cell_m) > 1e-6 * cell_m:
            raise RasterError(
                f"{path}: expected square cells, north up, got the transform {transform}. "
                "Bring it on such a grid with gdalwarp -tr."
            )
        wkt = file.crs.to_wkt() if file.crs else None
        crs = choose_crs(wkt, stated_crs, option="--crs", what=str(path), error=RasterError)
        units = [axis.unit_conversion_factor for axis in crs.axis_info[:2]]
        if not crs.is_projected or units != [1.0, 1.0]:
            raise RasterError(
                f"{path}: expected coordinates in projected metres, got {name_crs(crs)} "
                f"({crs.axis_info[0].unit_name}). Bring it there with gdalwarp -t_srs."
            )
        return Sheet(path, crs, cell_m, west, north, file.width, file.height)


def _place_sheet(sheet: Sheet, first: Sheet) -> Sheet:
    """Place a file on the grid of the first, whose origin and cells are the mosaic's."""
    cell_m = first.cell_m
    left = (sheet.west - first.west) / cell_m
    top = (first.north - sheet.north) / cell_m
    off = max(abs(left - round(left)), abs(top - round(top)))
    drift = abs(sheet.cell_m / cell_m - 1) * max(sheet.columns, sheet.rows)
    if drift > _OFF_GRID or off > _OFF_GRID:
        raise RasterError(
            f"{sheet.path}: cells of {sheet.cell_m:g} m, {off:.2g} cells beside the grid of "
            f"{first.path} (cells of {cell_m:g} m). "
            f"Bring them on one grid with gdalwarp -tr {cell_m:g} {cell_m:g} -tap."
        )
    if not is_same_crs(sheet.crs, first.crs):
        raise RasterError(
            f"{sheet.path}: in {name_crs(sheet.crs)}, but {first.path} is in "
            f"{name_crs(first.crs)}. Bring them into one with gdalwarp -t_srs."
        )
    return sheet._replace(left=round(left), top=round(top))


@contextmanager
def _open_raster(path: Path) -> Iterator[Any]:
    """Open a raster as what its suffix says, running no code and reading only files here."""
    rasterio = load_geo("rasterio")
    driver = _DRIVERS[path.suffix.lower()]
    switches = {"GDAL_VRT_ENABLE_PYTHON": "NO", "CPL_VSIL_CURL_ALLOWED_FILENAME": "none"}
    if driver == "VRT":
        try:
            check_vrt(path)
        except RasterError as error:
            raise RasterError(f"{path}: {error}. Make the VRT anew with gdalbuildvrt.") from None
    try:
        with rasterio.Env(**switches), rasterio.open(path, driver=driver) as file:
            yield file
    except rasterio.errors.RasterioError as error:
        reason = " ".join(str(error.__cause__ or error).split())
        raise RasterError(
            f"{path}: cannot be read as a raster: {reason.rstrip('.')}. Fetch or make it anew."
        ) from None


def _read_heights(path: Path, window: tuple[int, int, int, int], nodata: float | None) -> Float32s:
    """Read a window (left, top, columns, rows) of a file: (rows, columns) [m], NaN: no data."""
    with _open_raster(path) as file:
        if file.driver == "AAIGrid":
            _read_lines_before(file, window[1])
        values = file.read(1, window=_window(*window), masked=True)
        scale = np.float32(file.scales[0])
        offset = np.float32(file.offsets[0])
    stored = values.data
    empty = np.ma.getmaskarray(values) | ~np.isfinite(stored)
    if nodata is not None:
        empty |= stored == nodata
    heights: Float32s = stored.astype(np.float32) * scale + offset
    heights[empty] = np.nan
    wrong = heights[(heights < _LOWEST_M) | (heights > _HIGHEST_M)]
    if len(wrong):
        raise RasterError(
            f"{path}: {len(wrong)} cells of {wrong[0]:g} m, which is no height. If that value "
            f"means no data, say so: --nodata {wrong[0]:g}. Heights have to be in metres."
        )
    return heights


def _read_lines_before(file: Any, row: int) -> None:
    """Let GDAL read the lines of an .asc up to a row, in order.

    It finds a line by those before it. Of one behind a line that is missing it asks for each of
    them, and for all before that one again: forty lines further it does not come back.
    """
    for start in range(0, row, _ROWS):
        file.read(1, window=_window(0, start, 1, min(_ROWS, row - start)))


def _window(left: int, top: int, columns: int, rows: int) -> Any:
    return load_geo("rasterio.windows").Window(left, top, columns, rows)
