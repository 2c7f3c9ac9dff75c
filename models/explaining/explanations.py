"""Explained tiles on disk: `explain/<target>/<cut>/<model>/`.

Pictures, `tiles.parquet` and `explain.json`, which is written last. Schema
`roofline.explanation`, version 1. To raise it: add one to `SCHEMA_VERSION`, and teach
`read_explanation` the old one.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import pandas as pd

from extract.config.cuts import CellCut
from extract.errors import RunFileError
from extract.files.atomic import write_atomically
from models.store.runs import hash_file, read_document, write_json

SCHEMA = "roofline.explanation"
SCHEMA_VERSION = 1
COLUMNS = (
    "id",
    "truth",
    "prediction",
    "role",
    "explained",
    "method",
    "tile",
    "heat",
    "overlay",
    "neighbours",
    "neighbour_ids",
    "neighbour_truths",
)
KINDS = ("tile", "heat", "overlay", "neighbours")
_LONGEST = 80


class Sanity(TypedDict):
    """Whether maps depend on what was learnt.

    Attributes
    ----------
    rank_correlation : Spearman's, of the maps with those of permuted weights, the mean over tiles
        and shuffles; None where no map varies.
    """

    rank_correlation: float | None
    depends_on_weights: bool
    n_tiles: int
    shuffles: int


class Explanation(NamedTuple):
    """What a model looks at.

    Attributes
    ----------
    folder : of the pictures.
    facts : target, cut, model, split, key (of the kept model), method, words, limit, sanity and
        more.
    tiles : `COLUMNS`; `tile`, `heat`, `overlay` and `neighbours` (empty where there are none) are
        file names.
    """

    folder: Path
    facts: dict[str, Any]
    tiles: pd.DataFrame


def explanation_folder(folder: Path, target: str, cut: CellCut | str, model: str) -> Path:
    """Folder of an explanation."""
    return folder / "explain" / target / str(cut) / model


def name_file(tile: object) -> str:
    """Return a safe file name for a tile's id, and no two the same.

    It has plain letters, digits, `.`, `_` and `-`; an id that had to be changed carries a part of
    its hash.
    """
    text = str(tile)
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", text).strip(".")[:_LONGEST]
    if plain == text:
        return plain
    return f"{plain}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"


def write_explanation(
    path: Path, tiles: pd.DataFrame, pictures: dict[str, bytes], facts: dict[str, Any]
) -> None:
    """Write an explanation; without `explain.json`, which is written last, there is none.

    Parameters
    ----------
    tiles : `COLUMNS`.
    pictures : file name → PNG, of these tiles; pictures of no tile of the table are removed.
    """
    path.mkdir(parents=True, exist_ok=True)
    (path / "explain.json").unlink(missing_ok=True)
    for name, png in pictures.items():
        with write_atomically(path / name) as partial:
            partial.write_bytes(png)
    with write_atomically(path / "tiles.parquet") as partial:
        tiles[list(COLUMNS)].to_parquet(partial, index=False)
    named = {*tiles[list(KINDS)].to_numpy().ravel(), "tiles.parquet"}
    for file in path.iterdir():
        if file.name not in named and file.is_file():
            file.unlink()
    header = {"schema": SCHEMA, "schema_version": SCHEMA_VERSION}
    sealed = {"tiles_sha256": hash_file(path / "tiles.parquet")}
    write_json(path / "explain.json", header | facts | sealed)


def read_explanation(path: Path) -> Explanation:
    """Read what a model looks at.

    Raises
    ------
    RunFileError : unfinished or not there, another schema, or a table that is not the one written.
    """
    facts = read_document(path / "explain.json", SCHEMA, SCHEMA_VERSION)
    table = path / "tiles.parquet"
    if not table.is_file() or hash_file(table) != facts.get("tiles_sha256"):
        raise RunFileError(
            f"{table}: not the file that `make explain` wrote. Delete {path} and run "
            "`make explain` again."
        )
    tiles = pd.read_parquet(table)
    for name in tiles[list(KINDS)].to_numpy().ravel():
        if name != Path(name).name:
            raise RunFileError(
                f"{table}: names the picture {name!r}, which is outside its folder. Delete {path}."
            )
    return Explanation(path, facts, tiles)


def describe_sanity(sanity: Sanity) -> str:
    """Describe whether the maps depend on what was learnt."""
    value = sanity["rank_correlation"]
    if value is None:
        return "No map varies: there is nothing to see, and nothing to compare."
    verdict = "the maps are much the same without what was learnt: do not read them"
    if sanity["depends_on_weights"]:
        verdict = "the maps depend on what was learnt"
    correlation = f"{value:.2f}".replace("-", "−")
    return (
        f"With what was learnt shuffled the maps correlate {correlation} with these (rank "
        f"correlation, {sanity['n_tiles']} tiles, {sanity['shuffles']} shuffles): {verdict}."
    )


def list_explanations(folder: Path) -> list[Path]:
    """Return the folders of all finished explanations."""
    return sorted(path.parent for path in (folder / "explain").glob("**/explain.json"))
