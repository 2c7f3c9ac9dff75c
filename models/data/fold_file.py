"""The folds on disk, `folds.parquet`: made once, so that later models are compared on them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from extract.config.arrays import Array, Floats, Ints
from extract.files.atomic import write_atomically
from extract.settings import read_settings
from extract.tables.tile_table import Tiles, read_tiles
from models.data.fold_assignment import assign_folds
from models.data.folds import FoldOptions, Folds, build_folds
from models.data.place_settings import PlaceSettings
from models.data.units import number_units

Recipe = dict[str, Any]  # what the folds of one split were made from, as JSON
_METADATA = b"roofline.folds"
_MAX_CLASSES = 20  # of a target, that folds are balanced in
_WORDS = {
    "ids_sha256": "the tiles of the table",
    "area_sha256": "the areas of the tiles",
    "xy_sha256": "the places of the tiles",
    "group_sha256": "the groups of the tiles",
    "prediction_xy_sha256": "the places to be predicted",
}


class OpenedFolds(NamedTuple):
    """The folds of every asked split, and for each split that was made why, in a sentence."""

    folds: dict[str, Folds]
    notes: list[str]


def open_folds(
    folder: Path, tiles: Tiles, options: FoldOptions, *, is_read_only: bool = False
) -> OpenedFolds:
    """Return the folds of every asked split: those on disk, or new ones where these do not fit.

    Folds are balanced in the targets, but other targets do not make them unfit: a target that is
    added later is predicted on the same folds.

    Parameters
    ----------
    folder : of the experiment; new folds are written to its `folds.parquet`.
    is_read_only : write nothing, as for a plan.

    Raises
    ------
    ValueError : folds that cannot be read or made; the text says what to do.
    """
    path = folder / "folds.parquet"
    stored, recipes = read_folds(path)
    notes = []
    for split in options.splits:
        recipe = _describe_recipe(split, options, tiles)
        reason = ""
        if split in recipes:
            changes = "; ".join(_describe_changes(recipes[split], recipe))
            if not changes:
                continue
            reason = f" anew: {changes}"
        stored[split] = assign_split(split, tiles, options)
        recipes[split] = {**recipe, "fold_sha256": hash_array(stored[split])}
        notes.append(f"folds of split {split!r} made{reason}")
    if notes and not is_read_only:
        _remove_others(stored, recipes, like=options.splits[0])
        write_folds(path, tiles.id.to_numpy(), stored, recipes)
    folds = {split: build_split(split, stored[split], tiles, options) for split in options.splits}
    return OpenedFolds(folds, notes)


def _remove_others(stored: dict[str, Ints], recipes: dict[str, Recipe], *, like: str) -> None:
    """Remove the splits of other tiles than those of one split."""
    ids = recipes[like]["ids_sha256"]
    others = [split for split, recipe in recipes.items() if recipe.get("ids_sha256") != ids]
    for split in others:
        del recipes[split]
        del stored[split]


def assign_split(split: str, tiles: Tiles, options: FoldOptions) -> Ints:
    """Assign the tiles of a table to folds: (n_tiles,); errors as `assign_folds`."""
    return assign_folds(
        split,
        area=tiles.area.to_numpy(),
        xy=tiles.xy,
        targets=_list_balanced(tiles),
        n_folds=options.n_folds,
        seed=options.seed,
        block_m=options.block_m,
        group=_read_group(tiles, options),
        prediction_xy=_read_prediction_places(split, options),
    )


def build_split(split: str, fold: Ints, tiles: Tiles, options: FoldOptions) -> Folds:
    """Build the folds of a table's tiles from the fold of each; errors as `build_folds`."""
    return build_folds(
        split,
        fold,
        area=tiles.area.to_numpy(),
        xy=tiles.xy,
        block_m=options.block_m,
        buffer_m=options.buffer_m,
        group=_read_group(tiles, options),
    )


def number_split_units(split: str, tiles: Tiles, options: FoldOptions) -> Ints:
    """Return the number of the unit of each tile; errors as `number_units`."""
    return number_units(
        split,
        tiles.area.to_numpy(),
        xy=tiles.xy,
        block_m=options.block_m,
        group=_read_group(tiles, options),
    )


def number_score_units(split: str, tiles: Tiles, options: FoldOptions) -> Ints:
    """Return the number of what a resample draws with each tile: its area, block or group.

    On `random` too it is the area: tiles of one area share a label, so that drawing single ones
    would make intervals too narrow.
    """
    if split in ("block", "group"):
        return number_split_units(split, tiles, options)
    number, _ = pd.factorize(tiles.area)
    return number.astype(np.int64)


def _read_group(tiles: Tiles, options: FoldOptions) -> Array | None:
    if options.group is None:
        return None
    return tiles.groups[options.group].to_numpy()


def _read_prediction_places(split: str, options: FoldOptions) -> Floats | None:
    """Read the coordinates of the places that `knndm` matches: (n_places, 2) [m]."""
    if split != "knndm" or options.predict_at is None:
        return None
    place = read_settings(options.predict_at, PlaceSettings)
    return read_tiles(place).xy


def _list_balanced(tiles: Tiles) -> Floats:
    """Return what folds are balanced in: numbers, and of classes the commonest of each target.

    Returns
    -------
    (n_tiles, n_columns), NaN where the label is missing.
    """
    columns = [tiles.targets.to_numpy(np.float64)]
    for _, labels in tiles.classes.items():
        counts = labels.value_counts()
        commonest = counts.index[:_MAX_CLASSES]
        one_hot = pd.get_dummies(labels, dtype=np.float64)[commonest]
        is_missing = labels.isna()
        one_hot[is_missing] = np.nan
        columns.append(one_hot.to_numpy())
    return np.hstack(columns)


def _describe_recipe(split: str, options: FoldOptions, tiles: Tiles) -> Recipe:
    """Return what the folds of a split are made from, the targets left out."""
    ids = tiles.id.astype(str)
    area = tiles.area.to_numpy().astype(str)
    recipe = {
        "n_tiles": len(tiles),
        "ids_sha256": hash_array(ids.to_numpy().astype(str)),
        "area_sha256": hash_array(area),
        "folds": options.n_folds,
        "seed": options.seed,
    }
    if split == "block":
        recipe["block_m"] = options.block_m
        recipe["xy_sha256"] = hash_array(tiles.xy)
    if split == "group":
        group = tiles.groups[options.group].to_numpy().astype(str)
        recipe |= {"group": options.group, "group_sha256": hash_array(group)}
    if split == "knndm":
        places = _read_prediction_places(split, options)
        recipe |= {
            "xy_sha256": hash_array(tiles.xy),
            "prediction_xy_sha256": hash_array(places),
        }
    return recipe


def _describe_changes(old: Recipe, new: Recipe) -> list[str]:
    changes = []
    for name, value in new.items():
        before = old.get(name)
        if before == value:
            continue
        if name in _WORDS:
            changes.append(f"{_WORDS[name]} changed")
        else:
            changes.append(f"{name} was {_format_value(before)}, is {_format_value(value)}")
    return changes


def _format_value(value: Any) -> str:
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def write_folds(path: Path, ids: Array, folds: dict[str, Ints], recipes: dict[str, Recipe]) -> None:
    """Write `folds.parquet`: id, split, fold; its metadata says what each split was made from."""
    frames = []
    for split, fold in folds.items():
        frame = pd.DataFrame({"id": ids, "split": split, "fold": fold})
        frames.append(frame)
    table = pa.Table.from_pandas(pd.concat(frames), preserve_index=False)
    metadata = dict(table.schema.metadata)
    metadata[_METADATA] = json.dumps(recipes).encode()
    table = table.replace_schema_metadata(metadata)
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(path) as partial:
        pq.write_table(table, partial)


def read_folds(path: Path) -> tuple[dict[str, Ints], dict[str, Recipe]]:
    """Read the fold of each tile by split, and what each split was made from.

    Both are empty where there is no file.

    Raises
    ------
    ValueError : the file is not readable, or its folds are not those written with its recipes.
    """
    if not path.is_file():
        return {}, {}
    try:
        table = pq.read_table(path, columns=["split", "fold"])
        recipes = json.loads(table.schema.metadata[_METADATA])
        by_split = table.to_pandas().groupby("split")["fold"]
        stored = {str(name): fold.to_numpy(np.int64) for name, fold in by_split}
        folds = {name: stored[name] for name in recipes}
        expected = {name: recipe["fold_sha256"] for name, recipe in recipes.items()}
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path}: not readable as folds ({error}). Delete it and run `make models` again."
        ) from None
    for name, sha256 in expected.items():
        if sha256 != hash_array(folds[name]):
            raise ValueError(
                f"{path}: the folds of split {name!r} are not those that were written. Restore the "
                "file, or delete it and run `make models` again: every model is then fitted anew."
            )
    return folds, recipes


def hash_folds(ids: Array, folds: Folds) -> str:
    """Compute the SHA-256 of which tile lies in which part and in which buffers."""
    names = "\0".join(map(str, ids))
    part = np.ascontiguousarray(folds.part, dtype="<i8")
    near = np.packbits(folds.near, axis=None)
    digest = hashlib.sha256(names.encode())
    digest.update(part.tobytes())
    digest.update(near.tobytes())
    return digest.hexdigest()


def hash_array(values: Array | None) -> str:
    """Compute the SHA-256 of an array's bytes; of nothing for None."""
    if values is None:
        return hash_array(np.empty(0))
    content = np.ascontiguousarray(values).tobytes()
    return hashlib.sha256(content).hexdigest()
