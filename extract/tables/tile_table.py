"""The tile table: one row a tile, with its picture, its place, its area and its targets."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

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
        """Return whether a target is a number or a class."""
        return "class" if target in self.classes else "number"

    @cached_property
    def sha256(self) -> str:
        """Hash of what an extraction depends on: ids and paths, in order."""
        digest = hashlib.sha256()
        for column in (self.id, self.path):
            for start in range(0, len(column), _ROWS):
                text = "\0".join(map(str, column.iloc[start : start + _ROWS].tolist()))
                digest.update((("\0" if start else "") + text).encode())
            digest.update(b"\1")
        return digest.hexdigest()


def read_tiles(settings: ExtractSettings) -> Tiles:
    """Read the tile table that the settings name, and check every column that they use.

    Raises
    ------
    TableError : no such file or column, an empty table, an id twice, a row without an area, a target, x or y that is
        not a number, a path that leaves the images folder.
    """
    table = settings.tiles.table
    with release_freed_memory():
        return _check_frame(
            _list_folders(settings) if table is None else read_frame(table, _columns(settings)),
            settings,
        )


def stream_tiles(settings: ExtractSettings, *, n_rows: int) -> Iterator[Tiles]:
    """Read the same table a piece at a time, so that it is never in memory as a whole.

    An id that stands twice is noticed where both stand in one piece. With `layout = "folders"` the list of pictures is whole.

    Raises
    ------
    TableError : as `read_tiles`.
    """
    table = settings.tiles.table
    n_done = 0
    try:
        for frame in (
            [_list_folders(settings)]
            if table is None
            else stream_frame(table, _columns(settings), n_rows)
        ):
            for start in range(0, len(frame), n_rows):
                yield _check_frame(
                    frame.iloc[start : start + n_rows].reset_index(drop=True), settings
                )
                n_done += 1
        if not n_done:
            raise TableError(f"table {table}: no rows; expected one row a tile.")
    except (ValueError, OSError):
        read_tiles(settings)  # says what is wrong, and in which line
        raise


def _check_frame(frame: pd.DataFrame, settings: ExtractSettings) -> Tiles:
    tiles = settings.tiles
    frame = frame.assign(
        **{name: fill_pattern(frame, pattern) for name, pattern in settings.targets.made.items()}
    )
    ids = _check_ids(frame[tiles.id], tiles.source)
    targets = {name: _target(frame[name], settings) for name in settings.targets.names}
    is_class = {name: column.dtype == object for name, column in targets.items()}
    return Tiles(
        id=ids,
        path=_paths(frame, tiles.path, tiles.source),
        area=_check_filled(frame[tiles.area], tiles.source),
        xy=_places(frame, ids, settings),
        target_names=list(targets),
        targets=pd.DataFrame(
            {name: column for name, column in targets.items() if not is_class[name]},
            index=ids.index,
        ),
        classes=pd.DataFrame(
            {name: column for name, column in targets.items() if is_class[name]}, index=ids.index
        ),
        groups=frame[tiles.groups].reset_index(drop=True),
    )


def _columns(settings: ExtractSettings) -> list[str]:
    """Name every column that the settings use, each once."""
    tiles = settings.tiles
    made = settings.targets.made
    names = [
        tiles.id,
        tiles.area,
        *([tiles.x, tiles.y] if tiles.x and tiles.y else []),
        *tiles.groups,
        *(name for name in settings.targets.names if name not in made),
        *name_braces(tiles.path, "[tiles] path"),
        *(
            name
            for target, pattern in made.items()
            for name in name_braces(pattern, f"[targets] made.{target}")
        ),
    ]
    return list(dict.fromkeys(names))


def _list_folders(settings: ExtractSettings) -> pd.DataFrame:
    """Make the table of a folder a class: one row a picture, sorted by path; hidden files and folders are left out."""
    images = settings.tiles.images
    names = sorted(name for name in open_images(settings.tiles).names() if _is_class_picture(name))
    if not names:
        raise TableError(
            f"images {images}: no pictures in subfolders; expected <class>/<picture>, as 'urban/1.png'."
        )
    paths = [PurePosixPath(name) for name in names]
    frame = pd.DataFrame(
        {
            "id": names,
            "class": [p.parts[0] for p in paths],
            "folder": [str(p.parent) for p in paths],
            "file": [p.name for p in paths],
        },
        dtype=str,
    )
    check_columns(_columns(settings), list(frame), f"layout 'folders' of {images}")
    return frame


def _is_class_picture(name: str) -> bool:
    path = PurePosixPath(name)
    return (
        len(path.parts) > 1
        and path.suffix.lower() in PICTURE_SUFFIXES
        and not any(p.startswith(".") for p in path.parts)
    )


def _target(column: pd.Series[str], settings: ExtractSettings) -> pd.Series[Any]:
    """Read a target: float64 where it is a number, str objects and None where it is a class.

    A class is what `[targets] classes` names, and a column in which no value is a number, nor meant as one.
    """
    is_class = column.name in settings.targets.classes
    if not is_class:
        numbers, blank = parse_numbers(column)
        if (
            blank.all()
            or not np.isnan(numbers).all()
            or column.str.fullmatch(r"\s*[-+]?\d*,\d+\s*").any()
        ):
            return _numbers(column, settings.tiles.source, parsed=(numbers, blank))
    text = column.str.strip().reset_index(drop=True)
    lower = text.str.lower()
    blank = lower.isin(MISSING).to_numpy()
    is_boolean = lower[~blank].isin(["true", "false"]).all()
    return (lower if is_boolean else text).astype(object).where(~blank, None)


def _check_ids(column: pd.Series[str], table: Path) -> pd.Series[Any]:
    text = _check_filled(column, table)
    is_integer = text.str.fullmatch(r"0|-?[1-9]\d{0,17}").all()
    ids: pd.Series[Any] = text
    if is_integer:
        ids = pd.Series(pa.array(text, pa.string()).cast(pa.int64()).to_numpy(), name=text.name)
    twice = text[ids.duplicated()]
    if len(twice):
        examples = ", ".join(twice.unique()[:3])
        raise TableError(
            f"table {table}: {twice.nunique()} ids stand in more than one row ({examples}). "
            "Every tile needs an id of its own: remove or rename those rows."
        )
    return ids


def _check_filled(column: pd.Series[str], table: Path) -> pd.Series[str]:
    text = column.str.strip()
    empty = np.flatnonzero(text.str.lower().isin(MISSING))
    if len(empty):
        raise TableError(
            f"table {table}: column {column.name!r} is empty in {len(empty)} rows (first: line {empty[0] + 2}). "
            "Fill them in, or remove those rows."
        )
    return text.reset_index(drop=True)


def _numbers(
    column: pd.Series[str],
    table: Path,
    *,
    parsed: tuple[NDArray[np.float64], NDArray[np.bool_]] | None = None,
) -> pd.Series[float]:
    """Check that a column is numbers, NaN where it is empty or says so."""
    numbers, blank = parsed or parse_numbers(column)
    bad = np.flatnonzero((np.isnan(numbers) & ~blank) | np.isinf(numbers))
    if len(bad):
        raise TableError(
            f"table {table}: column {column.name!r} is not a number in {len(bad)} rows "
            f"(first: line {bad[0] + 2}, {column.iloc[bad[0]]!r}). Write numbers with a point, or leave it empty."
        )
    return pd.Series(numbers, name=column.name)


def _paths(frame: pd.DataFrame, pattern: str, table: Path) -> pd.Series[str]:
    paths = fill_pattern(frame, pattern)
    suspects = np.flatnonzero(paths.str.startswith("/") | paths.str.contains("..", regex=False))
    outside = [
        row for row in suspects if re.search(r"^/|(?:^|[/\\])\.\.(?:[/\\]|$)", paths.iloc[row])
    ]
    if outside:
        raise TableError(
            f"table {table}: line {outside[0] + 2} names the picture {paths.iloc[outside[0]]!r}, which is outside "
            "the images folder. Paths must stay inside it."
        )
    return paths


def _places(
    frame: pd.DataFrame, ids: pd.Series[Any], settings: ExtractSettings
) -> NDArray[np.float64] | None:
    tiles = settings.tiles
    if tiles.grid is not None:
        if ids.dtype != np.int64:
            raise TableError(
                f"table {tiles.source}: [tiles] grid needs whole-number ids, got {ids.iloc[0]!r}. Use x and y."
            )
        return grid_places(ids.to_numpy(), tiles.grid)
    if tiles.x is None or tiles.y is None:
        return None
    xy = np.column_stack([_numbers(frame[name], tiles.source) for name in (tiles.x, tiles.y)])
    lost = np.flatnonzero(np.isnan(xy).any(axis=1))
    if len(lost):
        raise TableError(
            f"table {tiles.source}: {len(lost)} rows have no place (first: line {lost[0] + 2}). "
            f"Fill in {tiles.x!r} and {tiles.y!r}, or remove those rows."
        )
    return xy


def grid_places(ids: NDArray[np.int64], grid: GridSection) -> NDArray[np.float64]:
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
    half = grid.size_m / 2
    return np.column_stack(
        [grid.origin[0] + grid.size_m * column + half, grid.origin[1] - grid.size_m * row - half]
    )
