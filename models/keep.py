"""The models worth keeping: refitted on all tiles and saved in formats that run no code when they are read.

Schema `roofline.model`, version 1. To raise it: add one to `SCHEMA_VERSION` and teach `load_model` the old version.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import skops.io

from models.boosting import Boosting
from models.family import Family
from models.head import Head
from models.runs import RunError, read_document, write_json

SCHEMA = "roofline.model"
SCHEMA_VERSION = 1
TRUSTED = ["models.baselines.Mean", "models.baselines.Region", "models.forest.Forest", "models.location.Location",
           "models.neighbours.Neighbours", "models.ridge.SharedRidge", "sklearn.tree._tree.Tree"]
_OWN: dict[str, type[Boosting] | type[Head]] = {"xgboost": Boosting, "head": Head}


def model_folder(folder: Path, target: str, cut: str, model: str) -> Path:
    """Folder of a kept model."""
    return folder / "models" / target / cut / model


def save_model(path: Path, name: str, model: Family, facts: dict[str, Any]) -> None:
    """Write the model, then `model.json`: without it the model is unfinished."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    if isinstance(model, Boosting | Head):
        model.save(path)
    else:
        skops.io.dump(model, path / "model.skops")
    write_json(path / "model.json", {"schema": SCHEMA, "schema_version": SCHEMA_VERSION, "model": name, **facts})


def load_model(path: Path) -> Family:
    """Read a kept model; only the types of this project are trusted.

    Raises
    ------
    RunError : unfinished or not there, a newer schema, or a type that is not trusted.
    """
    facts = read_document(path / "model.json", SCHEMA, SCHEMA_VERSION)
    own = _OWN.get(facts["model"])
    if own is not None:
        return own.load(path)
    file = path / "model.skops"
    strange = sorted(set(skops.io.get_untrusted_types(file=file)) - set(TRUSTED))
    if strange:
        raise RunError(f"{file}: holds {', '.join(strange)}, which this project never writes. Do not trust this file.")
    model: Family = skops.io.load(file, trusted=TRUSTED)
    return model
