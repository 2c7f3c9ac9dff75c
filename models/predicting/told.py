"""What is told of a place: predictions of tiles and areas with their intervals, as Parquet, CSV and GeoJSON.

| file | one row |
|---|---|
| `predictions.parquet`, `.csv` | a tile: `id, area, x, y, prediction, low80` … `high95`, `distance, is_outside, in_training` |
| `areas.parquet`, `.csv` | an area: `area, n_tiles, prediction, low80, high80, low95, high95` |
| `predictions.geojson` | a tile's square (or point) in longitude and latitude, where `[tiles]` has coordinates and `crs` |
| `predict.json` | written last: schema `roofline.prediction`, version 1: model, hashes, half widths, measured coverage, notes |

Of a class there are, for the bounds, `set80`, `set95` (of tiles) and `p_<class>`, its probability. `distance` is 1 at the edge of
what the model was fitted on (`models.predicting.reach`); outside is what lies beyond, or has a group that no training tile had.

To raise the schema: add one to `SCHEMA_VERSION`, and write a line in CHANGELOG.md.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from extract.embeddings import publish
from extract.geo import load_geo, read_crs
from extract.tiles import Tiles
from models.arrays import Floats, Ints
from models.kept import KeptModel
from models.predicting.conformal import NOMINAL
from models.predicting.newplace import Place, PlaceError
from models.predicting.placefile import PlaceSettings
from models.runs import write_json

SCHEMA = "roofline.prediction"
SCHEMA_VERSION = 1
_FAR = 10.0  # degrees beyond where a CRS is used: its coordinates are still taken at their word


def write_told(out: Path, place: Place, kept: KeptModel, parts: list[Path], *, key: str) -> dict[str, Any]:
    """Join the parts into the files of this module; a part is in memory at a time, and a few numbers an area."""
    areas, seen = _Areas(kept) if place.has_areas else None, {"n_told": 0, "n_rejected": 0, "n_outside": 0}
    notes = list(_notes(place, kept))
    squares = _open_squares(place, notes)
    names = ["predictions.parquet", "predictions.csv", *(["predictions.geojson"] if squares else [])]
    with ExitStack() as stack:
        files = _Files(out, stack, squares)
        for path in parts:
            part = pd.read_parquet(path)
            rows = part["row"].to_numpy()
            frame = tell_tiles(part, place.table.take(rows), place, kept)
            if areas is not None:
                areas.add(frame, rows)
            seen["n_told"] += len(frame)
            seen["n_rejected"] += int(frame["prediction"].isna().sum())
            seen["n_outside"] += int(frame["is_outside"].sum())
            files.write(frame)
    if seen.pop("n_told") != len(place.table):
        raise PlaceError(f"{out / 'parts'}: not the parts of these tiles. Remove the folder; the same command makes them anew.")
    if areas is not None:
        told = areas.table()
        told.to_parquet(out / "areas.parquet.partial", index=False)
        told.to_csv(out / "areas.csv.partial", index=False)
        names += ["areas.parquet", "areas.csv"]
    for name in names:
        publish(out / f"{name}.partial", out / name)
    facts = {"schema": SCHEMA, "schema_version": SCHEMA_VERSION, "key": key, **kept.cell._asdict(),
             **{name: kept.facts[name] for name in ("target", "intervals", "coverage")}, "n_tiles": len(place.table), **seen,
             "n_areas": 0 if areas is None else len(areas), "in_training": place.is_training, "files": names, "notes": notes,
             "place": place.settings and place.settings.as_json()}
    write_json(out / "predict.json", facts)
    return facts


def _notes(place: Place, kept: KeptModel) -> Iterator[str]:
    if place.settings is None:
        yield "features alone have no areas and no places: neither areas nor a map are written."
    elif not place.has_areas:
        yield "every tile is an area of its own ([tiles] area is the id): no areas are written."
    if place.is_training:
        yield ("these tiles are those that the model was fitted on: the predictions are closer to the truth than those of new "
               "places. Honest ones are the out-of-fold predictions under runs/.")
    for level, widths in kept.facts["intervals"].items():
        lost = " and ".join(f"{float(nominal):.0%}".replace("%", " %") for nominal, width in widths.items() if width is None)
        if lost:
            yield f"{level} level: too few areas in training for intervals of {lost}, which are left empty."
    if kept.facts["split"] == "random":
        yield ("the intervals are of the split 'random', on which tiles of an area stand on both sides: they are too narrow for "
               "new areas. Fit the split 'area' too.")


def tell_tiles(part: pd.DataFrame, tiles: Tiles, place: Place, kept: KeptModel) -> pd.DataFrame:
    """Give the table of a part's tiles.

    Parameters
    ----------
    part : row, prediction (or `p_<class>`, its probability), distance, is_known. tiles : the same rows of the place's table.
    """
    classes = kept.facts["classes"]
    columns: dict[str, Any] = {"id": tiles.id.to_numpy()}
    if place.settings is not None:
        columns["area"] = tiles.area.to_numpy()
    if tiles.xy is not None:
        columns |= {"x": tiles.xy[:, 0], "y": tiles.xy[:, 1]}
    level = "area" if kept.cell.spec.area else "tile"  # an @area model tells of areas, and every tile of one the same
    widths = kept.facts["intervals"].get(level, {})
    columns |= _class_columns(part, classes, widths) if classes else _bounds(part["prediction"].to_numpy(), widths)
    distance = part["distance"].to_numpy()
    is_outside = (distance > 1) | ~part["is_known"].to_numpy()
    return pd.DataFrame({**columns, "distance": distance, "is_outside": is_outside, "in_training": place.is_training})


def _bounds(predicted: Floats, widths: dict[str, Any]) -> dict[str, Floats]:
    found = {"prediction": predicted}
    for nominal in NOMINAL:
        width = widths.get(str(nominal))
        half = np.nan if width is None else float(width)
        found |= {f"low{nominal:.0%}"[:-1]: predicted - half, f"high{nominal:.0%}"[:-1]: predicted + half}
    return found


def _class_columns(part: pd.DataFrame, classes: list[str], widths: dict[str, Any]) -> dict[str, Any]:
    """The likeliest class, the sets that hold the true one as often as they say, and the probabilities."""
    shares = part[[f"p_{name}" for name in classes]].to_numpy(np.float64)
    is_known, names = np.isfinite(shares[:, 0]), np.array(classes, dtype=object)
    best = names[np.where(is_known[:, None], shares, 0).argmax(axis=1)]
    found: dict[str, Any] = {"prediction": pd.Series(best).where(is_known, None).to_numpy()}
    for nominal in NOMINAL:
        width = widths.get(str(nominal))
        least = 0.0 if width is None else 1 - float(width)
        inside = shares >= least - 1e-12
        found[f"set{nominal:.0%}"[:-1]] = ["|".join(names[row]) if known else None
                                           for row, known in zip(inside, is_known, strict=True)]
    return found | {f"p_{name}": shares[:, i] for i, name in enumerate(classes)}


class _Areas:
    """Sums over the tiles of each area, met one after the other: its name, its first row, a count, and a sum or one a class."""

    def __init__(self, kept: KeptModel) -> None:
        self._kept, classes = kept, kept.facts["classes"]
        self._columns = [f"p_{name}" for name in classes] if classes else ["prediction"]
        self._place: dict[str, int] = {}
        self._sums, self._n, self._first = np.zeros((0, len(self._columns))), np.zeros(0), np.zeros(0, np.int64)

    def __len__(self) -> int:
        """Count the areas."""
        return len(self._place)

    def add(self, frame: pd.DataFrame, rows: Ints) -> None:
        """Add the tiles of a part; rejected ones do not count.

        Parameters
        ----------
        rows : (n,) increasing, of the table.
        """
        local, names = pd.factorize(frame["area"])
        place = np.array([self._place.setdefault(str(name), len(self._place)) for name in names])
        more = len(self._place) - len(self._n)
        self._sums, self._n = np.pad(self._sums, ((0, more), (0, 0))), np.pad(self._n, (0, more))
        self._first = np.pad(self._first, (0, more), constant_values=np.iinfo(np.int64).max)
        np.minimum.at(self._first, place, rows[np.unique(local, return_index=True)[1]])
        values = frame[self._columns].to_numpy(np.float64)
        is_known = np.isfinite(values[:, 0])
        self._n[place] += np.bincount(local[is_known], minlength=len(place))
        for i, column in enumerate(values[is_known].T):
            self._sums[place, i] += np.bincount(local[is_known], weights=column, minlength=len(place))

    def table(self) -> pd.DataFrame:
        """Give a row an area, in the order of the table; NaN where every tile was rejected."""
        order = np.argsort(self._first, kind="stable")
        sums, n = self._sums[order], self._n[order]
        mean = np.divide(sums, n[:, None], out=np.full(sums.shape, np.nan), where=n[:, None] > 0)
        start = {"area": np.array(list(self._place), dtype=object)[order], "n_tiles": n.astype(np.int64)}
        classes = self._kept.facts["classes"]
        if not classes:
            return pd.DataFrame({**start, **_bounds(mean[:, 0], self._kept.facts["intervals"].get("area", {}))})
        is_known = n > 0
        best = np.array(classes, dtype=object)[np.where(is_known[:, None], mean, 0).argmax(axis=1)]
        return pd.DataFrame({**start, "prediction": pd.Series(best).where(is_known, None),
                             **dict(zip(self._columns, mean.T, strict=True))})


@dataclass(frozen=True, slots=True)
class _Squares:
    """From tile centres to what GeoJSON wants: `half` is 0 for points [m]."""

    map: Map
    half: float

    def features(self, frame: pd.DataFrame) -> Iterator[str]:
        """Give a feature a tile."""
        x, y = frame["x"].to_numpy(), frame["y"].to_numpy()
        corners = [(-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1)] if self.half else [(0, 0)]
        turned = [np.stack(self.map.turn(x + i * self.half, y + j * self.half), axis=-1) for i, j in corners]
        around = np.stack(turned, axis=1).round(7)
        west, south, east, north = self.map.bounds
        is_there = ((around >= [west, south]) & (around <= [east, north])).all(axis=(1, 2))
        if not is_there.all():
            lost = np.flatnonzero(~is_there)[0]
            raise PlaceError(f"tile {frame['id'].iloc[lost]}: its place ({x[lost]:g}, {y[lost]:g}) is far from where [tiles] crs "
                             "is used. Mend the coordinates (are x and y swapped?), or the crs.")
        facts = frame.drop(columns=["x", "y"]).astype(object).where(frame.drop(columns=["x", "y"]).notna(), None)
        for ring, properties in zip(around.tolist(), facts.to_dict("records"), strict=True):
            shape = {"type": "Polygon", "coordinates": [ring]} if self.half else {"type": "Point", "coordinates": ring[0]}
            yield json.dumps({"type": "Feature", "geometry": shape, "properties": properties}, ensure_ascii=False, default=_plain)


def _plain(value: Any) -> Any:
    return value.item()


class Map(NamedTuple):
    """Where coordinates lie: `turn` gives longitude and latitude; `bounds`, west, south, east and north of all that can be."""

    turn: Any
    bounds: tuple[float, float, float, float]


def check_map(settings: PlaceSettings) -> Map | None:
    """Give the way from a place's coordinates to longitude and latitude; None where there are no coordinates, or no CRS of them.

    Raises
    ------
    PlaceError : a CRS whose coordinates are no metres. ValueError : no such CRS; the extra `geo` is not installed.
    """
    tiles = settings.tiles
    if tiles.crs is None or (tiles.x is None and tiles.grid is None):
        return None
    crs = read_crs(tiles.crs, what="[tiles] crs")
    if not crs.is_projected:
        raise PlaceError(f"[tiles] crs of {settings.name!r}: expected that of x and y in metres, as EPSG:27700, got "
                         f"{tiles.crs!r}, which has degrees. Bring the coordinates of the table to metres.")
    area, bounds = crs.area_of_use, (-180.0, -90.0, 180.0, 90.0)
    if area is not None and area.west < area.east:  # else it lies on both sides of the date line
        bounds = (area.west - _FAR, area.south - _FAR, area.east + _FAR, area.north + _FAR)
    return Map(load_geo("pyproj").Transformer.from_crs(crs, 4326, always_xy=True).transform, bounds)


def _open_squares(place: Place, notes: list[str]) -> _Squares | None:
    """Give the way to GeoJSON, which has longitude and latitude alone (RFC 7946); a note where it cannot be gone."""
    if place.settings is None or (place.settings.tiles.x is None and place.settings.tiles.grid is None):
        return None
    found, tiles = check_map(place.settings), place.settings.tiles
    if found is None:
        notes.append("no GeoJSON: set crs in the place's [tiles] (as \"EPSG:27700\"), which says what its x and y mean.")
        return None
    size = tiles.grid.size_m if tiles.grid is not None else tiles.size_m
    return _Squares(found, (size or 0) / 2)


def _without_null(schema: pa.Schema) -> pa.Schema:
    """Make text of what is empty in the whole first part (a class, where every picture was rejected): later parts hold text."""
    fields = [field.with_type(pa.string()) if pa.types.is_null(field.type) else field for field in schema]
    return pa.schema(fields, metadata=schema.metadata)


class _Files:
    """The tables of tiles, written part by part under `.partial` names."""

    def __init__(self, out: Path, stack: ExitStack, squares: _Squares | None) -> None:
        self._out, self._stack, self._squares = out, stack, squares
        self._csv = stack.enter_context((out / "predictions.csv.partial").open("w", encoding="utf-8", newline=""))
        self._parquet: Any = None
        self._geojson: Any = None
        if squares:
            self._geojson = stack.enter_context((out / "predictions.geojson.partial").open("w", encoding="utf-8"))
            self._geojson.write('{"type": "FeatureCollection", "features": [\n')
            stack.callback(lambda: self._geojson.write("\n]}\n"))
        self._is_first = True

    def write(self, frame: pd.DataFrame) -> None:
        """Write the tiles of a part."""
        table = pa.Table.from_pandas(frame, preserve_index=False, schema=None if self._parquet is None else self._parquet.schema)
        if self._parquet is None:
            table = table.cast(_without_null(table.schema))
            self._parquet = self._stack.enter_context(pq.ParquetWriter(self._out / "predictions.parquet.partial", table.schema))
        self._parquet.write_table(table)
        frame.to_csv(self._csv, index=False, header=self._is_first)
        if self._squares:
            self._geojson.write(("" if self._is_first else ",\n") + ",\n".join(self._squares.features(frame)))
        self._is_first = False
