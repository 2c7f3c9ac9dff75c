"""Explained tiles on disk: `explain/<target>/<cut>/<model>/`.

Pictures, `tiles.parquet` and `explain.json`, which is written last. Schema
`roofline.explanation`, version 3; version 2 had no `border`, and version 1 no hashes of the
pictures: it is explained again.
To raise it: add one to `SCHEMA_VERSION`, and teach `read_explanation` the old one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import pandas as pd

from extract.config.cuts import CellCut
from extract.errors import RunFileError
from extract.files.atomic import write_atomically
from extract.files.hashing import hash_file
from extract.files.names import encode_name
from models.store.documents import read_document, write_json
from models.store.runs import place_cell
from models.store.seal import is_sealed, seal

SCHEMA = "roofline.explanation"
SCHEMA_VERSION = 3
OLDEST = 2  # that is still read
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
_STRONGER = 1.2  # along the border than inside
KINDS = ("tile", "heat", "overlay", "neighbours")


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
    facts : target, cut, model, split, key (of the kept model), method, words, limit, border (how
        much stronger the heat is there than inside), sanity and more.
    tiles : `COLUMNS`; `tile`, `heat`, `overlay` and `neighbours` (empty where there are none) are
        file names.
    """

    folder: Path
    facts: dict[str, Any]
    tiles: pd.DataFrame


def explanation_folder(folder: Path, target: str, cut: CellCut | str, model: str) -> Path:
    """Folder of an explanation."""
    return folder / "explain" / encode_name(target) / place_cell(cut, model)


def name_file(tile: object) -> str:
    """Return a safe file name for a tile's id, and no two the same."""
    return encode_name(str(tile))


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
    document = {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        **facts,
        "files": {name: hash_file(path / name) for name in sorted(named) if name},
    }
    write_json(path / "explain.json", seal(document))


def read_explanation(path: Path) -> Explanation:
    """Read what a model looks at.

    Raises
    ------
    RunFileError : unfinished or not there, another schema, or a table that is not the one written.
    """
    facts = read_document(path / "explain.json", SCHEMA, SCHEMA_VERSION)
    if facts["schema_version"] < OLDEST:
        raise RunFileError(
            f"{path}: explained by an older Roofline. Delete it and run `make explain` again."
        )
    if not is_sealed(facts):
        raise RunFileError(_describe_changed(path / "explain.json"))
    for name, sha256 in facts["files"].items():
        file = path / name
        is_inside = name == Path(name).name
        if not is_inside or not file.is_file() or hash_file(file) != sha256:
            raise RunFileError(_describe_changed(file))
    table = path / "tiles.parquet"
    tiles = pd.read_parquet(table)
    for name in tiles[list(KINDS)].to_numpy().ravel():
        if name != Path(name).name:
            raise RunFileError(
                f"{table}: names the picture {name!r}, which is outside its folder. Delete {path}."
            )
    return Explanation(path, facts, tiles)


def _describe_changed(file: Path) -> str:
    return (
        f"{file}: not the file that `make explain` wrote. Delete {file.parent} and run `make "
        "explain` again."
    )


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


def describe_border(border: float | None) -> str:
    """Describe whether maps are stronger along the border of the tiles; empty where unknown."""
    if border is None:
        return ""
    if border < _STRONGER:
        return "Along the border of the tiles the maps are no stronger than inside."
    return (
        f"Along the border of the tiles the maps are {border:.1f} times as strong as inside: there "
        "they show how the network pads pictures. Do not read the border."
    )


def read_explanations(folder: Path) -> list[Explanation]:
    """Read every finished explanation that lies where it belongs.

    Raises
    ------
    RunFileError : as `read_explanation`.
    """
    found = []
    for path in sorted((folder / "explain").glob("**/explain.json")):
        one = read_explanation(path.parent)
        target, cut, model = (str(one.facts.get(name)) for name in ("target", "cut", "model"))
        if explanation_folder(folder, target, cut, model) == path.parent:
            found.append(one)
    return found
