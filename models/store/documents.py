"""JSON documents of the folder `models` writes: their schema, and the hashes of files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from extract.errors import RunFileError
from extract.files.atomic import write_atomically
from extract.files.hashing import hash_file


def describe_file(path: Path) -> dict[str, Any]:
    """Return SHA-256 and size [bytes] of a file."""
    return {"sha256": hash_file(path), "bytes": path.stat().st_size}


def write_json(path: Path, document: dict[str, Any]) -> None:
    """Write a JSON file whole or not at all."""
    with write_atomically(path) as partial:
        partial.write_text(json.dumps(document, indent=1), encoding="utf-8")


def check_names(path: Path, document: dict[str, Any], expected: dict[str, str]) -> None:
    """Check that a file says that it is of what its folder is of.

    Raises
    ------
    RunFileError : it says something else: it was moved here, or changed.
    """
    for name, value in expected.items():
        stated = document.get(name, value)
        if stated != value:
            raise RunFileError(
                f"{path}: says that it is of the {name} {stated!r}, in the folder of {value!r}. "
                f"Delete {path.parent} and run `make models` again."
            )


def read_document(path: Path, schema: str, newest: int) -> dict[str, Any]:
    """Read a JSON artifact and check its schema; `RunFileError` where it cannot be used."""
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunFileError(f"{path}: no such file. Run `make models` first.") from None
    except (ValueError, RecursionError) as error:
        raise RunFileError(
            f"{path}: not JSON ({error}). Delete it and run `make models` again."
        ) from None
    if not isinstance(document, dict) or document.get("schema") != schema:
        raise RunFileError(
            f"{path}: expected schema {schema!r}. This file was not written by `make models`."
        )
    if not isinstance(document.get("schema_version"), int):
        raise RunFileError(
            f"{path}: expected a number as schema_version, got {document.get('schema_version')!r}. "
            "This file was not written by `make models`."
        )
    if document["schema_version"] > newest:
        raise RunFileError(
            f"{path}: written by a newer Roofline (schema version {document['schema_version']}; "
            f"this one reads up to {newest}). Update Roofline."
        )
    return document
