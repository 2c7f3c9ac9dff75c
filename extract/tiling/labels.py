"""The labels of areas, one row an area, as they are joined to tiles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from extract.config.suggestions import suggest
from extract.errors import TableError
from extract.tables.text_columns import parse_numbers
from extract.tiling.options import Request


def read_labels(request: Request, area: NDArray[Any]) -> pd.DataFrame | None:
    """Read the labels of the areas: a row an area, its code the index, and the columns of targets and groups; text.

    Raises
    ------
    TableError : no such file or column, no target named, an area in two rows, no area of the tiles among them, or a target of
        which nothing can be learnt there.
    """
    if request.labels is None:
        return None
    frame = _read_csv(request.labels)
    _check_labels(request, frame)
    labels = frame.assign(
        **{str(request.area_code): frame[request.area_code].str.strip()}
    ).set_index(str(request.area_code))
    there = labels.index.isin(area)
    if not there.any():
        raise TableError(
            f"labels {request.labels}: none of its areas ({labels.index[0]}, …) holds a tile; the tiles lie in "
            f"{', '.join(sorted(set(area) - {''})[:3]) or 'none'}. Are these the same areas, of the same year?"
        )
    for name in request.targets:
        _check_target(labels.loc[there, name], request.labels)
    return labels[[*request.groups, *request.targets]]


def _read_csv(path: Path) -> pd.DataFrame:
    """Read all columns as text; a row that is longer than the header is an error and shifts nothing."""
    try:
        rows = pd.read_csv(
            path, header=None, dtype=str, keep_default_na=False, encoding="utf-8-sig"
        ).fillna("")
    except (OSError, ValueError) as error:
        raise TableError(
            f"labels {path}: cannot be read as CSV ({str(error).strip()}). Name a CSV with a row an area, in "
            "UTF-8."
        ) from None
    names = rows.iloc[0].str.strip()
    if len(names) == 1 and ";" in names[0]:
        raise TableError(
            f"labels {path}: its columns are parted by ';'. Save it with commas between them, and a point in "
            "numbers."
        )
    twice = names[names.duplicated()]
    if len(twice):
        raise TableError(
            f"labels {path}: {twice.iloc[0]!r} names two columns. Rename or remove one."
        )
    if len(rows) == 1:
        raise TableError(f"labels {path}: no rows below the header. Name a CSV with a row an area.")
    return rows.iloc[1:].set_axis(names.tolist(), axis=1).reset_index(drop=True)


def _check_labels(request: Request, frame: pd.DataFrame) -> None:
    known = list(map(str, frame.columns))
    for name in (str(request.area_code), *request.targets, *request.groups):
        if name not in known:
            raise TableError(
                f"labels {request.labels}: no column {name!r}; it has {', '.join(known)}.{suggest(name, known)}"
            )
    if not request.targets:
        raise TableError(
            f"labels {request.labels}: say what is to be predicted, as --targets {known[-1]}; it has "
            f"{', '.join(known)}."
        )
    taken = {"id", "x", "y", "area", "nodata"} & {*request.targets, *request.groups}
    if taken:
        raise TableError(
            f"labels {request.labels}: the column {sorted(taken)[0]!r} has a name that the tile table needs. "
            "Rename it."
        )
    twice = frame[request.area_code][frame[request.area_code].str.strip().duplicated()]
    if len(twice):
        raise TableError(
            f"labels {request.labels}: {twice.nunique()} areas stand in more than one row ({twice.iloc[0]}). "
            "Leave one row an area."
        )


def _check_target(column: pd.Series[str], path: Path) -> None:
    """Refuse what the next command would, and a class for every area.

    Parameters
    ----------
    column : a target of the areas that hold tiles, whose codes are the index.
    """
    where, (numbers, blank) = f"labels {path}: the target {column.name!r}", parse_numbers(column)
    if blank.all():
        raise TableError(
            f"{where} is empty in all {len(column)} areas that hold tiles. Name another column, or fill it in."
        )
    if not np.isnan(numbers).all() or column.str.fullmatch(r"\s*[-+]?\d*,\d+\s*").any():
        bad = np.flatnonzero((np.isnan(numbers) & ~blank) | np.isinf(numbers))
        if len(bad):
            raise TableError(
                f"{where} is not a number in {len(bad)} of {len(column)} areas ({column.index[bad[0]]}: "
                f"{column.iloc[bad[0]]!r}). Write numbers with a point, or leave it empty."
            )
        return
    classes = column[~blank].str.strip()
    if len(classes) > 1 and classes.nunique() == len(classes):
        raise TableError(
            f"{where} is text that no two of {len(classes)} areas share ({classes.iloc[0]!r}, …): of such classes "
            "nothing can be learnt. Name a column of numbers, or of classes."
        )
