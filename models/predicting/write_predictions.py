"""Write the predictions of a place as Parquet, CSV, GeoJSON and GeoPackage.

- `predictions.parquet`, `.csv`: a row a tile: `id, area, x, y, prediction, low80` … `high95`,
  `distance, point_density, is_outside, in_training`.
- `areas.parquet`, `.csv`: a row an area: `area, n_tiles, prediction, low80, high80, low95, high95`.
- `predictions.geojson`: each tile's square (or point) in longitude and latitude, where `[tiles]`
  has coordinates and `crs`.
- `predictions.gpkg`: where there is a GeoJSON, the same tiles and areas as layers `tiles` and
  `areas`, in the coordinates of the table.
- `predict.json`: written last; schema `roofline.prediction`, version 5: model, hashes, half widths,
  measured coverage, distances from training tiles, notes. Version 1 had no hashes of the files, 2
  no `point_density`, 3 no GeoPackage, and 4 no distances: all are predicted anew.

Of a class there are, in place of the bounds, `set80`, `set95` (of tiles) and `p_<class>`, its
probability. A set is empty where no class is as likely as the true one is in that share of the
tiles; of a rejected tile it is missing. `distance` is the dissimilarity to the training rows, 1 at
the limit of the area of applicability, and `point_density` the number of training rows within that
limit (`models.uncertainty.applicability`); outside is what lies beyond, or has a group that no
training tile had.

To raise the schema: add one to `SCHEMA_VERSION`, and write a line in CHANGELOG.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from extract.errors import PlaceError
from extract.files.atomic import name_place, publish
from extract.files.hashing import hash_file
from extract.tables.spreadsheets import quote_formulas
from models.predicting.geojson import GeoJson, open_geojson
from models.predicting.geopackage import GeoPackage
from models.predicting.nearness import Nearness, describe_nearness
from models.predicting.place import Place
from models.predicting.predictions_table import AreaTable, build_schema, build_tile_table
from models.store.documents import describe_file, read_document, write_json
from models.store.kept_models import KeptModel
from models.store.seal import is_sealed, seal

SCHEMA = "roofline.prediction"
SCHEMA_VERSION = 5


def read_facts(out: Path) -> dict[str, Any]:
    """Read the `predict.json` of a folder; that of an older schema has no hashes.

    Raises
    ------
    RunFileError : not there, or another schema.
    PlaceError : changed since it was written.
    """
    path = out / "predict.json"
    facts = read_document(path, SCHEMA, SCHEMA_VERSION)
    if facts["schema_version"] == SCHEMA_VERSION and not is_sealed(facts):
        raise _changed(path)
    return facts


def check_written(out: Path, facts: dict[str, Any], name: str) -> None:
    """Hold a file of some predictions against its hash.

    Raises
    ------
    PlaceError : changed since it was written.
    """
    stated = facts.get("files", {}).get(name)
    if stated is not None and hash_file(out / name) != stated["sha256"]:
        raise _changed(out / name)


def _changed(path: Path) -> PlaceError:
    return PlaceError(
        f"{path}: changed since it was written. Remove {path.parent}, and predict again."
    )


def write_predictions(
    out: Path,
    place: Place,
    kept: KeptModel,
    pieces: list[Path],
    *,
    key: str,
    nearness: Nearness | None,
) -> dict[str, Any]:
    """Join the pieces into the files of this module, with one of them in memory at a time.

    Parameters
    ----------
    key : hash of all that the predictions depend on. nearness : distances from training tiles.

    Returns
    -------
    The content of `predict.json`.
    """
    notes = list(_list_notes(place, kept))
    if nearness is not None and not place.is_training:
        notes += describe_nearness(nearness)
    geojson = open_geojson(place, notes)
    package = _open_package(place, geojson, pieces)
    areas = AreaTable(kept) if place.has_areas else None
    n_tiles = n_rejected = n_outside = 0
    with name_place(out), ExitStack() as stack:
        files = TileFiles(out, pieces, geojson, package, stack)
        for path in pieces:
            piece = pd.read_parquet(path)
            table = build_tile_table(piece, place, kept)
            files.write(table)
            if areas is not None:
                areas.add(table)
            n_tiles += len(table)
            n_rejected += int(table["prediction"].isna().sum())
            n_outside += int(table["is_outside"].sum())
    names = files.names
    n_areas = 0
    if areas is not None:
        area_table = areas.build()
        n_areas = len(area_table)
        area_table.to_parquet(out / "areas.parquet.partial", index=False)
        quote_formulas(area_table).to_csv(out / "areas.csv.partial", index=False)
        names = [*names, "areas.parquet", "areas.csv"]
        if package is not None:
            package.write_areas(area_table)
    if package is not None:
        package.end(out / "predictions.gpkg.partial")
        names = [*names, "predictions.gpkg"]
    for name in names:
        publish(out / f"{name}.partial", out / name)
    facts = {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "key": key,
        **kept.cell.as_texts(),
        **{name: kept.facts[name] for name in ("target", "intervals", "coverage")},
        "n_tiles": n_tiles,
        "n_rejected": n_rejected,
        "n_outside": n_outside,
        "n_areas": n_areas,
        "training_distances_m": nearness,
        "in_training": place.is_training,
        "files": {name: describe_file(out / name) for name in names},
        "notes": notes,
        "place": place.settings and place.settings.as_json(),
    }
    facts = seal(facts)
    write_json(out / "predict.json", facts)
    return facts


def _open_package(place: Place, geojson: GeoJson | None, pieces: list[Path]) -> GeoPackage | None:
    """Return the writer of the GeoPackage, beside the pieces; None where there is no GeoJSON."""
    if place.settings is None or geojson is None:
        return None
    path = pieces[0].with_name("predictions.gpkg")
    return GeoPackage(path, str(place.settings.tiles.crs), geojson.size_m)


def _list_notes(place: Place, kept: KeptModel) -> Iterator[str]:
    if place.settings is None:
        yield "features alone have no areas and no coordinates: no areas and no map are written."
    elif not place.has_areas:
        yield "every tile is an area of its own ([tiles] area is the id): no areas are written."
    if place.is_training:
        yield (
            "these tiles are those that the model was fitted on: the predictions are closer to the "
            "truth than those of new places. Use the out-of-fold predictions under runs/."
        )
    if kept.facts.get("is_refitted"):
        yield (
            f"no file can hold a model of {kept.cell.spec.family!r} safely: it was fitted again on "
            "the experiment's tiles."
        )
    for level, widths in kept.facts["intervals"].items():
        lost = [f"{100 * float(nominal):.0f} %" for nominal, w in widths.items() if w is None]
        if lost:
            yield (
                f"{level} level: too few areas in training for intervals of {' and '.join(lost)}, "
                "which are left empty."
            )
    if kept.facts["split"] == "random":
        yield (
            "the intervals are of the split 'random', which has tiles of one area in training and "
            "test sets: they are too narrow for new areas. Fit the split 'area' too."
        )


class TileFiles:
    """The tables of tiles, written piece by piece under `.partial` names."""

    def __init__(
        self,
        out: Path,
        pieces: list[Path],
        geojson: GeoJson | None,
        package: GeoPackage | None,
        stack: ExitStack,
    ) -> None:
        self._out = out
        self._stack = stack
        self._geojson = geojson
        self._package = package
        self._has_integer_ids = all(_has_integer_ids(path) for path in pieces)
        self._csv = self._open("predictions.csv")
        self._parquet: pq.ParquetWriter | None = None
        self.names = ["predictions.parquet", "predictions.csv"]
        if geojson is not None:
            self.names.append("predictions.geojson")
            geojson.begin(self._open("predictions.geojson"))
            stack.callback(geojson.end)

    def _open(self, name: str) -> Any:
        path = self._out / f"{name}.partial"
        return self._stack.enter_context(path.open("w", encoding="utf-8", newline=""))

    def write(self, table: pd.DataFrame) -> None:
        """Write the tiles of a piece."""
        if self._has_integer_ids:
            table = table.assign(id=table["id"].astype("int64"))
        is_first = self._parquet is None
        if self._parquet is None:
            schema = build_schema(table, has_integer_ids=self._has_integer_ids)
            path = self._out / "predictions.parquet.partial"
            self._parquet = self._stack.enter_context(pq.ParquetWriter(path, schema))
        schema = self._parquet.schema
        self._parquet.write_table(pa.Table.from_pandas(table, schema, preserve_index=False))
        quote_formulas(table).to_csv(self._csv, index=False, header=is_first)
        if self._geojson is not None:
            self._geojson.write(table)
        if self._package is not None:
            self._package.write(table)


def _has_integer_ids(piece: Path) -> bool:
    return bool(pq.read_table(piece, columns=["is_integer_id"])["is_integer_id"][0].as_py())
