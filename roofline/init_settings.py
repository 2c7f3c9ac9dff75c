"""Guess a settings file from a folder of pictures and a table."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.spatial import KDTree

from extract.errors import OptionError
from extract.files.atomic import write_atomically
from extract.pictures.archives import open_images
from extract.pictures.image_folder import PICTURE_SUFFIXES
from extract.settings import TilesSection
from extract.tables.numbers import parse_numbers
from extract.tables.table_file import list_columns, read_frame

_FOLDS = 5
_BLOCKS_M = (2000, 1000, 500, 200)
_N_TRIED = 20  # values of a column that are looked for in the names of the pictures
_AREA = re.compile(r"lsoa|msoa|area|zone|ward|tract|commune|municip|district|geoid|code", re.I)
_X = re.compile(r"^(x|east(ing)?|centre_e|center_e|.*_x|.*east(ing)?)$", re.I)
_Y = re.compile(r"^(y|north(ing)?|centre_n|center_n|.*_y|.*north(ing)?)$", re.I)
_NO_TARGET = re.compile(r"^(unnamed.*|index|fid|row|col(umn)?|lat.*|lon.*|.*_[xyen])$", re.I)
_DEGREES = 180


@dataclass(kw_only=True)
class Guess:
    """What a table and its pictures seem to mean; empty where nothing fits.

    Attributes
    ----------
    path, id : pattern of the pictures' names, and the column in its braces.
    n_found, n_rows : rows that have a picture, rows.
    area, groups, targets : columns.
    places : columns of x and y [m].
    block_m : side of blocks [m] of which there are enough; None without.
    spacing_m : median distance of a tile to its nearest neighbour [m]; None without.
    notes : what the user should look at.
    """

    path: str
    id: str
    n_found: int
    n_rows: int
    area: str = ""
    groups: list[str] = field(default_factory=list)
    targets: list[str] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    block_m: int | None = None
    spacing_m: float | None = None
    notes: list[str] = field(default_factory=list)


def guess_settings(tiles: Path, table: Path) -> Guess:
    """Look at both, and guess which column is what.

    Raises
    ------
    TableError, ImageSourceError : one of them cannot be read.
    OptionError : no column names the pictures.
    """
    frame = read_frame(table, list_columns(table))
    images = open_images(TilesSection(table=table, images=tiles, area="area"))
    suffixes = tuple(PICTURE_SUFFIXES)
    names = {name for name in images.names() if name.lower().endswith(suffixes)}
    if not names:
        raise OptionError(f"--tiles {tiles}: no pictures ({', '.join(sorted(suffixes))}).")
    guess = _match_pictures(frame, names, table)
    numbers = _read_numbers(frame.drop(columns=guess.id))
    guess.places = _find_places(numbers, guess)
    candidates = numbers.drop(columns=guess.places)
    usable = [str(name) for name in candidates if not _NO_TARGET.match(str(name))]
    guess.area = _find_area(frame, candidates[usable], guess)
    guess.targets = _find_targets(frame, candidates[usable], guess)
    guess.groups = _find_groups(frame, numbers, guess)
    guess.block_m = _choose_block(numbers, guess)
    guess.spacing_m = _measure_spacing(numbers, guess)
    return guess


def _match_pictures(frame: pd.DataFrame, names: set[str], table: Path) -> Guess:
    """Find the column whose values stand in the names of the pictures."""
    best: Guess | None = None
    for column in frame:
        values = frame[column]
        if not values.is_unique:
            continue
        for pattern in _list_patterns(str(column), values.head(_N_TRIED), names):
            before, _, after = pattern.partition(f"{{{column}}}")
            n_found = int((before + values + after).isin(names).sum())
            if best is None or n_found > best.n_found:
                found = Guess(path=pattern, id=str(column), n_found=n_found, n_rows=len(frame))
                best = found
    if best is None:
        raise OptionError(
            f"{table}: no column of ids that stand in the names of the pictures, as "
            f"{min(names)!r}. Add a column with the name of each tile's picture."
        )
    return best


def _list_patterns(column: str, values: pd.Series[str], names: set[str]) -> set[str]:
    patterns = set()
    for value in values[values != ""]:
        whole = re.compile(rf"(?<![A-Za-z0-9]){re.escape(value)}(?![A-Za-z0-9])")
        for name in names:
            if value in name and whole.search(name):
                patterns.add(whole.sub(f"{{{column}}}", name, count=1))
    return patterns


def _read_numbers(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the columns that hold nothing but numbers and empty cells."""
    columns = {}
    for name in frame:
        values, is_wrong = parse_numbers(frame[name])
        if not is_wrong.any() and np.isfinite(values).any():
            columns[str(name)] = values
    return pd.DataFrame(columns, index=frame.index)


def _find_places(numbers: pd.DataFrame, guess: Guess) -> list[str]:
    names = list(map(str, numbers))
    for x in filter(_X.match, names):
        for y in filter(_Y.match, names):
            largest = np.nanmax(np.abs(numbers[[x, y]].to_numpy(np.float64)))
            if largest <= _DEGREES:
                guess.notes.append(
                    f"{x} and {y} look like degrees: project them to metres, and name the new "
                    "columns as x and y"
                )
                continue
            return [x, y]
    return []


def _find_area(frame: pd.DataFrame, numbers: pd.DataFrame, guess: Guess) -> str:
    """Return the column of codes within which most numbers do not change."""
    ranked = []
    for name in frame.columns.drop([guess.id, *guess.places]):
        n_areas = frame[name].nunique()
        if not 1 < n_areas < len(frame) or (frame[name] == "").any():
            continue
        others = numbers.drop(columns=name, errors="ignore")
        n_constant = _count_constant(others, frame[name])
        is_named = bool(_AREA.search(name))
        is_code = not frame[name].str.contains(" ").any()
        if name not in numbers or is_named:
            ranked.append((n_constant, is_named, is_code, -n_areas, str(name)))
    if ranked:
        *_, area = max(ranked)
        return area
    guess.notes.append("no column of areas was found: each tile is an area of its own")
    return guess.id


def _count_constant(numbers: pd.DataFrame, area: pd.Series[str]) -> int:
    by_area = numbers.groupby(area)
    spread = by_area.max() - by_area.min()
    return int((spread.fillna(0) == 0).all().sum())


def _find_targets(frame: pd.DataFrame, numbers: pd.DataFrame, guess: Guess) -> list[str]:
    changing = [str(name) for name in numbers if numbers[name].nunique() > 1]
    targets = [name for name in changing if name != guess.area]
    area = frame[guess.area]
    constant = [name for name in targets if _count_constant(numbers[[name]], area)]
    return constant or targets


def _find_groups(frame: pd.DataFrame, numbers: pd.DataFrame, guess: Guess) -> list[str]:
    area = frame[guess.area]
    n_areas = area.nunique()
    groups: dict[bytes, str] = {}  # a name beside its code parts the tiles as the code does
    for name in frame.columns.drop([guess.id]):
        is_taken = name in numbers or name == guess.area
        n_values = frame[name].nunique()
        if is_taken or not 1 < n_values < n_areas:
            continue
        if (frame[name].groupby(area).nunique() == 1).all():
            codes, _ = pd.factorize(frame[name])
            groups.setdefault(codes.tobytes(), str(name))
    return list(groups.values())


def _choose_block(numbers: pd.DataFrame, guess: Guess) -> int | None:
    """Return the largest side of blocks that gives a few for each fold."""
    if not guess.places:
        return None
    xy = numbers[guess.places]
    for side in _BLOCKS_M:
        if len((xy // side).drop_duplicates()) >= 2 * _FOLDS:
            return side
    return None


def _measure_spacing(numbers: pd.DataFrame, guess: Guess) -> float | None:
    """Return how far tiles lie apart, and note that wider ones overlap."""
    xy = numbers[guess.places].dropna().drop_duplicates().to_numpy(np.float64)
    if not guess.places or len(xy) < 2:
        return None
    distances, _ = KDTree(xy).query(xy, k=2)
    spacing = float(np.median(distances[:, 1]))
    guess.notes.append(
        f"tiles lie {spacing:g} m apart: set size_m if a tile is wider, so that check sees overlaps"
    )
    return spacing


def render(guess: Guess, path: Path, *, tiles: Path, table: Path) -> str:
    """Return the settings file, with a comment for what was guessed."""
    base = path.resolve().parent
    splits = ["random", "area"]
    if guess.block_m:
        splits.append("block")
    lines = [
        "# Written by `roofline init`. Every line was guessed: look at each once.",
        _key("name", re.sub(r"[^A-Za-z0-9_.-]", "-", path.stem)),
        "",
        "[tiles]",
        _key("table", os.path.relpath(table.resolve(), base)),
        _key("images", os.path.relpath(tiles.resolve(), base)),
        _key("path", guess.path, f"{guess.n_found} of {guess.n_rows} rows have a picture"),
        _key("id", guess.id, "one value a tile"),
        _key("area", guess.area, "the unit that a label belongs to"),
    ]
    for axis, column in zip("xy", guess.places, strict=False):
        lines.append(_key(axis, column, "tile centres in projected metres"))
    if guess.spacing_m:
        lines.append(
            f"# size_m = {guess.spacing_m:g}  # side of a tile [m]; set it where tiles overlap"
        )
    if guess.groups:
        lines.append(_key("groups", guess.groups, "describe areas; the baselines use them"))
    lines += [
        "",
        "[targets]",
        _key("columns", guess.targets, "what to predict: remove what is no index"),
        "",
        "[extract]",
        _key("cuts", ["vgg16/block5_pool:avg", "resnet50v2/post_relu:avg"]),
        "",
        "[models]",
        _key("splits", splits, "from the easiest to the hardest"),
    ]
    if guess.block_m:
        lines.append(_key("block_m", guess.block_m, "side of the blocks [m]"))
    return "\n".join(lines) + "\n"


def _key(name: str, value: object, comment: str = "") -> str:
    """Return a line of TOML, which writes texts, numbers and lists as JSON does."""
    line = f"{name} = {json.dumps(value, ensure_ascii=False)}"
    return f"{line}  # {comment}" if comment else line


def write_settings(path: Path, *, tiles: Path, table: Path) -> Guess:
    """Write a settings file for pictures and a table; return what was guessed.

    Raises
    ------
    OptionError : the file is there already, or no column names the pictures.
    """
    if path.exists():
        raise OptionError(f"{path}: is there already. Name another file with --out.")
    guess = guess_settings(tiles, table)
    text = render(guess, path, tiles=tiles, table=table)
    with write_atomically(path) as partial:
        partial.write_text(text, encoding="utf-8")
    return guess
