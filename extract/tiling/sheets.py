"""Read one raster file: what its header says, and its heights, window by window."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from extract.config.arrays import Float32s
from extract.errors import RasterError
from extract.tiling.geo import choose_crs, load_geo, name_crs
from extract.tiling.vrt import check_vrt

# a file is read as nothing else
DRIVERS = {
    ".tif": "GTiff",
    ".tiff": "GTiff",
    ".asc": "AAIGrid",
    ".vrt": "VRT",
}
# the Dead Sea's shore and Everest lie within
_LOWEST_M = -500.0
_HIGHEST_M = 9000.0
_FARTHEST_M = 1e8  # no projection has coordinates beyond: the Earth is 4e7 m around
_MOST_STRETCH = 0.05  # of a metre; national grids and UTM keep to a hundredth or two
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

    @property
    def right(self) -> int:
        """Return where the next cell to the east would begin [cells from the origin]."""
        return self.left + self.columns

    @property
    def bottom(self) -> int:
        """Return where the next cell to the south would begin [cells from the origin]."""
        return self.top + self.rows


def read_sheet(path: Path, stated_crs: str | None) -> Sheet:
    """Read the header of a raster.

    Raises
    ------
    RasterError : more than one band, cells that are not square, no CRS, or one not in metres on the
        ground.
    """
    with open_raster(path) as file:
        transform = tuple(file.transform)[:6]
        cell_m, turn, west, other_turn, minus_cell_m, north = transform
        is_on_earth = np.abs(transform) <= _FARTHEST_M  # NaN is not either
        if not is_on_earth.all():
            raise RasterError(
                f"{path}: its header places it at {west:g}, {north:g} with cells of {cell_m:g} m, "
                "which is nowhere on Earth. Mend the header, or fetch the file anew."
            )
        dtype = np.dtype(file.dtypes[0])
        if file.count != 1 or dtype.kind not in "fiu":
            raise RasterError(
                f"{path}: expected one band of heights, got {file.count} of {dtype}. "
                "Take the one of the heights with gdal_translate -b."
            )
        is_turned = turn != 0 or other_turn != 0
        is_oblong = abs(cell_m + minus_cell_m) > 1e-6 * cell_m
        if is_turned or is_oblong or cell_m <= 0:
            raise RasterError(
                f"{path}: expected square cells, north up, got the transform {transform}. "
                "Bring it on such a grid with gdalwarp -tr."
            )
        wkt = file.crs.to_wkt() if file.crs else None
        crs = choose_crs(
            wkt,
            stated_crs,
            option="--crs",
            what=str(path),
            error=RasterError,
        )
        _check_metres(crs, path)
        centre_east = west + cell_m * file.width / 2
        centre_north = north - cell_m * file.height / 2
        _check_scale(crs, path, centre_east, centre_north)
        return Sheet(path, crs, cell_m, west, north, file.width, file.height)


def _check_scale(
    crs: Any,
    path: Path,
    east: float,
    north: float,
) -> None:
    """Refuse metres that are none on the ground, as those of Web Mercator away from the equator."""
    projection = load_geo("pyproj").Proj(crs)
    longitude, latitude = projection(east, north, inverse=True)
    factors = projection.get_factors(longitude, latitude)
    scales = np.array([factors.meridional_scale, factors.parallel_scale])
    farthest = scales[np.abs(scales - 1).argmax()]
    if abs(farthest - 1) > _MOST_STRETCH:
        zone = int((longitude + 180) // 6) + 1
        hemisphere = 326 if latitude >= 0 else 327
        raise RasterError(
            f"{path}: in {name_crs(crs)}, of which {farthest:.2f} m are one on the ground there: "
            "slopes and sizes would be wrong. Bring it into a national grid or UTM, as "
            f"gdalwarp -t_srs EPSG:{hemisphere}{zone:02d}."
        )


def _check_metres(crs: Any, path: Path) -> None:
    axes = crs.axis_info[:2]
    is_metric = all(axis.unit_conversion_factor == 1.0 for axis in axes)
    if not crs.is_projected or not is_metric:
        raise RasterError(
            f"{path}: expected coordinates in projected metres, got {name_crs(crs)} "
            f"({axes[0].unit_name}). Bring it there with gdalwarp -t_srs."
        )


@contextmanager
def open_raster(path: Path) -> Iterator[Any]:
    """Open a raster as what its suffix says, running no code and reading only files here."""
    rasterio = load_geo("rasterio")
    driver = DRIVERS[path.suffix.lower()]
    switches = {
        "GDAL_VRT_ENABLE_PYTHON": "NO",
        "CPL_VSIL_CURL_ALLOWED_FILENAME": "none",
    }
    if driver == "VRT":
        check_vrt(path)
    try:
        with rasterio.Env(**switches), rasterio.open(path, driver=driver) as file:
            yield file
    except rasterio.errors.RasterioError as error:
        cause = error.__cause__ or error
        reason = " ".join(str(cause).split())
        raise RasterError(
            f"{path}: cannot be read as a raster: {reason.rstrip('.')}. Fetch or make it anew."
        ) from None


def read_heights(
    path: Path,
    *,
    left: int,
    top: int,
    columns: int,
    rows: int,
    nodata: float | None,
) -> Float32s:
    """Read a window of a file.

    Parameters
    ----------
    left, top : of the window [cells from the file's corner].
    nodata : value that means no data, beside what the file says itself.

    Returns
    -------
    (rows, columns) float32 [m], NaN where there is no data.

    Raises
    ------
    RasterError : it cannot be read, or holds values that are no heights.
    """
    with open_raster(path) as file:
        if file.driver == "AAIGrid":
            _read_lines_before(file, top)
        window = _window(left, top, columns, rows)
        values = file.read(1, window=window, masked=True)
        scale = np.float32(file.scales[0])
        offset = np.float32(file.offsets[0])
    stored = values.data
    is_empty = np.ma.getmaskarray(values)
    is_empty |= ~np.isfinite(stored)
    if nodata is not None:
        is_empty |= stored == nodata
    heights: Float32s = stored.astype(np.float32) * scale
    heights += offset
    heights[is_empty] = np.nan
    is_wrong = (heights < _LOWEST_M) | (heights > _HIGHEST_M)
    if is_wrong.any():
        wrong = heights[is_wrong]
        height = f"{wrong[0]:g}"
        raise RasterError(
            f"{path}: {len(wrong)} cells of {height} m, which is no height. If that value "
            f"means no data, say so: --nodata {height}. Heights have to be in metres."
        )
    return heights


def _read_lines_before(file: Any, row: int) -> None:
    """Let GDAL read the lines of an .asc up to a row, in order.

    It finds a line by those before it. Of one behind a line that is missing it asks for each of
    them, and for all before that one again: forty lines further it does not come back.
    """
    for start in range(0, row, _ROWS):
        n_rows = min(_ROWS, row - start)
        file.read(1, window=_window(0, start, 1, n_rows))


def _window(
    left: int,
    top: int,
    columns: int,
    rows: int,
) -> Any:
    windows = load_geo("rasterio.windows")
    return windows.Window(left, top, columns, rows)
