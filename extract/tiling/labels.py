"""Read the labels of areas, one row an area, as they are joined to tiles."""

from __future__ import annotations

import numpy as np
import pandas as pd

from extract.config.arrays import Array
from extract.errors import TableError
from extract.tables.deprivation_indices import recognise
from extract.tables.numbers import are_meant_as_numbers, parse_numbers
from extract.tables.table_file import list_columns, read_frame
from extract.tables.text_columns import check_columns
from extract.tiling.options import Request


def read_labels(request: Request, area: Array) -> pd.DataFrame | None:
    """Read the labels of the areas as text; None where none were named.

    The published files of the English Indices of Deprivation are taken as they are: targets are
    then called `income` or `imd_decile`, and the column of the codes is found.

    Parameters
    ----------
    area : (n_tiles,) of str, area of each tile, '' where it lies in none.

    Returns
    -------
    One row an area, its code the index, and the columns of groups and targets.

    Raises
    ------
    TableError : no such file or column, no target named, an area in two rows, no area of the tiles
        among them, or a target of which nothing can be learnt there.
    """
    if request.labels is None:
        return None
    where = f"labels {request.labels}"
    code = request.label_code or str(request.area_code)
    known = list(filter(None, list_columns(request.labels, what="labels")))
    columns = [*request.groups, *request.targets]
    published = recognise(known)
    named: dict[str, str] = {}
    if published is not None:
        named = published.columns
        known = [*named, *known]
        if code not in known:
            code = published.code
    if len(known) > 1 and code not in known and request.label_code is None:
        raise TableError(
            f"{where}: no column {code!r}, as the polygons have; it has {', '.join(known)}. Name "
            "the column of the area codes: --label-code."
        )
    stored = [named.get(name, name) for name in columns]
    check_columns([code, *stored], known, where)
    if not request.targets:
        raise TableError(
            f"{where}: say what is to be predicted, as --targets {known[-1]}; "
            f"it has {', '.join(known)}."
        )
    for name in ("id", "x", "y", "area", "nodata"):
        if name in columns:
            raise TableError(
                f"{where}: the column {name!r} has a name that the tile table needs. Rename it."
            )
    frame = read_frame(request.labels, [code, *stored], what="labels")
    frame.columns = pd.Index([code, *columns])
    labels = frame.set_index(frame[code].str.strip())
    twice = labels.index[labels.index.duplicated()]
    if len(twice):
        raise TableError(
            f"{where}: {twice.nunique()} areas stand in more than one row ({twice[0]}). "
            "Leave one row an area."
        )
    there = labels[labels.index.isin(area)]
    if there.empty:
        wanted = sorted(set(area) - {""})[:3]
        raise TableError(
            f"{where}: none of its areas ({labels.index[0]}, …) holds a tile; the tiles lie in "
            f"{', '.join(wanted) or 'none'}. Are these the same areas, of the same year?"
        )
    for name in request.targets:
        _check_target(there[name], f"{where}: the target {name!r}")
    return labels[columns]


def _check_target(column: pd.Series[str], where: str) -> None:
    """Refuse what the next command would, and a class for every area.

    Parameters
    ----------
    column : a target of the areas that hold tiles, whose codes are the index.
    """
    numbers, blank = parse_numbers(column)
    if blank.all():
        raise TableError(
            f"{where} is empty in all {len(column)} areas that hold tiles. "
            "Name another column, or fill it in."
        )
    is_number = are_meant_as_numbers(column[~blank])
    if is_number or not np.isnan(numbers).all():
        wrong = column[~np.isfinite(numbers) & ~blank]
        if len(wrong):
            raise TableError(
                f"{where} is not a number in {len(wrong)} of {len(column)} areas "
                f"({wrong.index[0]}: {wrong.iloc[0]!r}). "
                "Write numbers with a point, or leave it empty."
            )
        return
    classes = column[~blank].str.strip()
    if len(classes) > 1 and classes.is_unique:
        raise TableError(
            f"{where} is text that no two of {len(classes)} areas share ({classes.iloc[0]!r}, …): "
            "of such classes nothing can be learnt. Name a column of numbers, or of classes."
        )
