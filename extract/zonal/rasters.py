"""Rasters of many bands: what their headers say, and their cells in a window."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from extract.config.arrays import Float32s, Floats
from extract.errors import RasterError
from extract.tiling.geo import choose_crs, load_geo
from extract.tiling.sheets import DRIVERS, open_raster

Code = Literal["stored", "alphaearth"]
_MOST_BANDS = 4096
_NO_EMBEDDING = -128  # of AlphaEarth


class Raster(NamedTuple):
    """One file: what its header says.

    Attributes
    ----------
    crs : `pyproj.CRS`.
    west, north : its north-west corner, in units of the CRS.
    cell_x, cell_y : sides of a cell, in units of the CRS.
    block : rows and columns that the file stores together.
    bands : name of each band.
    is_scaled : whether the file states a scale or an offset.
    license : what the file's tags say, or nothing.
    """

    path: Path
    crs: Any
    west: float
    north: float
    cell_x: float
    cell_y: float
    columns: int
    rows: int
    block: tuple[int, int]
    bands: tuple[str, ...]
    is_scaled: bool
    license: str

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Return west, south, east and north, in units of the CRS."""
        east = self.west + self.columns * self.cell_x
        south = self.north - self.rows * self.cell_y
        return self.west, south, east, self.north


class Window(NamedTuple):
    """A rectangle of cells, from the north-west corner of the raster."""

    top: int
    left: int
    rows: int
    columns: int

    @property
    def n_cells(self) -> int:
        """Count its cells."""
        return self.rows * self.columns

    def unite(self, other: Window) -> Window:
        """Return the smallest window that holds both."""
        top = min(self.top, other.top)
        left = min(self.left, other.left)
        bottom = max(self.top + self.rows, other.top + other.rows)
        right = max(self.left + self.columns, other.left + other.columns)
        return Window(top, left, bottom - top, right - left)

    def slices_in(self, outer: Window) -> tuple[slice, slice]:
        """Return where its rows and columns lie in a window that holds it."""
        top = self.top - outer.top
        left = self.left - outer.left
        return slice(top, top + self.rows), slice(left, left + self.columns)


def read_rasters(path: Path, *, stated_crs: str | None = None) -> list[Raster]:
    """Read the headers of a raster, or of all GeoTIFFs in a folder.

    Raises
    ------
    RasterError : no raster there, one that is turned or has no CRS, or rasters with other bands.
    """
    rasters = [_read_header(file, stated_crs) for file in _list_files(path)]
    first = rasters[0]
    for other in rasters[1:]:
        if other.bands != first.bands:
            raise RasterError(
                f"{other.path}: has {len(other.bands)} bands ({_name_some(other.bands)}), and "
                f"{first.path} {len(first.bands)} ({_name_some(first.bands)}). "
                "Keep rasters of one product in a folder."
            )
    return rasters


class BandReader:
    """Some bands of an open raster, in the unit that the file states.

    Rows run from north to south, also where those of the file run to the north, as AlphaEarth's.

    Parameters
    ----------
    file : an open raster of rasterio.
    bands : numbers of bands, the first is 0.
    nodata : value that means no data, beside what the file says itself.
    """

    def __init__(self, file: Any, bands: range, *, nodata: float | None) -> None:
        self._file = file
        self._numbers = [band + 1 for band in bands]
        self._scale = _along_bands(file.scales, bands)
        self._offset = _along_bands(file.offsets, bands)
        self._is_scaled = bool((self._scale != 1).any() or (self._offset != 0).any())
        self._empty = [{file.nodatavals[band], nodata} - {None} for band in bands]
        self._has_mask = _has_mask(file)
        self._is_south_first = file.transform.e > 0

    def read(self, window: Window) -> Float32s:
        """Read a window: (n_bands, rows, columns), NaN where there is no data."""
        top = window.top
        if self._is_south_first:
            top = self._file.height - window.top - window.rows
        windows = load_geo("rasterio.windows")
        place = windows.Window(window.left, top, window.columns, window.rows)
        stored = self._file.read(self._numbers, window=place)
        cells: Float32s = stored.astype(np.float32)
        if self._is_scaled:
            cells = cells * self._scale + self._offset
        for band, values in enumerate(self._empty):
            for value in values:
                cells[band][stored[band] == value] = np.nan
        if self._has_mask:
            cells[self._file.read_masks(self._numbers, window=place) == 0] = np.nan
        if stored.dtype.kind == "f":
            cells[np.isinf(cells)] = np.nan
        return cells[:, ::-1] if self._is_south_first else cells


def decode(cells: Floats, code: Code) -> Floats:
    """Return the numbers that the cells of a product stand for.

    ``alphaearth`` are the 8-bit embeddings of AlphaEarth Foundations as they are published:
    sign(v) (v / 127.5)², in −1 to 1; −128 is no data.
    """
    if code == "stored":
        return cells
    decoded = np.sign(cells) * (cells / 127.5) ** 2
    decoded[cells == _NO_EMBEDDING] = np.nan
    return decoded


def _list_files(path: Path) -> list[Path]:
    if path.is_file():
        if path.suffix.lower() not in DRIVERS:
            raise RasterError(
                f"{path}: expected {', '.join(DRIVERS)}. Convert it with gdal_translate."
            )
        return [path]
    if not path.is_dir():
        raise RasterError(f"{path}: no such raster or folder.")
    names = (".tif", ".tiff")
    files = [file for file in sorted(path.iterdir()) if file.suffix.lower() in names]
    shown = [file for file in files if not file.name.startswith(".")]
    if not shown:
        raise RasterError(f"{path}: holds no .tif. Name a raster, or a folder of GeoTIFFs.")
    return shown


def _read_header(path: Path, stated_crs: str | None) -> Raster:
    with open_raster(path) as file:
        cell_x, turn, west, other_turn, step_y, first_y = tuple(file.transform)[:6]
        is_straight = turn == 0 and other_turn == 0 and cell_x > 0 and step_y != 0
        if not is_straight:
            raise RasterError(
                f"{path}: expected rows from west to east, got the transform "
                f"{tuple(file.transform)[:6]}. Bring it on such a grid with gdalwarp."
            )
        wrong = [name for name in file.dtypes if np.dtype(name).kind not in "fiu"]
        if wrong or file.count > _MOST_BANDS:
            raise RasterError(
                f"{path}: expected at most {_MOST_BANDS} bands of real numbers, got {file.count} "
                f"of {', '.join(sorted(set(file.dtypes)))}."
            )
        crs = choose_crs(
            file.crs.to_wkt() if file.crs else None,
            stated_crs,
            option="--crs",
            what=str(path),
            error=RasterError,
        )
        bands = [name or f"B{i}" for i, name in enumerate(file.descriptions, 1)]
        tags = {name.lower(): value for name, value in file.tags().items()}
        return Raster(
            path=path,
            crs=crs,
            west=west,
            north=max(first_y, first_y + file.height * step_y),
            cell_x=cell_x,
            cell_y=abs(step_y),
            columns=file.width,
            rows=file.height,
            block=file.block_shapes[0],
            bands=tuple(bands),
            is_scaled=set(file.scales) != {1.0} or set(file.offsets) != {0.0},
            license=tags.get("license", tags.get("tifftag_copyright", "")),
        )


def _has_mask(file: Any) -> bool:
    """Return whether the file holds a mask or an alpha band beside a value for no data."""
    return any("per_dataset" in [flag.name for flag in flags] for flags in file.mask_flag_enums)


def _along_bands(values: tuple[float, ...], bands: range) -> Float32s:
    chosen = [values[band] for band in bands]
    return np.array(chosen, np.float32)[:, None, None]


def _name_some(names: tuple[str, ...]) -> str:
    if len(names) <= 3:
        return ", ".join(names)
    return f"{names[0]} … {names[-1]}"
