"""Read and check the tile table: one row a tile, with picture, place, area and targets."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa

from extract.config.arrays import Floats, Ints
from extract.errors import TableError
from extract.pictures.archives import open_images
from extract.pictures.image_folder import PICTURE_SUFFIXES
from extract.settings import ExtractSettings, GridSection
from extract.tables.text_columns import (
    MISSING,
    check_columns,
    fill_pattern,
    name_braces,
    parse_numbers,
    read_frame,
    release_freed_memory,
    stream_frame,
)

Kind = Literal["number", "class"]

_ROWS = 16384  # ids and paths at once, where each becomes a Python object
_OUTSIDE = r"^/|(?:^|[/\\])\.\.(?:[/\\]|$)"


@dataclass(frozen=True, kw_only=True)
class Tiles:
    """The checked table. Row i of every field is tile i, in the order of the file.

    Attributes
    ----------
    id : (n,), int64 where every id is a whole number, else text; unique.
    path : (n,), picture of each tile, relative to the images.
    area : (n,), label of the area that the tile lies in.
    xy : (n, 2) float64, easting and northing of the tile centres [m], or None where unknown.
    target_names : every target, in the order of the settings.
    targets : (n, n_numbers) float64, one named column a target that is a number; NaN where the
        label is missing.
    classes : (n, n_classes) str objects, one named column a target that is a class; None where
        the label is missing.
    groups : (n, n_groups) text, the area descriptors.
    """

    id: pd.Series[Any]
    path: pd.Series[str]
    area: pd.Series[str]
    xy: Floats | None
    target_names: list[str]
    targets: pd.DataFrame
    classes: pd.DataFrame
    groups: pd.DataFrame

    def __len__(self) -> int:
        """Count the tiles."""
        return len(self.id)

    def kind(self, target: str) -> Kind:
        """Return whether a target is a number or a class."""
        return "class" if target in self.classes else "number"

    @cached_property
    def sha256(self) -> str:
        """Hash of what an extraction depends on: ids and paths, in order."""
        digest = hashlib.sha256()
        for column in (self.id, self.path):
            for start in range(0, len(column), _ROWS):
                if start:
                    digest.update(b"\0")
                values = column.iloc[start : start + _ROWS].tolist()
                digest.update("\0".join(map(str, values)).encode())
            digest.update(b"\1")
        return digest.hexdigest()


def read_tiles(settings: ExtractSettings) -> Tiles:
    """Read the tile table that the settings name, and check every column that they use.

    Raises
    ------
    TableError : no such file or column, an empty table, an id twice, a row without an area, a
        target, x or y that is not a number, a path that leaves the images folder.
    """
    table = settings.tiles.table
    with release_freed_memory():
        if table is None:
            return _check_frame(_list_folders(settings), settings)
        return _check_frame(read_frame(table, _list_columns(settings)), settings)


def stream_tiles(settings: ExtractSettings, *, n_rows: int) -> Iterator[Tiles]:
    """Read the same table a piece at a time, so that it is never in memory as a whole.

    An id that stands twice is noticed where both stand in one piece. With `layout = "folders"`
    the list of pictures is whole.

    Raises
    ------
    TableError : as `read_tiles`.
    """
    table = settings.tiles.table
    if table is None:
        frame = _list_folders(settings)
        starts = range(0, len(frame), n_rows)
        frames = (frame.iloc[i : i + n_rows] for i in starts)
    else:
        frames = (frame for frame in stream_frame(table, _list_columns(settings), n_rows))
    n_seen = 0
    try:
        for piece in frames:
            if len(piece):
                yield _check_frame(piece.reset_index(drop=True), settings)
            n_seen += len(piece)
        if not n_seen:
            raise TableError(f"table {table}: no rows; expected one row a tile.")
    except (ValueError, OSError):
        read_tiles(settings)  # its error names what is wrong, and the line
        raise


def _check_frame(frame: pd.DataFrame, settings: ExtractSettings) -> Tiles:
    section = settings.tiles
    made = settings.targets.made
    frame = frame.assign(**{name: fill_pattern(frame, pattern) for name, pattern in made.items()})
    ids = _check_ids(frame[section.id], section.source)
    targets = {name: _read_target(frame[name], settings) for name in settings.targets.names}
    table = pd.DataFrame(targets, index=ids.index)
    is_class = [column.dtype == object for column in targets.values()]
    return Tiles(
        id=ids,
        path=_fill_paths(frame, section.path, section.source),
        area=_check_filled(frame[section.area], section.source),
        xy=_read_places(frame, ids, settings),
        target_names=list(targets),
        targets=table.loc[:, np.logical_not(is_class)],
        classes=table.loc[:, is_class],
        groups=frame[section.groups].reset_index(drop=True),
    )


def _list_columns(settings: ExtractSettings) -> list[str]:
    """List every column that the settings use, each once."""
    section = settings.tiles
    made = settings.targets.made
    names = [section.id, section.area]
    if section.x and section.y:
        names += [section.x, section.y]
    names += section.groups
    names += [name for name in settings.targets.names if name not in made]
    names += name_braces(section.path, "[tiles] path")
    for target, pattern in made.items():
        names += name_braces(pattern, f"[targets] made.{target}")
    return list(dict.fromkeys(names))


def _list_folders(settings: ExtractSettings) -> pd.DataFrame:
    """List the pictures of a folder a class, sorted by path, without hidden files and folders."""
    images = settings.tiles.images
    names = sorted(filter(_is_class_picture, open_images(settings.tiles).names()))
    if not names:
        raise TableError(
            f"images {images}: no pictures in subfolders; expected <class>/<picture>, as "
            "'urban/1.png'."
        )
    paths = [PurePosixPath(name) for name in names]
    columns = {
        "id": names,
        "class": [path.parts[0] for path in paths],
        "folder": [str(path.parent) for path in paths],
        "file": [path.name for path in paths],
    }
    check_columns(_list_columns(settings), list(columns), f"layout 'folders' of {images}")
    return pd.DataFrame(columns, dtype=str)


def _is_class_picture(name: str) -> bool:
    path = PurePosixPath(name)
    is_hidden = any(part.startswith(".") for part in path.parts)
    return len(path.parts) > 1 and path.suffix.lower() in PICTURE_SUFFIXES and not is_hidden


def _read_target(column: pd.Series[str], settings: ExtractSettings) -> pd.Series[Any]:
    """Read a target: float64 where it is a number, str objects and None where it is a class.

    A class is what `[targets] classes` names, and a column in which no value is a number, nor
    meant as one.
    """
    numbers, blank = parse_numbers(column)
    if column.name not in settings.targets.classes:
        has_commas = column.str.fullmatch(r"\s*[-+]?\d*,\d+\s*").any()
        if blank.all() or not np.isnan(numbers).all() or has_commas:
            return _check_numbers(column, settings.tiles.source)
    text = column.str.strip()
    lower = text.str.lower()
    is_boolean = lower[~blank].isin(["true", "false"]).all()
    return (lower if is_boolean else text).astype(object).where(~blank, None)


def _check_ids(column: pd.Series[str], table: Path) -> pd.Series[Any]:
    text = _check_filled(column, table)
    ids: pd.Series[Any] = text
    if text.str.fullmatch(r"0|-?[1-9]\d{0,17}").all():
        ids = pd.Series(pa.array(text, pa.string()).cast(pa.int64()).to_numpy(), name=text.name)
    twice = text[ids.duplicated()].unique()
    if len(twice):
        raise TableError(
            f"table {table}: {len(twice)} ids stand in more than one row "
            f"({', '.join(twice[:3])}). Every tile needs an id of its own: remove or rename those "
            "rows."
        )
    return ids


def _refuse_rows(is_bad: Any, column: pd.Series[Any], table: Path, what: str, remedy: str) -> None:
    """Raise where a column has rows that cannot be used; names the first."""
    rows = np.flatnonzero(is_bad)
    if len(rows):
        value = column.iloc[rows[0]]
        first = f"line {rows[0] + 2}, {value!r}" if value else f"line {rows[0] + 2}"
        raise TableError(
            f"table {table}: column {column.name!r} is {what} in {len(rows)} rows "
            f"(first: {first}). {remedy}"
        )


def _check_filled(column: pd.Series[str], table: Path) -> pd.Series[str]:
    text = column.str.strip()
    is_empty = text.str.lower().isin(MISSING)
    _refuse_rows(is_empty, column, table, "empty", "Fill them in, or remove those rows.")
    return text


def _check_numbers(column: pd.Series[str], table: Path) -> pd.Series[float]:
    numbers, blank = parse_numbers(column)
    is_bad = (np.isnan(numbers) & ~blank) | np.isinf(numbers)
    remedy = "Write numbers with a point, or leave it empty."
    _refuse_rows(is_bad, column, table, "not a number", remedy)
    return pd.Series(numbers, name=column.name)


def _fill_paths(frame: pd.DataFrame, pattern: str, table: Path) -> pd.Series[str]:
    paths = fill_pattern(frame, pattern)
    outside = np.flatnonzero(paths.str.contains(_OUTSIDE))
    if len(outside):
        raise TableError(
            f"table {table}: line {outside[0] + 2} names the picture "
            f"{paths.iloc[outside[0]]!r}, which is outside the images folder. Paths must stay "
            "inside it."
        )
    return paths


def _read_places(
    frame: pd.DataFrame, ids: pd.Series[Any], settings: ExtractSettings
) -> Floats | None:
    section = settings.tiles
    if section.grid is not None:
        if ids.dtype != np.int64:
            raise TableError(
                f"table {section.source}: [tiles] grid needs whole-number ids, got "
                f"{ids.iloc[0]!r}. Use x and y."
            )
        return grid_places(ids.to_numpy(), section.grid)
    if section.x is None or section.y is None:
        return None
    places = []
    for name in (section.x, section.y):
        numbers = _check_numbers(frame[name], section.source)
        remedy = "Every tile needs a place: fill them in, or remove those rows."
        _refuse_rows(numbers.isna(), frame[name], section.source, "empty", remedy)
        places.append(numbers)
    return np.column_stack(places)


def grid_places(ids: Ints, grid: GridSection) -> Floats:
    """Return the tile centres that grid ids encode.

    Parameters
    ----------
    ids : (n,), column-major number of the grid square, counted from the north-west corner.
    grid : rows a column, side of a square [m], easting and northing of the corner [m].

    Returns
    -------
    (n, 2), easting and northing of the centres [m].
    """
    column, row = np.divmod(ids, grid.rows)
    east, north = grid.origin
    half = grid.size_m / 2
    x = east + grid.size_m * column + half
    y = north - grid.size_m * row - half
    return np.column_stack([x, y])
