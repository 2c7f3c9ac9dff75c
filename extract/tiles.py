"""The tile table: one row a tile, with its picture, its place, its area and its targets."""

from __future__ import annotations

import hashlib
import re
import string
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import repeat
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from extract.archives import open_images
from extract.images import PICTURE_SUFFIXES
from extract.settings import GridSettings, Settings, suggest

Kind = Literal["number", "class"]

_MISSING = {"", "na", "nan", "n/a", "null", "none"}


class TableError(ValueError):
    """The tile table cannot be used; the text says which column or row, and what to do."""


@dataclass(frozen=True, kw_only=True)
class Tiles:
    """The checked table. Row i of every field is tile i, in the order of the file.

    Attributes
    ----------
    id : (n,), int64 where every id is a whole number, else text; unique.
    path : (n,), picture of each tile, relative to the images.
    area : (n,), label of the area that the tile lies in.
    xy : (n, 2) float64, easting and northing of the tile centres [m], or None where no place is known.
    target_names : every target, in the order of the settings.
    targets : (n, n_numbers) float64, one named column a target that is a number; NaN where the label is missing.
    classes : (n, n_classes) of str objects, one named column a target that is a class; None where the label is missing.
    groups : (n, n_groups) text, the area descriptors.
    """

    id: pd.Series[Any]
    path: pd.Series[str]
    area: pd.Series[str]
    xy: NDArray[np.float64] | None
    target_names: list[str]
    targets: pd.DataFrame
    classes: pd.DataFrame
    groups: pd.DataFrame

    def __len__(self) -> int:
        """Count the tiles."""
        return len(self.id)

    def kind(self, target: str) -> Kind:
        """Tell whether a target is a number or a class."""
        return "class" if target in self.classes else "number"

    @cached_property
    def sha256(self) -> str:
        """Hash of what an extraction depends on: ids and paths, in order."""
        digest = hashlib.sha256()
        for column in (map(str, self.id.tolist()), self.path.tolist()):
            digest.update("\0".join(column).encode())
            digest.update(b"\1")
        return digest.hexdigest()


def read_tiles(settings: Settings) -> Tiles:
    """Read the tile table that the settings name, and check every column that they use.

    Raises
    ------
    TableError : no such file or column, an empty table, an id twice, a row without an area, a target, x or y that is
        not a number, a path that leaves the images folder.
    """
    frame = _list_folders(settings) if settings.tiles.table is None else _read_frame(settings.tiles.table, _columns(settings))
    return _check_frame(frame, settings)


def stream_tiles(settings: Settings, *, n_rows: int) -> Iterator[Tiles]:
    """Read the same table a piece at a time, so that it is never in memory as a whole.

    An id that stands twice is noticed where both stand in one piece. With `layout = "folders"` the list of pictures is whole.

    Raises
    ------
    TableError : as `read_tiles`.
    """
    table, n_done = settings.tiles.table, 0
    try:
        for frame in [_list_folders(settings)] if table is None else _stream_frame(table, _columns(settings), n_rows):
            for start in range(0, len(frame), n_rows):
                yield _check_frame(frame.iloc[start:start + n_rows].reset_index(drop=True), settings)
                n_done += 1
        if not n_done:
            raise TableError(f"table {table}: no rows; expected one row a tile.")
    except (ValueError, OSError):
        read_tiles(settings)  # says what is wrong, and in which line
        raise


def _check_frame(frame: pd.DataFrame, settings: Settings) -> Tiles:
    tiles = settings.tiles
    frame = frame.assign(**{name: _fill(frame, pattern) for name, pattern in settings.targets.made.items()})
    ids = _check_ids(frame[tiles.id], tiles.source)
    targets = {name: _target(frame[name], settings) for name in settings.targets.names}
    is_class = {name: column.dtype == object for name, column in targets.items()}
    return Tiles(
        id=ids,
        path=_paths(frame, tiles.path, tiles.source),
        area=_check_filled(frame[tiles.area], tiles.source),
        xy=_places(frame, ids, settings),
        target_names=list(targets),
        targets=pd.DataFrame({name: column for name, column in targets.items() if not is_class[name]}, index=ids.index),
        classes=pd.DataFrame({name: column for name, column in targets.items() if is_class[name]}, index=ids.index),
        groups=frame[tiles.groups].reset_index(drop=True),
    )


def _columns(settings: Settings) -> list[str]:
    """Name every column that the settings use, each once."""
    tiles = settings.tiles
    made = settings.targets.made
    names = [tiles.id, tiles.area, *([tiles.x, tiles.y] if tiles.x and tiles.y else []), *tiles.groups,
             *(name for name in settings.targets.names if name not in made), *_braces(tiles.path, "[tiles] path"),
             *(name for target, pattern in made.items() for name in _braces(pattern, f"[targets] made.{target}"))]
    return list(dict.fromkeys(names))


def _list_folders(settings: Settings) -> pd.DataFrame:
    """Make the table of a folder a class: one row a picture, sorted by path; hidden files and folders are left out."""
    images = settings.tiles.images
    names = sorted(name for name in open_images(settings.tiles).names() if _is_class_picture(name))
    if not names:
        raise TableError(f"images {images}: no pictures in subfolders; expected <class>/<picture>, as 'urban/1.png'.")
    paths = [PurePosixPath(name) for name in names]
    frame = pd.DataFrame({"id": names, "class": [p.parts[0] for p in paths], "folder": [str(p.parent) for p in paths],
                          "file": [p.name for p in paths]}, dtype=str)
    _check_columns(_columns(settings), list(frame), f"layout 'folders' of {images}")
    return frame


def _is_class_picture(name: str) -> bool:
    path = PurePosixPath(name)
    return len(path.parts) > 1 and path.suffix.lower() in PICTURE_SUFFIXES and not any(p.startswith(".") for p in path.parts)


def _check_columns(columns: list[str], known: list[Any], where: str) -> None:
    for name in columns:
        if name not in known:
            raise TableError(f"{where}: no column {name!r}; it has {', '.join(map(str, known))}.{suggest(name, known)}")


def _target(column: pd.Series[str], settings: Settings) -> pd.Series[Any]:
    """Read a target: float64 where it is a number, str objects and None where it is a class.

    A class is what `[targets] classes` names, and a column in which no value is a number, nor meant as one.
    """
    is_class = column.name in settings.targets.classes
    if not is_class:
        numbers, blank = _parse(column)
        if blank.all() or not np.isnan(numbers).all() or column.str.fullmatch(r"\s*[-+]?\d*,\d+\s*").any():
            return _numbers(column, settings.tiles.source, parsed=(numbers, blank))
    text = column.str.strip().reset_index(drop=True)
    lower = text.str.lower()
    blank = lower.isin(_MISSING).to_numpy()
    is_boolean = lower[~blank].isin(["true", "false"]).all()
    return (lower if is_boolean else text).astype(object).where(~blank, None)


def _braces(pattern: str, where: str) -> list[str]:
    try:
        return [name for _, name, _, _ in string.Formatter().parse(pattern) if name]
    except ValueError as error:
        raise TableError(f"{where} {pattern!r}: {error}. Write columns in braces, as 'LIDAR_{{id}}.png'.") from None


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
    _check_columns(columns, known, f"table {path}")
    if frame.empty:
        raise TableError(f"table {path}: no rows; expected one row a tile.")
    return frame


def _stream_frame(path: Path, columns: list[str], n_rows: int) -> Iterator[pd.DataFrame]:
    """Give the named columns as `_read_frame` does, some rows at a time."""
    if path.suffix.lower() in {".parquet", ".pq"}:
        with pq.ParquetFile(path) as file:
            _check_columns(columns, file.schema_arrow.names, f"table {path}")
            fractions = {name for name in columns if _has_fractions(file, name, n_rows)}
            for batch in file.iter_batches(n_rows, columns=columns):
                frame = batch.to_pandas()
                yield pd.DataFrame({name: _as_text(frame[name].astype(object) if name in fractions else frame[name])
                                    for name in columns})
        return
    _check_columns(columns, list(pd.read_csv(path, nrows=0, encoding="utf-8-sig").columns), f"table {path}")
    yield from pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig", usecols=columns, chunksize=n_rows)


def _has_fractions(file: pq.ParquetFile, name: str, n_rows: int) -> bool:
    """Tell whether a column holds numbers that are not whole; then the whole ones among them have a point too."""
    if not pa.types.is_floating(file.schema_arrow.field(name).type):
        return False
    pieces = (batch.column(0).drop_null().to_numpy() for batch in file.iter_batches(n_rows, columns=[name]))
    return any((piece != piece.round()).any() for piece in pieces)


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


def _parse(column: pd.Series[str]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Read text as numbers: (n,) NaN where there is none, and (n,) whether it is empty or says that it is missing."""
    text = column.str.strip()
    blank = text.str.lower().isin(_MISSING).to_numpy()
    filled = text.where(~blank)
    try:
        numbers = pa.array(filled, pa.string(), from_pandas=True).cast(pa.float64()).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid:  # some are no numbers, and pandas tells which
        numbers = pd.to_numeric(filled, errors="coerce").to_numpy()
    return np.asarray(numbers, np.float64), blank


def _numbers(column: pd.Series[str], table: Path, *, parsed: tuple[NDArray[np.float64], NDArray[np.bool_]] | None = None
             ) -> pd.Series[float]:
    """Check that a column is numbers, NaN where it is empty or says so."""
    numbers, blank = parsed or _parse(column)
    bad = np.flatnonzero((np.isnan(numbers) & ~blank) | np.isinf(numbers))
    if len(bad):
        raise TableError(f"table {table}: column {column.name!r} is not a number in {len(bad)} rows "
                         f"(first: line {bad[0] + 2}, {column.iloc[bad[0]]!r}). Write numbers with a point, or leave it empty.")
    return pd.Series(numbers, name=column.name)


def _fill(frame: pd.DataFrame, pattern: str) -> pd.Series[str]:
    """Put each row's columns into the braces of a pattern."""
    parts: list[Iterable[str]] = []
    for literal, name, spec, _ in string.Formatter().parse(pattern):
        parts.append(repeat(literal, len(frame)))
        if name:
            values = frame[name].str.strip().tolist()
            parts.append([format(value, spec) for value in values] if spec else values)
    return pd.Series(["".join(row) for row in zip(*parts, strict=True)], dtype=str)


def _paths(frame: pd.DataFrame, pattern: str, table: Path) -> pd.Series[str]:
    paths = _fill(frame, pattern)
    suspects = np.flatnonzero(paths.str.startswith("/") | paths.str.contains("..", regex=False))
    outside = [row for row in suspects if re.search(r"^/|(?:^|[/\\])\.\.(?:[/\\]|$)", paths.iloc[row])]
    if outside:
        raise TableError(f"table {table}: line {outside[0] + 2} names the picture {paths.iloc[outside[0]]!r}, which is outside "
                         "the images folder. Paths must stay inside it.")
    return paths


def _places(frame: pd.DataFrame, ids: pd.Series[Any], settings: Settings) -> NDArray[np.float64] | None:
    tiles = settings.tiles
    if tiles.grid is not None:
        if ids.dtype != np.int64:
            raise TableError(f"table {tiles.source}: [tiles] grid needs whole-number ids, got {ids.iloc[0]!r}. Use x and y.")
        return grid_places(ids.to_numpy(), tiles.grid)
    if tiles.x is None or tiles.y is None:
        return None
    xy = np.column_stack([_numbers(frame[name], tiles.source) for name in (tiles.x, tiles.y)])
    lost = np.flatnonzero(np.isnan(xy).any(axis=1))
    if len(lost):
        raise TableError(f"table {tiles.source}: {len(lost)} rows have no place (first: line {lost[0] + 2}). "
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
