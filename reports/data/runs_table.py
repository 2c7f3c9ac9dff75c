"""Read every finished run, and check that all have the same folds."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pandas as pd

from extract.config.cuts import ALL_CUTS
from extract.errors import ReportError
from extract.tables.tile_table import Tiles
from models.data.fold_file import hash_folds, open_folds
from models.store.cells import list_cells
from models.store.runs import read_run, run_folder
from reports.settings import ReportSettings

COLUMNS = [
    "split",
    "cut",
    "model",
    "seconds",
    "bytes",
    "peak_rss_bytes",
    "folds",
    "created_with",
    "chosen",
]


class RunList(NamedTuple):
    """The finished runs (`COLUMNS`), and the names of those asked for that are not finished."""

    runs: pd.DataFrame
    missing: list[str]


def read_runs(settings: ReportSettings, scores: pd.DataFrame, tiles: Tiles | None) -> RunList:
    """Read `run.json` of every run that was scored or is asked for.

    Raises
    ------
    ReportError : a run that was fitted on other folds; the text names it.
    """
    scored = scores[["split", "cut", "model"]].itertuples(index=False, name=None)
    has_numbers = tiles is None or tiles.targets.shape[1] > 0
    asked = [cell.names for cell in list_cells(settings) if has_numbers or cell.cut is not ALL_CUTS]
    rows = []
    missing = []
    for name in dict.fromkeys([*scored, *asked]):
        if (run_folder(settings.folder, *name) / "run.json").is_file():
            rows.append(_read_row(settings.folder, name))
        else:
            missing.append(" ".join(name))
    runs = pd.DataFrame(rows, columns=COLUMNS)
    _check_folds(runs, settings, tiles)
    return RunList(runs, missing)


def _read_row(folder: Path, name: tuple[str, str, str]) -> tuple[object, ...]:
    run = read_run(folder, *name)
    files = run.get("files") or {}
    versions = run.get("versions") or {}
    return (
        *name,
        float(run.get("seconds") or 0.0),
        sum(int(facts.get("bytes", 0)) for facts in files.values()),
        float(run.get("peak_rss_bytes") or "nan"),
        str((run.get("inputs") or {}).get("folds_sha256", "")),
        ", ".join(f"{package} {version}" for package, version in sorted(versions.items())),
        run.get("chosen") or {},
    )


def _check_folds(runs: pd.DataFrame, settings: ReportSettings, tiles: Tiles | None) -> None:
    """Refuse runs that were not fitted on the same folds."""
    known = runs[runs["folds"] != ""]
    current = _current_folds(settings, tiles)
    for split, some in known.groupby("split", sort=False):
        expected = current.get(str(split), some["folds"].mode().iloc[0])
        others = some[some["folds"] != expected]
        if len(others):
            first = others.iloc[0]
            raise ReportError(
                f"run {split} {first['cut']} {first['model']}: fitted on other folds than the rest "
                f"({len(others)} of {len(some)} runs of split {split!r}). Run `make models` again."
            )


def _current_folds(settings: ReportSettings, tiles: Tiles | None) -> dict[str, str]:
    """Return the hashes of the folds on disk; empty where the table or the folds are gone."""
    if tiles is None or not (settings.folder / "folds.parquet").is_file():
        return {}
    folds = open_folds(
        settings.folder, tiles, settings.models.fold_options, is_read_only=True
    ).folds
    return {split: hash_folds(tiles.id.to_numpy(), one) for split, one in folds.items()}
