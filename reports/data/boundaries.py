"""Read the areas' polygons as a picture of area numbers, from which maps are coloured."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from extract.config.arrays import Bools, Floats
from extract.config.suggestions import suggest
from extract.errors import ReportError
from extract.tables.text_columns import as_text
from extract.tables.tile_table import Tiles
from extract.tiling.polygon_files import find_layer
from reports.settings import ReportSettings

MAX_PIXELS = 640  # of the longer side: what is finer than a pixel is not drawn, and does not weigh
MAX_LINES = 0.3  # of the drawn pixels; with more and smaller areas, lines would hide what they part


class Boundaries(NamedTuple):
    """Where each area lies.

    Attributes
    ----------
    codes : (n_areas,), those of the table that have a polygon.
    n_missing : areas of the table without a polygon.
    number : (rows, columns), 1 + the place of a pixel's area in `codes`, 0 outside; north up.
    is_line : (rows, columns), pixels between two areas; none where there are too many areas.
    centre : (n_areas, 2), centroids in the units of the map's projection.
    polygons : a GeoSeries of the shapes, in that projection.
    name : of the file.
    """

    codes: list[str]
    n_missing: int
    number: NDArray[np.int32]
    is_line: Bools
    centre: Floats
    polygons: Any
    name: str


def open_boundaries(settings: ReportSettings, tiles: Tiles) -> Boundaries | None:
    """Read the polygons that the settings name, as `read_boundaries`; None where they name none."""
    path = settings.reports.boundaries
    code = settings.reports.boundaries_code
    if path is None or code is None:
        return None
    return read_boundaries(path, code, sorted(set(tiles.area.astype(str))))


def read_boundaries(path: Path, code: str, areas: list[str]) -> Boundaries:
    """Read polygons of any format of GDAL, and draw those of the table's areas.

    Degrees are projected to the UTM zone in which the areas lie; what is in metres stays as it is.

    Parameters
    ----------
    code : column of the area's code, as it stands in the tile table.
    areas : the codes of the table.

    Raises
    ------
    ReportError : the extra `geo` is not installed; no such file or column; a file that cannot be
        read, or has none of the areas.
    """
    frame = _read_frame(path, code)
    is_empty = frame.geometry.is_empty | frame.geometry.isna()
    is_area = frame[code].isin(set(areas))
    frame = frame[is_area & ~is_empty]
    if frame.empty:
        raise ReportError(
            f"[reports] boundaries {path.name}: no {code!r} is an area of the tile table (there as "
            f"{areas[0]!r}). Name the column of the same codes in boundaries_code."
        )
    if frame.crs is not None and frame.crs.is_geographic:
        frame = frame.to_crs(frame.estimate_utm_crs())
    merged = frame.dissolve(by=code, sort=True)
    number = _draw(merged.geometry, merged.total_bounds)
    is_line = np.zeros(number.shape, np.bool_)
    is_line[:, 1:] |= number[:, 1:] != number[:, :-1]
    is_line[1:] |= number[1:] != number[:-1]
    is_line &= number > 0
    if is_line.sum() > MAX_LINES * (number > 0).sum():
        is_line[:] = False
    points = merged.geometry.centroid
    return Boundaries(
        codes=merged.index.astype(str).tolist(),
        n_missing=len(set(areas)) - len(merged),
        number=number,
        is_line=is_line,
        centre=np.column_stack([points.x, points.y]),
        polygons=merged.geometry,
        name=path.name,
    )


def _read_frame(path: Path, code: str) -> Any:
    try:
        import geopandas
        import rasterio.features  # noqa: F401  (draws the polygons)
    except ImportError:
        raise ReportError(
            "[reports] boundaries: reading polygons needs the extra geo. Install it: "
            'pip install ".[geo]", or remove the key.'
        ) from None
    found = find_layer(str(path), what="[reports] boundaries", error=ReportError)
    try:
        frame = geopandas.read_file(found.path, layer=found.layer, engine="pyogrio")
        if found.crs is None:
            frame = frame.set_crs(None, allow_override=True)
    except Exception as error:  # GDAL's own errors are of many kinds
        raise ReportError(
            f"[reports] boundaries {path.name}: not readable as polygons "
            f"({str(error).splitlines()[0]}). Expected GeoPackage, GeoJSON or a Shapefile."
        ) from None
    if code not in frame.columns:
        known = [str(c) for c in frame.columns if c != "geometry"]
        raise ReportError(
            f"[reports] boundaries {path.name}: no column {code!r}; there are "
            f"{', '.join(known) or 'none'}.{suggest(code, known)} Name it in boundaries_code."
        )
    return frame.assign(**{code: as_text(frame[code]).str.strip()})


def _draw(polygons: Any, bounds: Floats) -> NDArray[np.int32]:
    from rasterio import Affine
    from rasterio.features import rasterize

    left, bottom, right, top = (float(b) for b in bounds)
    width = right - left
    height = top - bottom
    side = max(width, height) / MAX_PIXELS or 1.0
    rows = max(1, int(np.ceil(height / side)))
    columns = max(1, int(np.ceil(width / side)))
    numbered = [(polygon, i) for i, polygon in enumerate(polygons.simplify(side / 2), 1)]
    drawn: NDArray[np.int32] = rasterize(
        numbered,
        out_shape=(rows, columns),
        transform=Affine(side, 0, left, 0, -side, top),
        dtype="int32",
    )
    return drawn
