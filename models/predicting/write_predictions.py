"""What is told of a place: predictions of tiles and areas with their intervals, as Parquet, CSV and GeoJSON.

| file | one row |
|---|---|
| `predictions.parquet`, `.csv` | a tile: `id, area, x, y, prediction, low80` … `high95`, `distance, is_outside, in_training` |
| `areas.parquet`, `.csv` | an area: `area, n_tiles, prediction, low80, high80, low95, high95` |
| `predictions.geojson` | a tile's square (or point) in longitude and latitude, where `[tiles]` has coordinates and `crs` |
| `predict.json` | written last: schema `roofline.prediction`, version 1: model, hashes, half widths, measured coverage, notes |

Of a class there are, for the bounds, `set80`, `set95` (of tiles) and `p_<class>`, its probability. A set is empty where no class
is as likely as the true one is in that share of the tiles; of a rejected tile it is missing. `distance` is 1 at the edge of
what the model was fitted on (`models.predicting.reach`); outside is what lies beyond, or has a group that no training tile had.

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
from extract.files.atomic import publish
from models.predicting.area_predictions import Areas
from models.predicting.map_coordinates import Squares, open_squares
from models.predicting.place import Place
from models.predicting.tile_predictions import tell_tiles
from models.store.kept_models import KeptModel
from models.store.runs import write_json

SCHEMA = "roofline.prediction"
SCHEMA_VERSION = 1


def write_told(
    out: Path, place: Place, kept: KeptModel, parts: list[Path], *, key: str
) -> dict[str, Any]:
    """Join the parts into the files of this module; a part is in memory at a time, and a few numbers an area."""
    areas = Areas(kept) if place.has_areas else None
    seen = {"n_told": 0, "n_rejected": 0, "n_outside": 0}
    notes = list(_notes(place, kept))
    squares = open_squares(place, notes)
    names = [
        "predictions.parquet",
        "predictions.csv",
        *(["predictions.geojson"] if squares else []),
    ]
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
        raise PlaceError(
            f"{out / 'parts'}: not the parts of these tiles. Remove the folder; the same command makes them anew."
        )
    if areas is not None:
        told = areas.table()
        told.to_parquet(out / "areas.parquet.partial", index=False)
        told.to_csv(out / "areas.csv.partial", index=False)
        names += ["areas.parquet", "areas.csv"]
    for name in names:
        publish(out / f"{name}.partial", out / name)
    facts = {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "key": key,
        **kept.cell.as_texts(),
        **{name: kept.facts[name] for name in ("target", "intervals", "coverage")},
        "n_tiles": len(place.table),
        **seen,
        "n_areas": 0 if areas is None else len(areas),
        "in_training": place.is_training,
        "files": names,
        "notes": notes,
        "place": place.settings and place.settings.as_json(),
    }
    write_json(out / "predict.json", facts)
    return facts


def _notes(place: Place, kept: KeptModel) -> Iterator[str]:
    if place.settings is None:
        yield "features alone have no areas and no places: neither areas nor a map are written."
    elif not place.has_areas:
        yield "every tile is an area of its own ([tiles] area is the id): no areas are written."
    if place.is_training:
        yield (
            "these tiles are those that the model was fitted on: the predictions are closer to the truth than those of new "
            "places. Honest ones are the out-of-fold predictions under runs/."
        )
    for level, widths in kept.facts["intervals"].items():
        lost = " and ".join(
            f"{float(nominal):.0%}".replace("%", " %")
            for nominal, width in widths.items()
            if width is None
        )
        if lost:
            yield f"{level} level: too few areas in training for intervals of {lost}, which are left empty."
    if kept.facts["split"] == "random":
        yield (
            "the intervals are of the split 'random', on which tiles of an area stand on both sides: they are too narrow for "
            "new areas. Fit the split 'area' too."
        )


def _without_null(schema: pa.Schema) -> pa.Schema:
    """Make text of what is empty in the whole first part (a class, where every picture was rejected): later parts hold text."""
    fields = [
        field.with_type(pa.string()) if pa.types.is_null(field.type) else field for field in schema
    ]
    return pa.schema(fields, metadata=schema.metadata)


class _Files:
    """The tables of tiles, written part by part under `.partial` names."""

    def __init__(self, out: Path, stack: ExitStack, squares: Squares | None) -> None:
        self._out = out
        self._stack = stack
        self._squares = squares
        self._csv = stack.enter_context(
            (out / "predictions.csv.partial").open("w", encoding="utf-8", newline="")
        )
        self._parquet: Any = None
        self._geojson: Any = None
        if squares:
            self._geojson = stack.enter_context(
                (out / "predictions.geojson.partial").open("w", encoding="utf-8")
            )
            self._geojson.write('{"type": "FeatureCollection", "features": [\n')
            stack.callback(lambda: self._geojson.write("\n]}\n"))
        self._is_first = True

    def write(self, frame: pd.DataFrame) -> None:
        """Write the tiles of a part."""
        table = pa.Table.from_pandas(
            frame,
            preserve_index=False,
            schema=None if self._parquet is None else self._parquet.schema,
        )
        if self._parquet is None:
            table = table.cast(_without_null(table.schema))
            self._parquet = self._stack.enter_context(
                pq.ParquetWriter(self._out / "predictions.parquet.partial", table.schema)
            )
        self._parquet.write_table(table)
        frame.to_csv(self._csv, index=False, header=self._is_first)
        if self._squares:
            self._geojson.write(
                ("" if self._is_first else ",\n") + ",\n".join(self._squares.features(frame))
            )
        self._is_first = False
