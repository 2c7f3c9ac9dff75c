"""What was run: every finished run, those that are asked for and missing, and whether all had the same folds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

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


class Ran(NamedTuple):
    """The finished runs, `COLUMNS`, and the names of those that the settings ask for and that are not finished."""

    runs: pd.DataFrame
    missing: list[str]


def read_ran(settings: ReportSettings, scores: pd.DataFrame, tiles: Tiles | None) -> Ran:
    """Read `run.json` of every run that was scored or is asked for.

    Raises
    ------
    ReportError : a run that was fitted on other folds; the text names it.
    """
    scored = [
        tuple(row)
        for row in scores[["split", "cut", "model"]].drop_duplicates().to_numpy().tolist()
    ]
    has_numbers = tiles is None or tiles.targets.shape[1] > 0
    asked = [cell.names for cell in list_cells(settings) if has_numbers or cell.cut is not ALL_CUTS]
    names = list(dict.fromkeys([*scored, *asked]))
    is_done = {name: (run_folder(settings.folder, *name) / "run.json").is_file() for name in names}
    runs = pd.DataFrame(
        [_run_row(settings.folder, name) for name in names if is_done[name]], columns=COLUMNS
    )
    _check_folds(runs, settings, tiles)
    return Ran(runs, [" ".join(name) for name in names if not is_done[name]])


def _run_row(folder: Path, name: tuple[str, str, str]) -> dict[str, Any]:
    run = read_run(folder, *name)
    versions = run.get("versions") or {}
    size = sum(int(facts.get("bytes", 0)) for facts in (run.get("files") or {}).values())
    return {
        **dict(zip(("split", "cut", "model"), name, strict=True)),
        "seconds": float(run.get("seconds") or 0.0),
        "bytes": size,
        "peak_rss_bytes": float(run.get("peak_rss_bytes") or "nan"),
        "folds": str((run.get("inputs") or {}).get("folds_sha256", "")),
        "chosen": run.get("chosen") or {},
        "created_with": ", ".join(
            f"{name} {version}" for name, version in sorted(versions.items())
        ),
    }


def _check_folds(runs: pd.DataFrame, settings: ReportSettings, tiles: Tiles | None) -> None:
    """Refuse to set side by side what was not fitted on the same folds."""
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
    """Hashes of the folds on disk; empty where the table or the folds are gone."""
    if tiles is None or not (settings.folder / "folds.parquet").is_file():
        return {}
    folds = open_folds(
        settings.folder, tiles, settings.models.fold_options, is_read_only=True
    ).folds
    return {split: hash_folds(tiles.id.to_numpy(), one) for split, one in folds.items()}


def describe_chosen(chosen: Any) -> str:
    """Return what was chosen in each fold, as one short text; numbers with four digits."""
    return json.dumps(_short(chosen), sort_keys=True, ensure_ascii=False) if chosen else "–"


def _short(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _short(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_short(one) for one in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value
