"""Polygons of areas, and which of them a tile lies in."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from extract.config.suggestions import suggest
from extract.errors import BoundaryError
from extract.tables.text_columns import as_text
from extract.tiling.geo import is_same_crs, is_xml, load_geo, name_crs, read_crs

Rule = Literal["centre", "overlap"]
_CHUNK = 100_000  # tiles that are looked up at once


class Areas:
    """Polygons with their codes, in the CRS of the tiles.

    Attributes
    ----------
    codes : (n_polygons,) of str, sorted. polygons : GeoSeries in the same order. notes : what the user should know.
    """

    def __init__(self, codes: NDArray[Any], polygons: Any, notes: list[str]) -> None:
        order = np.argsort(codes, kind="stable")
        self.codes = codes[order]
        self.polygons = polygons.iloc[order].reset_index(drop=True)
        self.notes = notes

    def find(self, west_south: NDArray[np.float64], *, size_m: float, rule: Rule) -> NDArray[Any]:
        """Return each tile's area: (n_tiles,) of str, empty where it lies in none.

        Parameters
        ----------
        west_south : (n_tiles, 2), south-west corners [m]. size_m : side of the tiles [m].
        rule : the area that holds the centre (on a border, or where polygons overlap: the first by code), or the one that
            the largest part of the tile lies in.
        """
        find = self._by_centre if rule == "centre" else self._by_overlap
        parts = [
            find(west_south[i : i + _CHUNK], size_m) for i in range(0, len(west_south), _CHUNK)
        ]
        row = np.concatenate(parts) if parts else np.empty(0, np.int64)
        return (
            np.where(row < 0, "", self.codes[row])
            if len(self.codes)
            else np.full(len(row), "", object)
        )

    def _by_centre(self, corners: NDArray[np.float64], size_m: float) -> NDArray[np.int64]:
        points = load_geo("shapely").points(corners + size_m / 2)
        tile, polygon = self.polygons.sindex.query(points, predicate="intersects")
        found = np.full(len(corners), len(self.codes), np.int64)
        np.minimum.at(found, tile, polygon)
        return np.where(found == len(self.codes), -1, found)

    def _by_overlap(self, corners: NDArray[np.float64], size_m: float) -> NDArray[np.int64]:
        shapely = load_geo("shapely")
        boxes = shapely.box(*corners.T, *(corners + size_m).T)
        tile, polygon = self.polygons.sindex.query(boxes, predicate="intersects")
        shared = shapely.area(shapely.intersection(boxes[tile], self.polygons.to_numpy()[polygon]))
        _, code = np.unique(self.codes, return_inverse=True)  # an area may be several polygons
        pair, at = np.unique(
            tile * np.int64(len(self.codes) + 1) + code[polygon], return_inverse=True
        )
        total = np.bincount(at, shared, len(pair))
        found = np.full(len(corners), -1, np.int64)
        first = np.searchsorted(code, np.arange(code.max(initial=-1) + 1))
        order = np.lexsort(
            (-pair, total)
        )  # the largest last, which stays; of equals the first by code
        order = order[total[order] > 0]
        found[pair[order] // (len(self.codes) + 1)] = first[pair[order] % (len(self.codes) + 1)]
        return found


def read_areas(
    source: str, code: str, *, crs: Any, bounds: NDArray[np.float64], stated: str | None = None
) -> Areas:
    """Read the polygons that lie where the tiles do.

    Parameters
    ----------
    source : a GeoPackage, Shapefile or GeoJSON; `FILE:LAYER` where it holds several layers.
    code : column of the area codes. crs : of the tiles, which polygons are brought into.
    bounds : (n, 4), west, south, east and north of what is to be covered [m]. stated : CRS of a file that says none.

    Raises
    ------
    BoundaryError : no such file or column, no CRS, no polygon there, something else than polygons, or one without a code.
    """
    path, layer = _find_layer(source)
    own = _check_header(path, layer, code, stated)
    notes = []
    geopandas = load_geo("geopandas")
    shapely = load_geo("shapely")
    window = geopandas.GeoSeries(shapely.box(*bounds.T), crs=crs).to_crs(own).total_bounds
    frame = load_geo("pyogrio").read_dataframe(
        path, layer=layer, columns=[code], bbox=tuple(window)
    )
    frame = frame.set_crs(own, allow_override=True)
    if not is_same_crs(own, crs):
        notes.append(
            f"{path.name}: brought from {name_crs(own)} into {name_crs(crs)}, as the raster is"
        )
        frame = frame.to_crs(crs)
    frame = frame[~(frame.geometry.isna() | frame.geometry.is_empty)]
    if frame.empty:
        where = ", ".join(f"{side:.8g}" for side in window)
        raise BoundaryError(
            f"areas {path}: no polygon lies where the raster does (in its CRS: {where}). Are these the "
            "boundaries of that place, and is the CRS right?"
        )
    return Areas(_read_codes(frame[code], path), _mend(frame.geometry, path, notes), notes)


def _find_layer(source: str) -> tuple[Path, str]:
    pyogrio = load_geo("pyogrio")
    path = Path(source)
    layer = None
    if not path.exists() and ":" in source:
        path = Path(source.rpartition(":")[0])
        layer = source.rpartition(":")[2]
    if not path.exists():
        raise BoundaryError(
            f"areas {source}: no such file. Name a GeoPackage, a Shapefile (.shp) or a GeoJSON."
        )
    if is_xml(path):
        raise BoundaryError(
            f"areas {path}: XML, which may name data in other places. Name a GeoPackage, a Shapefile (.shp) or a "
            "GeoJSON; ogr2ogr converts."
        )
    try:
        layers = [str(name) for name in pyogrio.list_layers(path)[:, 0]]
    except pyogrio.errors.DataSourceError as error:
        raise BoundaryError(
            f"areas {path}: cannot be read ({error}). Name a GeoPackage, a Shapefile (.shp) or a "
            "GeoJSON."
        ) from None
    if layer is None and len(layers) == 1:
        return path, layers[0]
    if layer not in layers:
        raise BoundaryError(
            f"areas {source}: expected a layer of {', '.join(layers)}. Write it as {path.name}:{layers[0]}."
            + suggest(str(layer), layers)
        )
    return path, str(layer)


def _check_header(path: Path, layer: str, code: str, stated: str | None) -> Any:
    """Check columns and CRS, and give the latter."""
    info = load_geo("pyogrio").read_info(path, layer=layer)
    known = [str(name) for name in info["fields"]]
    if code not in known:
        raise BoundaryError(
            f"areas {path}: no column {code!r}; it has {', '.join(known)}.{suggest(code, known)}"
        )
    if info["crs"] is None and stated is None:
        raise BoundaryError(
            f"areas {path}: does not say what its coordinates mean (a .prj is missing?). Say it, as "
            "--areas-crs EPSG:27700."
        )
    said = read_crs(info["crs"], what=f"areas {path}") if info["crs"] else None
    wanted = read_crs(stated, what="--areas-crs") if stated else None
    if said is not None and wanted is not None and not is_same_crs(said, wanted):
        raise BoundaryError(
            f"areas {path}: says that it is in {name_crs(said)}, not in {stated}. Leave --areas-crs out."
        )
    return said or wanted


def _read_codes(column: Any, path: Path) -> NDArray[Any]:
    lost = int(column.isna().sum() + (column.astype(str).str.strip() == "").sum())
    if lost:
        raise BoundaryError(
            f"areas {path}: {lost} polygons have no {column.name!r}. Give them a code, or remove them."
        )
    return as_text(column).str.strip().to_numpy(dtype=object)


def _mend(polygons: Any, path: Path, notes: list[str]) -> Any:
    """Make polygons valid, which else have no area; what is no polygon is refused."""
    kinds = sorted(set(polygons.geom_type) - {"Polygon", "MultiPolygon"})
    if kinds:
        raise BoundaryError(
            f"areas {path}: expected polygons, got {', '.join(kinds)}. Name the file of the boundaries."
        )
    if not np.isfinite(polygons.bounds.to_numpy()).all():
        raise BoundaryError(
            f"areas {path}: a polygon has corners that are not finite numbers. Mend or remove it."
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # shapely warns of what is mended here, and said
        broken = ~polygons.is_valid
        if broken.any():
            notes.append(
                f"{path.name}: {int(broken.sum())} polygons cross themselves, and were mended"
            )
            polygons = polygons.make_valid()
    return polygons
