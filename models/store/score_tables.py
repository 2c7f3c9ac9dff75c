"""The tables of scores: `scores.csv`, and those of comparisons, winners and tile counts."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from extract.config.cuts import CellCut, Cut, parse_cell_cut
from extract.errors import RunFileError
from extract.files.atomic import write_atomically

_FIRST_COLUMNS = (
    "split",
    "backbone",
    "layer",
    "pooling",
    "model",
    "target",
    "level",
    "n",
    "mse",
    "rmse",
    "nrmse",
    "mae",
    "r2",
    "spearman",
    "r2_low",
    "r2_high",
    "rmse_low",
    "rmse_high",
    "fit_seconds",
)
_LATER_COLUMNS = (
    "r2_training_mean",
    "calibration_slope",
    "spearman_low",
    "spearman_high",
    "accuracy",
    "balanced_accuracy",
    "f1_macro",
    "log_loss",
    "accuracy_low",
    "accuracy_high",
    "balanced_accuracy_low",
    "balanced_accuracy_high",
    "f1_macro_low",
    "f1_macro_high",
    "log_loss_low",
    "log_loss_high",
)
SCORE_COLUMNS = (*_FIRST_COLUMNS, *_LATER_COLUMNS)


def split_cut(cut: CellCut | str) -> dict[str, str]:
    """Return backbone, layer and pooling of a cut; all `none` (or `all`) for the cuts `none` and
    `all`.
    """
    parsed = parse_cell_cut(cut) if isinstance(cut, str) else cut
    if isinstance(parsed, Cut):
        return parsed._asdict()
    return dict.fromkeys(Cut._fields, str(parsed))


def join_cut(backbone: str, layer: str, pooling: str) -> str:
    """Return the cut back from its three columns."""
    return backbone if backbone == layer else f"{backbone}/{layer}:{pooling}"


def write_scores(folder: Path, rows: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """Write `scores.csv`, and give it."""
    frame = pd.DataFrame(rows, columns=list(SCORE_COLUMNS)).astype({"n": int})
    write_csv(folder / "scores.csv", frame)
    return frame


def write_csv(path: Path, frame: pd.DataFrame) -> None:
    """Write a CSV file whole or not at all."""
    with write_atomically(path) as partial:
        frame.to_csv(partial, index=False)


def read_scores(folder: Path) -> pd.DataFrame:
    """Read `scores.csv`; the text `none` stays text, and columns that an older file does not have
    are NaN.

    Raises
    ------
    RunFileError : not there, or without a column.
    """
    path = folder / "scores.csv"
    if not path.is_file():
        raise RunFileError(f"{path}: no such file. Run `make models` first.")
    frame = pd.read_csv(path, keep_default_na=False, na_values=[""])
    lost = [name for name in _FIRST_COLUMNS if name not in frame.columns]
    if lost:
        raise RunFileError(f"{path}: no column {', '.join(lost)}. Run `make models` again.")
    return frame.assign(**{name: np.nan for name in _LATER_COLUMNS if name not in frame.columns})


def read_table(path: Path) -> pd.DataFrame:
    """Read `comparisons.csv`, `winners.csv` or `scores_by_tiles.csv`; the text `none` stays text.

    Raises
    ------
    RunFileError : not there, or not a table.
    """
    if not path.is_file():
        raise RunFileError(f"{path}: no such file. Run `make models` first.")
    try:
        return pd.read_csv(path, keep_default_na=False, na_values=[""])
    except (ValueError, OSError) as error:
        raise RunFileError(
            f"{path}: not readable ({error}). Delete it and run `make models` again."
        ) from None
