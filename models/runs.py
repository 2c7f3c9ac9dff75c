"""The fitted cells on disk: `runs/<split>/<cut>/<model>/`, and `scores.csv` over all of them.

Schema `roofline.run`, version 1. To raise it: add one to `SCHEMA_VERSION`, teach `read_run` the old version, keep a
golden file of it under `tests/golden`, and write a line in CHANGELOG.md.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from extract.embeddings import publish

SCHEMA = "roofline.run"
SCHEMA_VERSION = 1
PREDICTION_COLUMNS = ("id", "fold", "target", "truth", "prediction")
SCORE_COLUMNS = ("split", "backbone", "layer", "pooling", "model", "target", "level", "n", "mse", "rmse", "nrmse", "mae",
                 "r2", "spearman", "r2_low", "r2_high", "rmse_low", "rmse_high", "fit_seconds")


class RunError(ValueError):
    """A run is missing, damaged, or of another schema; the text says which and what to do."""


def run_folder(folder: Path, split: str, cut: str, model: str) -> Path:
    """Folder of a run; `cut` is `<backbone>/<layer>:<pooling>` or `none`."""
    return folder / "runs" / split / cut / model


def write_run(path: Path, predictions: pd.DataFrame, run: dict[str, Any]) -> None:
    """Write the predictions, then `run.json`: without it the run is unfinished."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "run.json").unlink(missing_ok=True)
    partial = path / "predictions.parquet.partial"
    predictions[list(PREDICTION_COLUMNS)].to_parquet(partial, index=False)
    publish(partial, path / "predictions.parquet")
    write_json(path / "run.json", {"schema": SCHEMA, "schema_version": SCHEMA_VERSION, **run})


def write_json(path: Path, document: dict[str, Any]) -> None:
    """Write a JSON file whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(document, indent=1), encoding="utf-8")
    publish(partial, path)


def read_run(folder: Path, split: str, cut: str, model: str) -> dict[str, Any]:
    """Read `run.json` of a run.

    Raises
    ------
    RunError : unfinished or not there, not JSON, or another schema.
    """
    path = run_folder(folder, split, cut, model) / "run.json"
    return read_document(path, SCHEMA, SCHEMA_VERSION)


def read_document(path: Path, schema: str, newest: int) -> dict[str, Any]:
    """Read a JSON artifact and check its schema; `RunError` where it cannot be used."""
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError(f"{path}: no such file. Run `make models` first.") from None
    except ValueError as error:
        raise RunError(f"{path}: not JSON ({error}). Delete it and run `make models` again.") from None
    if not isinstance(document, dict) or document.get("schema") != schema:
        raise RunError(f"{path}: expected schema {schema!r}. This file was not written by `make models`.")
    if document["schema_version"] > newest:
        raise RunError(f"{path}: written by a newer Roofline (schema version {document['schema_version']}; this one reads "
                       f"up to {newest}). Update Roofline.")
    return document


def is_done(folder: Path, split: str, cut: str, model: str, inputs_sha256: str) -> bool:
    """Say whether a run is finished and was made from the same inputs; a newer schema is an error."""
    path = run_folder(folder, split, cut, model)
    if not (path / "run.json").is_file() or not (path / "predictions.parquet").is_file():
        return False
    return bool(read_run(folder, split, cut, model).get("inputs_sha256") == inputs_sha256)


def read_predictions(folder: Path, split: str, cut: str, model: str) -> pd.DataFrame:
    """Read the out-of-fold predictions of a run: id, fold, target, truth, prediction.

    Raises
    ------
    RunError : as `read_run`.
    """
    read_run(folder, split, cut, model)
    return pd.read_parquet(run_folder(folder, split, cut, model) / "predictions.parquet")


def split_cut(cut: str) -> dict[str, str]:
    """Give backbone, layer and pooling of a cut; all `none` for `none`."""
    if cut == "none":
        return dict.fromkeys(("backbone", "layer", "pooling"), "none")
    backbone, dataset = cut.split("/", 1)
    layer, pooling = dataset.rsplit(":", 1)
    return {"backbone": backbone, "layer": layer, "pooling": pooling}


def write_scores(folder: Path, runs: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """Write `scores.csv` from the scores that the runs carry, and give it."""
    rows = [row for run in runs for row in run["scores"]]
    frame = pd.DataFrame(rows, columns=list(SCORE_COLUMNS)).astype({"n": int})
    partial = folder / "scores.csv.partial"
    frame.to_csv(partial, index=False)
    publish(partial, folder / "scores.csv")
    return frame


def read_scores(folder: Path) -> pd.DataFrame:
    """Read `scores.csv`; the text `none` stays text.

    Raises
    ------
    RunError : not there, or without a column.
    """
    path = folder / "scores.csv"
    if not path.is_file():
        raise RunError(f"{path}: no such file. Run `make models` first.")
    frame = pd.read_csv(path, keep_default_na=False, na_values=[""])
    lost = [name for name in SCORE_COLUMNS if name not in frame.columns]
    if lost:
        raise RunError(f"{path}: no column {', '.join(lost)}. Run `make models` again.")
    return frame
