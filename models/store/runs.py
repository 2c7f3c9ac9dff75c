"""The fitted cells on disk: `runs/<split>/<cut>/<model>/`.

Schema `roofline.run`, version 3; version 1 had one key a run instead of one a target, and is fitted
again; version 2 did not carry its own hash, and is read as it is. To raise it: add one to
`SCHEMA_VERSION`, teach `read_finished` the old version, and write a line in CHANGELOG.md.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from extract.config.cuts import CellCut
from extract.errors import RunFileError
from extract.files.atomic import publish
from extract.files.hashing import hash_file
from extract.files.names import encode_name
from models.store.documents import check_names, describe_file, read_document
from models.store.run_schema import find_fault
from models.store.score_tables import read_table
from models.store.seal import SEAL, is_sealed, seal

SCHEMA = "roofline.run"
SCHEMA_VERSION = 3
_READ_VERSIONS = (2, 3)
PREDICTION_COLUMNS = ("id", "fold", "target", "truth", "prediction")
CURVE_COLUMNS = (
    "target",
    "fold",
    "epoch",
    "loss",
    "held_loss",
    "best",
)  # see `models.families.family.Epoch`
CLASS_COLUMNS = (
    *PREDICTION_COLUMNS,
    "probability",
)  # a list in each row; cells[target]["classes"] of run.json names its places
_COLUMNS = {
    "predictions.parquet": PREDICTION_COLUMNS,
    "nested.parquet": ("id", "target", "prediction"),
    "classes.parquet": CLASS_COLUMNS,
    "curves.csv": CURVE_COLUMNS,
}


def run_folder(folder: Path, split: str, cut: CellCut | str, model: str) -> Path:
    """Folder of a run; `cut` is `<backbone>/<layer>:<pooling>` or `none`."""
    return folder / "runs" / encode_name(split) / place_cell(cut, model)


def place_cell(cut: CellCut | str, model: str) -> Path:
    """Return the relative folder of a cut and a model: `<cut>/<model>`, encoded."""
    parts = [*str(cut).split("/", 1), model]
    return Path(*map(encode_name, parts))


def move_run(folder: Path, split: str, cut: CellCut | str, model: str) -> None:
    """Rename the run folder of an older version to its encoded name; the caller holds the lock."""
    path = run_folder(folder, split, cut, model)
    old = folder / "runs" / split / str(cut) / model
    if old != path and old.is_dir() and not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        old.rename(path)


def write_run(
    path: Path,
    predictions: pd.DataFrame | None,
    nested: pd.DataFrame | None,
    run: dict[str, Any],
    *,
    classes: pd.DataFrame | None = None,
    curves: pd.DataFrame | None = None,
) -> None:
    """Write a run such that a kill at any moment leaves the one before or this one, after
    `mend_run`.

    Everything is on disk under `.partial` names, `run.json` with the hashes of the others last,
    before the first file gets its final name.

    Parameters
    ----------
    predictions : `PREDICTION_COLUMNS`, or None where no target is a number. nested : id, target and
        prediction, or None.
    run : what `run.json` holds; `cells` has an entry for each target.
    classes : `CLASS_COLUMNS`, or None where no target is a class.
    curves : `CURVE_COLUMNS`, or None where nothing is learnt in epochs.
    """
    path.mkdir(parents=True, exist_ok=True)
    frames = dict(zip(_COLUMNS, (predictions, nested, classes, curves), strict=True))
    files = {
        name: _write_partial(path / name, frame[list(_COLUMNS[name])])
        for name, frame in frames.items()
        if frame is not None
    }
    document = {"schema": SCHEMA, "schema_version": SCHEMA_VERSION, **run, "files": files}
    document = seal(document)
    journal = _partial(path / "run.json")
    journal.write_text(json.dumps(document, indent=1), encoding="utf-8")
    _sync(journal)
    for name in (*files, "run.json"):
        publish(_partial(path / name), path / name)
    for name in frames.keys() - files:
        (path / name).unlink(missing_ok=True)


def _write_partial(path: Path, frame: pd.DataFrame) -> dict[str, Any]:
    partial = _partial(path)
    if path.suffix == ".csv":
        frame.to_csv(partial, index=False)
    else:
        frame.to_parquet(partial, index=False)
    _sync(partial)
    return describe_file(partial)


def _partial(path: Path) -> Path:
    return path.with_name(path.name + ".partial")


def _sync(path: Path) -> None:
    with path.open("rb") as handle:
        os.fsync(handle.fileno())


def mend_run(path: Path) -> None:
    """Complete an interrupted `write_run` if all its files are on disk, else delete them.

    The caller holds the lock.
    """
    partials = list(path.glob("*.partial"))
    if not partials:
        return
    try:
        files = json.loads(_partial(path / "run.json").read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError):
        files = None  # the journal was not whole: nothing has been renamed yet
    where = {name: _find(path / name, facts["sha256"]) for name, facts in (files or {}).items()}
    if where and all(where.values()):
        for name, found in where.items():
            if found != path / name:
                publish(_partial(path / name), path / name)
        publish(_partial(path / "run.json"), path / "run.json")
    for partial in partials:
        partial.unlink(missing_ok=True)


def _find(path: Path, sha256: str) -> Path | None:
    """Which of a file and its `.partial` has the hash."""
    return next((p for p in (_partial(path), path) if p.is_file() and hash_file(p) == sha256), None)


def read_run(folder: Path, split: str, cut: CellCut | str, model: str) -> dict[str, Any]:
    """Read `run.json` of a run.

    Raises
    ------
    RunFileError : unfinished or not there, not JSON, or another schema.
    """
    path = run_folder(folder, split, cut, model) / "run.json"
    run = read_document(path, SCHEMA, SCHEMA_VERSION)
    if SEAL in run and not is_sealed(run):
        raise RunFileError(
            f"{path}: changed since `make models` wrote it. Delete {path.parent} and run `make "
            "models` again."
        )
    check_names(path, run, {"split": split, "cut": str(cut), "model": model})
    return run


def read_finished(folder: Path, split: str, cut: CellCut | str, model: str) -> dict[str, Any]:
    """Return `run.json` of a run; nothing where it is unfinished or of an older schema. Predictions
    are not read.

    Raises
    ------
    RunFileError : a newer schema, or not a run.
    """
    path = run_folder(folder, split, cut, model)
    if not (path / "run.json").is_file():
        return {}
    run = read_run(folder, split, cut, model)
    if run["schema_version"] not in _READ_VERSIONS:
        return {}
    fault = find_fault(run)
    if fault:
        raise _unreadable(path / "run.json", fault)
    is_whole = all(
        (path / name).is_file() and (path / name).stat().st_size == facts["bytes"]
        for name, facts in run["files"].items()
    )
    return run if is_whole else {}


def read_predictions(folder: Path, split: str, cut: CellCut | str, model: str) -> pd.DataFrame:
    """Read the out-of-fold predictions of a run, `PREDICTION_COLUMNS`.

    Raises
    ------
    RunFileError : as `read_run`; the file is not there, or not the one whose hash is stated.
    """
    return _read_frame(folder, (split, cut, model), "predictions.parquet")


def read_nested(folder: Path, split: str, cut: CellCut | str, model: str) -> pd.DataFrame:
    """Read the nested predictions of a run: id, target, prediction; errors as
    `read_predictions`.
    """
    return _read_frame(folder, (split, cut, model), "nested.parquet")


def read_classes(folder: Path, split: str, cut: CellCut | str, model: str) -> pd.DataFrame:
    """Read the out-of-fold classes of a run, `CLASS_COLUMNS`; errors as `read_predictions`."""
    return _read_optional(folder, (split, cut, model), "classes.parquet")


def read_curves(folder: Path, split: str, cut: CellCut | str, model: str) -> pd.DataFrame:
    """Read the learning curves of a run, `CURVE_COLUMNS`; no row of an unfinished run.

    Raises
    ------
    RunFileError : as `read_predictions`.
    """
    if not read_finished(folder, split, cut, model):
        return pd.DataFrame(columns=list(CURVE_COLUMNS))
    return _read_optional(folder, (split, cut, model), "curves.csv")


def read_rows(
    folder: Path, cell: tuple[str, CellCut | str, str], name: str, targets: list[str]
) -> pd.DataFrame:
    """Read the rows of some targets from a file of a run; none where it has no such file."""
    frame = _read_optional(folder, cell, name)
    return frame[frame["target"].isin(targets)]


def has_classes_alone(folder: Path, split: str, cut: CellCut | str, model: str) -> bool:
    """Return whether a run predicts classes and no number."""
    files = read_run(folder, split, cut, model).get("files", {})
    return "classes.parquet" in files and "predictions.parquet" not in files


def read_prediction_table(
    folder: Path, split: str, cut: CellCut | str, model: str, *, is_nested: bool = False
) -> pa.Table:
    """Read id, target (as a dictionary) and prediction alone, in a third of the time."""
    name = "nested.parquet" if is_nested else "predictions.parquet"
    path = _checked_file(folder, (split, cut, model), name)
    columns = ["id", "target", "prediction"]
    try:
        return pq.read_table(path, columns=columns, read_dictionary=["target"])
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from None


def _read_optional(folder: Path, cell: tuple[str, CellCut | str, str], name: str) -> pd.DataFrame:
    """Read a file that a run need not have; no row where it has none."""
    if name not in read_run(folder, *cell).get("files", {}):
        return pd.DataFrame(columns=list(_COLUMNS[name]))
    return _read_frame(folder, cell, name)


def _read_frame(folder: Path, cell: tuple[str, CellCut | str, str], name: str) -> pd.DataFrame:
    path = _checked_file(folder, cell, name)
    columns = list(_COLUMNS[name])
    try:
        if path.suffix == ".csv":
            return read_table(path)[columns].astype({"target": str})
        return pd.read_parquet(path, columns=columns)
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, why: object) -> RunFileError:
    return RunFileError(
        f"{path}: not what `make models` writes ({why}). Delete {path.parent} and run `make "
        "models` again."
    )


def _checked_file(folder: Path, cell: tuple[str, CellCut | str, str], name: str) -> Path:
    run = read_run(folder, *cell)
    path = run_folder(folder, *cell) / name
    expected = run.get("files", {}).get(name, {}).get("sha256")
    if not path.is_file():
        raise RunFileError(
            f"{path}: no such file, though its run.json is there. Run `make models` again."
        )
    if expected is not None and hash_file(path) != expected:
        raise RunFileError(
            f"{path}: not the file that `make models` wrote (expected SHA-256 {expected}). "
            f"Delete {path.parent} and run `make models` again."
        )
    return path
