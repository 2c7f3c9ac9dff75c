"""The tile table: one row a tile, with its picture, its place, its area and its targets."""

from __future__ import annotations

import hashlib
import string
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from extract.settings import GridSettings, Settings, suggest

_MISSING = {"", "na", "nan", "n/a", "null", "none"}


class TableError(ValueError):
    """The tile table cannot be used; the text says which column or row, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiles:
    """The checked table. Row i of every field is tile i, in the order of the file.

    Attributes
    ----------
    id : (n,), int64 where every id is a whole number, else text; unique.
    path : (n,), picture of each tile, relative to the images folder.
    area : (n,), label of the area that the tile lies in.
    xy : (n, 2) float64, easting and northing of the tile centres [m], or None where no place is known.
    targets : (n, n_targets) float64, one named column a target; NaN where the label is missing.
    groups : (n, n_groups) text, the area descriptors.
    """

    id: pd.Series[Any]
    path: pd.Series[str]
    area: pd.Series[str]
    xy: NDArray[np.float64] | None
    targets: pd.DataFrame
    groups: pd.DataFrame

    def __len__(self) -> int:
        """Count the tiles."""
        return len(self.id)

    @property
    def sha256(self) -> str:
        """Hash of what an extraction depends on: ids and paths, in order."""
        digest = hashlib.sha256()
        for column in (self.id.astype(str), self.path):
            digest.update("\0".join(column.tolist()).encode())
            digest.update(b"\1")
        return digest.hexdigest()


def read_tiles(settings: Settings) -> Tiles:
    """Read the tile table that the settings name, and check every column that they use.

    Raises
    ------
    TableError : no such file or column, an empty table, an id twice, a row without an area, a target, x or y that is
        not a number, a path that leaves the images folder.
    """
    frame = _read_frame(settings.tiles.table, _columns(settings))
    tiles = settings.tiles
    ids = _check_ids(frame[tiles.id], tiles.table)
    return Tiles(
        id=ids,
        path=_paths(frame, tiles.path, tiles.table),
        area=_check_filled(frame[tiles.area], tiles.table),
        xy=_places(frame, ids, settings),
        targets=pd.DataFrame({c: _numbers(frame[c], tiles.table) for c in settings.targets.columns}),
        groups=frame[tiles.groups].reset_index(drop=True),
    )


def _columns(settings: Settings) -> list[str]:
    """Name every column that the settings use, each once."""
    tiles = settings.tiles
    names = [tiles.id, tiles.area, *([tiles.x, tiles.y] if tiles.x and tiles.y else []), *tiles.groups,
             *settings.targets.columns, *_braces(tiles.path)]
    return list(dict.fromkeys(names))


def _braces(pattern: str) -> list[str]:
    try:
        return [name for _, name, _, _ in string.Formatter().parse(pattern) if name]
    except ValueError as error:
        raise TableError(f"[tiles] path {pattern!r}: {error}. Write columns in braces, as 'LIDAR_{{id}}.png'.") from None


def _read_frame(path: Path, columns: list[str]) -> pd.DataFrame:
    """Read the named columns as text ('' where empty), so that '007' stays '007'."""
    if not path.is_file():
        raise TableError(f"table {path}: no such file. Mend [tiles] table; paths are relative to the settings file.")
    try:
        if path.suffix.lower() in {".parquet", ".pq"}:
            frame = pd.read_parquet(path)
            frame = pd.DataFrame({name: _as_text(frame[name]) for name in columns if name in frame})
            known = list(pd.read_parquet(path, columns=None).columns) if len(frame.columns) < len(columns) else columns
        else:
            known = list(pd.read_csv(path, nrows=0, encoding="utf-8-sig").columns)
            frame = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig",
                                usecols=[name for name in columns if name in known])
    except pd.errors.EmptyDataError:
        raise TableError(f"table {path}: empty; expected a header and one row a tile.") from None
    except (ValueError, OSError) as error:
        raise TableError(f"table {path}: cannot be read as {path.suffix or 'CSV'}: {error}") from None
    for name in columns:
        if name not in known:
            raise TableError(f"table {path}: no column {name!r}; it has {', '.join(map(str, known))}.{suggest(name, known)}")
    if frame.empty:
        raise TableError(f"table {path}: no rows; expected one row a tile.")
    return frame


def _as_text(column: pd.Series[Any]) -> pd.Series[str]:
    """Write a typed column as a CSV would: whole numbers without a point, nothing where it is missing."""
    numbers = column.dropna()
    if pd.api.types.is_float_dtype(numbers) and (numbers == numbers.round()).all():
        return column.map(lambda v: "" if pd.isna(v) else str(int(v)))
    return column.map(lambda v: "" if pd.isna(v) else str(v))


def _check_ids(column: pd.Series[str], table: Path) -> pd.Series[Any]:
    ids = _check_filled(column, table)
    twice = ids[ids.duplicated()]
    if len(twice):
        examples = ", ".join(twice.unique()[:3])
        raise TableError(f"table {table}: {twice.nunique()} ids stand in more than one row ({examples}). "
                         "Every tile needs an id of its own: remove or rename those rows.")
    is_integer = ids.str.fullmatch(r"0|-?[1-9]\d{0,17}").all()
    return ids.astype("int64") if is_integer else ids


def _check_filled(column: pd.Series[str], table: Path) -> pd.Series[str]:
    text = column.str.strip()
    empty = np.flatnonzero(text.str.lower().isin(_MISSING))
    if len(empty):
        raise TableError(f"table {table}: column {column.name!r} is empty in {len(empty)} rows (first: line {empty[0] + 2}). "
                         "Fill them in, or remove those rows.")
    return text.reset_index(drop=True)


def _numbers(column: pd.Series[str], table: Path) -> pd.Series[float]:
    """Read a column as numbers; NaN where it is empty or says so."""
    text = column.str.strip()
    blank = text.str.lower().isin(_MISSING)
    numbers = pd.to_numeric(text.where(~blank), errors="coerce").astype("float64")
    bad = np.flatnonzero((numbers.isna() & ~blank) | np.isinf(numbers))
    if len(bad):
        raise TableError(f"table {table}: column {column.name!r} is not a number in {len(bad)} rows "
                         f"(first: line {bad[0] + 2}, {column.iloc[bad[0]]!r}). Write numbers with a point, or leave it empty.")
    return numbers.reset_index(drop=True)


def _paths(frame: pd.DataFrame, pattern: str, table: Path) -> pd.Series[str]:
    names = _braces(pattern)
    columns = [frame[name].str.strip() for name in names]
    rows = zip(*columns, strict=True)
    paths = pd.Series([pattern.format(**dict(zip(names, row, strict=True))) for row in rows], dtype=str)
    outside = np.flatnonzero(paths.str.startswith("/") | paths.str.contains(r"(?:^|[/\\])\.\.(?:[/\\]|$)"))
    if len(outside):
        raise TableError(f"table {table}: line {outside[0] + 2} names the picture {paths.iloc[outside[0]]!r}, which is outside "
                         "the images folder. Paths must stay inside it.")
    return paths


def _places(frame: pd.DataFrame, ids: pd.Series[Any], settings: Settings) -> NDArray[np.float64] | None:
    tiles = settings.tiles
    if tiles.grid is not None:
        if ids.dtype != np.int64:
            raise TableError(f"table {tiles.table}: [tiles] grid needs whole-number ids, got {ids.iloc[0]!r}. Use x and y.")
        return grid_places(ids.to_numpy(), tiles.grid)
    if tiles.x is None or tiles.y is None:
        return None
    xy = np.column_stack([_numbers(frame[name], tiles.table) for name in (tiles.x, tiles.y)])
    lost = np.flatnonzero(np.isnan(xy).any(axis=1))
    if len(lost):
        raise TableError(f"table {tiles.table}: {len(lost)} rows have no place (first: line {lost[0] + 2}). "
                         f"Fill in {tiles.x!r} and {tiles.y!r}, or remove those rows.")
    return xy


def grid_places(ids: NDArray[np.int64], grid: GridSettings) -> NDArray[np.float64]:
    """Give the tile centres that grid ids encode.

    Parameters
    ----------
    ids : (n,), column-major number of the grid square, counted from the north-west corner.
    grid : rows a column, side of a square [m], easting and northing of the corner [m].

    Returns
    -------
    (n, 2), easting and northing of the centres [m].
    """
    column, row = np.divmod(ids, grid.rows)
    half = grid.size_m / 2
    return np.column_stack([grid.origin[0] + grid.size_m * column + half, grid.origin[1] - grid.size_m * row - half])
