"""The folds on disk, `folds.parquet`: made once, so that whatever is added later is compared on the same."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from extract.files.atomic import publish
from extract.tables.tile_table import Tiles
from models.data.arrays import Floats, Ints
from models.data.folds import Folds, assign_folds, build_folds
from models.settings import FitSettings

Recipe = dict[str, Any]
_CLASSES = 20  # of a target, that folds are balanced in
_WORDS = {
    "ids_sha256": "the tiles of the table",
    "area_sha256": "the areas of the tiles",
    "xy_sha256": "the places of the tiles",
}


class Opened(NamedTuple):
    """The folds of every asked split, and why those on disk could not serve: one sentence a split that was made anew."""

    folds: dict[str, Folds]
    notes: list[str]


def open_folds(settings: FitSettings, tiles: Tiles, *, is_read_only: bool = False) -> Opened:
    """Return the folds of every asked split: those on disk where they were made for these tiles, else new ones, written.

    Targets have a part in making folds, and none in whether they serve: a target that is added later finds the same.

    Parameters
    ----------
    is_read_only : write nothing, as for a plan.

    Raises
    ------
    ValueError : folds that cannot be read or made; the text says what to do.
    """
    asked = settings.models
    path = settings.folder / "folds.parquet"
    stored, recipes = read_folds(path)
    notes = []
    for split in asked.splits:
        recipe = _recipe(split, settings, tiles)
        changed = _difference(recipes.get(split), recipe)
        if changed is None:
            continue
        stored[split] = assign_folds(
            split,
            area=tiles.area.to_numpy(),
            xy=tiles.xy,
            targets=_labels(tiles),
            n_folds=asked.folds,
            seed=asked.seed,
            block_m=asked.block_m,
        )
        recipes[split] = {**recipe, "fold_sha256": hash_array(stored[split])}
        notes.append(f"folds of split {split!r} made{' anew: ' + changed if changed else ''}")
    if notes and not is_read_only:
        ids = recipes[asked.splits[0]]["ids_sha256"]
        current = {
            split: fold for split, fold in stored.items() if recipes[split].get("ids_sha256") == ids
        }
        write_folds(
            path, tiles.id.to_numpy(), current, {split: recipes[split] for split in current}
        )
    return Opened(
        {
            split: build_folds(
                split,
                stored[split],
                area=tiles.area.to_numpy(),
                xy=tiles.xy,
                block_m=asked.block_m,
                buffer_m=asked.buffer_m,
            )
            for split in asked.splits
        },
        notes,
    )


def _labels(tiles: Tiles) -> Floats:
    """What folds are balanced in: targets that are numbers, and the commonest classes of the others: (n_tiles, n_columns)."""
    columns = [tiles.targets.to_numpy(np.float64)]
    for _, labels in tiles.classes.items():
        known = labels.notna().to_numpy()[:, None]
        columns.append(
            np.where(
                known,
                labels.to_numpy()[:, None] == labels.value_counts().index[:_CLASSES].to_numpy(),
                np.nan,
            )
        )
    return np.hstack(columns)


def _recipe(split: str, settings: FitSettings, tiles: Tiles) -> Recipe:
    """What the folds of a split are made from, the targets left out."""
    asked = settings.models
    recipe = {
        "n_tiles": len(tiles),
        "ids_sha256": hash_array(np.array(tiles.id.astype(str), dtype=str)),
        "area_sha256": hash_array(np.array(tiles.area, dtype=str)),
        "folds": asked.folds,
        "seed": asked.seed,
    }
    return (
        {**recipe, "block_m": asked.block_m, "xy_sha256": hash_array(tiles.xy)}
        if split == "block"
        else recipe
    )


def _difference(old: Recipe | None, new: Recipe) -> str | None:
    """Describe what is not as it was: None where nothing is, nothing where there was no recipe."""
    if old is None:
        return ""
    names = [name for name, value in new.items() if old.get(name) != value]
    said = [
        f"{_WORDS[n]} changed"
        if n in _WORDS
        else f"{n} was {_plain(old.get(n))}, is {_plain(new[n])}"
        for n in names
    ]
    return "; ".join(said) if names else None


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def write_folds(
    path: Path, ids: NDArray[Any], folds: dict[str, Ints], recipes: dict[str, Recipe]
) -> None:
    """Write `folds.parquet`: id, split, fold; and in its metadata what each split was made from."""
    frame = pd.concat(
        [pd.DataFrame({"id": ids, "split": split, "fold": fold}) for split, fold in folds.items()]
    )
    table = pa.Table.from_pandas(frame, preserve_index=False)
    table = table.replace_schema_metadata(
        {**(table.schema.metadata or {}), b"roofline.folds": json.dumps(recipes).encode()}
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    pq.write_table(table, partial)
    publish(partial, path)


def read_folds(path: Path) -> tuple[dict[str, Ints], dict[str, Recipe]]:
    """Read the fold of each tile by split, and what each split was made from; both empty where there is no file.

    Raises
    ------
    ValueError : the file is not readable, or its folds are not those that were written with its recipes.
    """
    if not path.is_file():
        return {}, {}
    try:
        table = pq.read_table(path, columns=["split", "fold"])
        recipes = json.loads(table.schema.metadata[b"roofline.folds"])
        fold = table["fold"].to_numpy()
        split = table["split"].to_numpy()
        folds = {str(name): fold[split == name].astype(np.int64) for name in recipes}
        stated = {name: recipe["fold_sha256"] for name, recipe in recipes.items()}
    except (pa.ArrowInvalid, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path}: not readable as folds ({error}). Delete it and run `make models` again."
        ) from None
    for name, sha256 in stated.items():
        if sha256 != hash_array(folds[name]):
            raise ValueError(
                f"{path}: the folds of split {name!r} are not those that were written. Restore the file, or "
                "delete it and run `make models` again: every model is then fitted anew."
            )
    return folds, recipes


def hash_folds(ids: NDArray[Any], folds: Folds) -> str:
    """SHA-256 of which tile lies in which part and in which buffers."""
    digest = hashlib.sha256("\0".join(map(str, ids)).encode())
    digest.update(np.ascontiguousarray(folds.part, dtype="<i8").tobytes())
    digest.update(np.packbits(folds.near, axis=None).tobytes())
    return digest.hexdigest()


def hash_array(values: NDArray[Any] | None) -> str:
    """SHA-256 of an array's bytes; of nothing for None."""
    return hashlib.sha256(
        b"" if values is None else np.ascontiguousarray(values).tobytes()
    ).hexdigest()
