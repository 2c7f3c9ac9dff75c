"""Read and check the tile table: one row a tile, with picture, place, area and targets."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any, Literal

import pandas as pd

from extract.config.arrays import Floats
from extract.errors import TableError
from extract.pictures.archives import open_images
from extract.pictures.image_folder import PICTURE_SUFFIXES
from extract.settings import ExtractSettings
from extract.tables.table_file import read_frame, stream_frame
from extract.tables.text_columns import (
    check_columns,
    fill_pattern,
    name_braces,
    release_freed_memory,
)
from extract.tables.tile_columns import (
    check_filled,
    check_ids,
    drop_zero_fractions,
    empty_missing,
    fill_paths,
    read_places,
    read_target,
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
                values = column.iloc[start : start + _ROWS]
                text = "\0".join(map(str, values.tolist()))
                digest.update(text.encode())
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
            n_seen += len(piece)
            if len(piece):
                yield _check_frame(piece.reset_index(drop=True), settings)
        if not n_seen:
            raise TableError(f"table {table}: no rows; expected one row a tile.")
    except TableError:
        read_tiles(settings)  # its error names what is wrong, and the line
        raise


def _check_frame(frame: pd.DataFrame, settings: ExtractSettings) -> Tiles:
    section = settings.tiles
    if section.missing:
        frame = empty_missing(frame, section.missing)
    for name, pattern in settings.targets.made.items():
        frame[name] = fill_pattern(frame, pattern)
    for name in {section.id, section.area, *name_braces(section.path, "[tiles] path")}:
        frame[name] = drop_zero_fractions(frame[name])
    ids = check_ids(frame[section.id], section.source)
    targets = {}
    for name in settings.targets.names:
        targets[name] = read_target(frame[name], settings.targets, section.source)
    table = pd.DataFrame(targets, index=ids.index)
    classes = [name for name, column in targets.items() if column.dtype == object]
    return Tiles(
        id=ids,
        path=fill_paths(frame, section.path, section.source),
        area=check_filled(frame[section.area], section.source),
        xy=read_places(frame, ids, settings),
        target_names=list(targets),
        targets=table.drop(columns=classes),
        classes=table[classes],
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
    listed = open_images(settings.tiles).names()
    names = sorted(filter(_is_class_picture, listed))
    if not names:
        raise TableError(
            f"images {images}: no pictures in subfolders; expected <class>/<picture>, as "
            "'urban/1.png'."
        )
    for name in names:
        if name.encode("utf-8", "replace").decode() != name:
            raise TableError(f"images {images}: the name {name!a} is not UTF-8. Rename the file.")
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
