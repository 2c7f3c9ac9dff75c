"""The tile table of a place, on disk in the order of its rows: read once, checked, and then any rows by their numbers.

What is in memory is a piece of the table: tables are CSV files, which cannot be read from the middle, or Parquet files, whose
row groups may be as large as the table; the copy has the columns that `predict` needs, in row groups of `PIECE` rows.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from extract.errors import TableError
from extract.files.atomic import publish
from extract.settings import TargetsSection
from extract.store.embeddings import Embeddings
from extract.tables.tile_table import Tiles, stream_tiles
from models.data.arrays import Ints
from models.predicting.place_settings import PlaceSettings

PIECE = 16_384
_GROUP = "group "  # before the names of group columns, so that one may be called as the others are


class PlaceTable(Protocol):
    """Rows of a place: their number, and some of them as `Tiles` (path and targets left empty)."""

    def __len__(self) -> int: ...
    def take(self, rows: Ints) -> Tiles: ...  # noqa: D102
    def code_areas(self) -> NDArray[np.int32]: ...  # noqa: D102


class BareTable:
    """The ids of features alone."""

    def __init__(self, features: Embeddings) -> None:
        self._features = features

    def __len__(self) -> int:
        """Count the tiles."""
        return len(self._features)

    def take(self, rows: Ints) -> Tiles:
        """Read the ids of some rows, (n,) increasing."""
        ids = self._features.read_ids(slice(int(rows[0]), int(rows[-1]) + 1))[rows - rows[0]]
        return _as_tiles(
            pd.Series(ids), area=None, xy=None, groups=pd.DataFrame(index=range(len(rows)))
        )

    def code_areas(self) -> NDArray[np.int32]:
        """Return no area: there are none."""
        return np.zeros(len(self), np.int32)


class CopiedTable:
    """A table as `copy_table` wrote it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = pq.ParquetFile(path)
        groups = self._file.metadata
        self._starts = np.cumsum(
            [0, *(groups.row_group(i).num_rows for i in range(groups.num_row_groups))]
        )
        self._is_integer = (self._file.metadata.metadata or {}).get(b"integer ids") == b"yes"

    def __len__(self) -> int:
        """Count the tiles."""
        return int(self._file.metadata.num_rows)

    def take(self, rows: Ints) -> Tiles:
        """Read some rows, (n,) increasing."""
        pieces, starts = np.unique(
            np.searchsorted(self._starts, rows, side="right") - 1, return_index=True
        )
        parts = [
            self._file.read_row_group(int(piece)).take(some - self._starts[piece])
            for piece, some in zip(pieces, np.split(rows, starts[1:]), strict=True)
        ]
        frame = pa.concat_tables(parts).to_pandas()
        ids = frame["id"].astype("int64") if self._is_integer else frame["id"]
        groups = frame[[name for name in frame if name.startswith(_GROUP)]]
        return _as_tiles(
            ids,
            area=frame["area"],
            xy=frame[["x", "y"]].to_numpy() if "x" in frame else None,
            groups=groups.rename(columns=lambda name: name.removeprefix(_GROUP)),
        )

    def code_areas(self) -> NDArray[np.int32]:
        """Number the area of each tile, (n,), in the order in which areas are met."""
        known: dict[str, int] = {}
        code = np.empty(len(self), np.int32)
        for piece, start in enumerate(self._starts[:-1]):
            local, names = pd.factorize(
                self._file.read_row_group(piece, columns=["area"])["area"].to_pandas()
            )
            place = np.array([known.setdefault(str(name), len(known)) for name in names], np.int32)
            code[start : start + len(local)] = place[local]
        return code


def _as_tiles(
    ids: pd.Series[Any],
    *,
    area: pd.Series[str] | None,
    xy: NDArray[np.float64] | None,
    groups: pd.DataFrame,
) -> Tiles:
    none = pd.DataFrame(index=ids.index)
    empty = pd.Series("", index=ids.index)
    return Tiles(
        id=ids,
        path=empty,
        area=empty if area is None else area,
        xy=xy,
        target_names=[],
        targets=none,
        classes=none,
        groups=groups,
    )


def copy_table(settings: PlaceSettings, path: Path, features: list[Embeddings]) -> None:
    """Read a place's table once, from the first row to the last, and write what `predict` needs of it.

    Memory holds `PIECE` rows; where there are no features, whose ids are those of a table that was checked, also 8 bytes a tile,
    to find ids that stand twice.

    Parameters
    ----------
    settings : of the place; targets are not read. features : each has to have the ids of the table, in its order.

    Raises
    ------
    TableError : as `extract.tables.tile_table.read_tiles`; ids that are not those of the features.
    """
    settings = settings.model_copy(update={"targets": TargetsSection()})
    partial = path.with_name(path.name + ".partial")
    writer: Any = None
    n_rows = 0
    is_integer = True
    hashes = []
    try:
        for tiles in stream_tiles(settings, n_rows=PIECE):
            for one in features:
                _check_same(one, tiles, n_rows)
            piece = _as_table(tiles)
            writer = writer or pq.ParquetWriter(partial, piece.schema)
            writer.write_table(piece)
            n_rows = n_rows + len(tiles)
            is_integer = is_integer and tiles.id.dtype == np.int64
            if not features:
                hashes.append(
                    pd.util.hash_array(tiles.id.astype(str).to_numpy(object), categorize=False)
                )
        for one in features:
            if len(one) != n_rows:
                raise _others(one, n_rows)
        _check_once(hashes, settings)
        writer.add_key_value_metadata({"integer ids": "yes" if is_integer else "no"})
    finally:
        if writer is not None:
            writer.close()
    publish(partial, path)


def _as_table(tiles: Tiles) -> pa.Table:
    columns: dict[str, Any] = {
        "id": pa.array(tiles.id.astype(str), pa.string()),
        "area": pa.array(tiles.area, pa.string()),
    }
    if tiles.xy is not None:
        columns |= {"x": tiles.xy[:, 0], "y": tiles.xy[:, 1]}
    return pa.table(
        columns
        | {f"{_GROUP}{name}": pa.array(tiles.groups[name], pa.string()) for name in tiles.groups}
    )


def _check_same(features: Embeddings, tiles: Tiles, start: int) -> None:
    there = features.read_ids(slice(start, start + len(tiles)))
    if not np.array_equal(there.astype(str), tiles.id.to_numpy().astype(str)):
        raise _others(features, start + len(tiles))


def _others(features: Embeddings, n_rows: int) -> TableError:
    return TableError(
        f"{features.path}: its {len(features)} tiles are not those of the table, in its order (they part within "
        f"the first {n_rows} rows). Restore the table, or remove the features of this place: they are made anew."
    )


def _check_once(hashes: list[NDArray[np.uint64]], settings: PlaceSettings) -> None:
    every = np.sort(np.concatenate(hashes)) if hashes else np.zeros(0, np.uint64)
    if (every[1:] == every[:-1]).any():
        raise TableError(
            f"table {settings.tiles.source}: an id stands in more than one row. Every tile needs an id of its own."
        )


def hash_tiles(settings: PlaceSettings) -> str:
    """Return what `Tiles.sha256` is of the whole table, a piece in memory at a time: first the ids, then the paths."""
    settings = settings.model_copy(update={"targets": TargetsSection()})
    digest = hashlib.sha256()
    for column in ("id", "path"):
        for n, tiles in enumerate(stream_tiles(settings, n_rows=PIECE)):
            digest.update(
                ("\0" * (n > 0) + "\0".join(map(str, getattr(tiles, column).tolist()))).encode()
            )
        digest.update(b"\1")
    return digest.hexdigest()
