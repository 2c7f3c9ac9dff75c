"""`scores.json`: what the tables of scores were made from, and the hashes of these tables.

It is written last: without it the scores are unfinished. Schema `roofline.scores`, version 6;
older ones did not say what the scores were made from, and are made again, without any fit. Raise
the version when a number would come out differently.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeAlias

from extract.errors import RunFileError
from extract.files.hashing import hash_file
from models.store.documents import read_document, write_json
from models.store.runs import run_folder
from models.store.seal import is_sealed, seal

SCHEMA = "roofline.scores"
SCHEMA_VERSION = 6
FILES = ("scores.csv", "scores_by_tiles.csv", "comparisons.csv", "winners.csv")
MadeFrom: TypeAlias = dict[str, Any]
"""What scores depend on: its name → hash, value, or more of these by target, split or run."""


def write_stated(folder: Path, made_from: MadeFrom) -> None:
    """State what the tables of scores that lie in a folder were made from."""
    document = {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "made_from": made_from,
        "files": _hash_files(folder),
    }
    write_json(folder / "scores.json", seal(document))


def remove_stated(folder: Path) -> None:
    """Say that the tables of scores are unfinished, before they are written."""
    (folder / "scores.json").unlink(missing_ok=True)


def read_stated(folder: Path) -> MadeFrom:
    """Read what the scores were made from, with every table of scores held against its hash.

    Raises
    ------
    RunFileError : unfinished, older, or not what was written.
    """
    path = folder / "scores.json"
    document = read_document(path, SCHEMA, SCHEMA_VERSION)
    if document["schema_version"] < SCHEMA_VERSION:
        raise RunFileError(
            f"{path}: of an older Roofline. Run `make models` again: what has changed since is "
            "fitted again, and all is scored anew."
        )
    if not is_sealed(document):
        raise RunFileError(_describe_changed(path))
    found = _hash_files(folder)
    for name, sha256 in document["files"].items():
        if found.get(name) != sha256:
            raise RunFileError(_describe_changed(folder / name))
    made_from: MadeFrom = document["made_from"]
    return made_from


def _describe_changed(path: Path) -> str:
    return (
        f"{path}: changed since `make models` wrote it. Run `make models` again: what is fitted is "
        "scored anew, and nothing is fitted again."
    )


def _hash_files(folder: Path) -> dict[str, str]:
    paths = [folder / name for name in FILES]
    return {path.name: hash_file(path) for path in paths if path.is_file()}


def hash_runs(folder: Path, runs: Iterable[tuple[str, str, str]]) -> dict[str, str]:
    """Return run → hash of its `run.json`, which holds those of its files."""
    return {" ".join(run): hash_file(run_folder(folder, *run) / "run.json") for run in runs}
