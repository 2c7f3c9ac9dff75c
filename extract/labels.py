"""The labels of areas, one row an area, as they are joined to tiles."""

from __future__ import annotations

from typing import Any

import pandas as pd
from numpy.typing import NDArray

from extract.settings import suggest
from extract.tile_request import Request


class LabelsError(ValueError):
    """The labels cannot be used; the text says why, and what to do."""


def read_labels(request: Request, area: NDArray[Any]) -> pd.DataFrame | None:
    """Read the labels of the areas: a row an area, its code the index, and the columns of targets and groups; text.

    Raises
    ------
    LabelsError : no such file or column, no target named, an area in two rows, or no area of the tiles among them.
    """
    if request.labels is None:
        return None
    try:
        frame = pd.read_csv(request.labels, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise LabelsError(f"labels {request.labels}: cannot be read as CSV ({error}). Name a CSV with a row an area.") from None
    _check_labels(request, frame)
    labels = frame.assign(**{str(request.area_code): frame[request.area_code].str.strip()}).set_index(str(request.area_code))
    if not labels.index.isin(area).any():
        raise LabelsError(f"labels {request.labels}: none of its areas ({labels.index[0]}, …) holds a tile; the tiles lie in "
                           f"{', '.join(sorted(set(area) - {''})[:3]) or 'none'}. Are these the same areas, of the same year?")
    return labels[list(dict.fromkeys([*request.groups, *request.targets]))]


def _check_labels(request: Request, frame: pd.DataFrame) -> None:
    known = list(map(str, frame.columns))
    for name in (str(request.area_code), *request.targets, *request.groups):
        if name not in known:
            raise LabelsError(f"labels {request.labels}: no column {name!r}; it has {', '.join(known)}.{suggest(name, known)}")
    if not request.targets:
        raise LabelsError(f"labels {request.labels}: say what is to be predicted, as --targets {known[-1]}; it has "
                          f"{', '.join(known)}.")
    taken = {"id", "x", "y", "area", "nodata"} & {*request.targets, *request.groups}
    if taken:
        raise LabelsError(f"labels {request.labels}: the column {sorted(taken)[0]!r} has a name that the tile table needs. "
                          "Rename it.")
    twice = frame[request.area_code][frame[request.area_code].str.strip().duplicated()]
    if len(twice):
        raise LabelsError(f"labels {request.labels}: {twice.nunique()} areas stand in more than one row ({twice.iloc[0]}). "
                           "Leave one row an area.")
