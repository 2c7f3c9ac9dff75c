"""Write the settings file for the next command, as a start that the user may edit."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pandas as pd

from extract.tables.deprivation_indices import find_direction, recognise
from extract.tables.table_file import list_columns
from extract.tiling.options import Request

FOLDS = 5
BLOCK_M = 2000.0
_CUTS = ["vgg16/block5_pool:avg", "resnet50v2/post_relu:avg"]


def render_settings(
    request: Request,
    table: pd.DataFrame,
    *,
    name: str,
    crs: str,
) -> str:
    """Return the settings for tiles, with splits that this many areas and this much ground allow.

    Parameters
    ----------
    table : the tile table: id, x, y [m], and area where the request names polygons.
    name : of the experiment.
    crs : name of the tiles' CRS.
    """
    stretch = [
        f"{channel} {low:g} to {high:g} {unit}".strip()
        for channel, (low, high, unit) in request.describe_stretch().items()
    ]
    sections = {
        "tiles": _describe_tiles(request, crs),
        "targets": {},
        "extract": {"cuts": _CUTS},
        "models": {},
        "reports": {},
    }
    if request.targets:
        sections["targets"] = {"columns": request.targets}
        sections["models"] = _choose_models(table)
        sections["reports"] = _find_boundaries(request) | _find_direction(request)
    lines = [
        "# Made by `python -m extract tiles`; tiles.json says from what. "
        f"0 and 255 in every tile: {'; '.join(stretch)}.",
        _render_key("name", name),
    ]
    for section, values in sections.items():
        if values:
            lines += ["", f"[{section}]"]
        lines += [_render_key(key, value) for key, value in values.items()]
    return "\n".join(lines) + "\n"


def _render_key(key: str, value: Any) -> str:
    """Return a line of TOML, which writes texts, numbers and lists as JSON does."""
    written = json.dumps(value, ensure_ascii=False)
    return f"{key} = {written}"


def _describe_tiles(request: Request, crs: str) -> dict[str, Any]:
    has_areas = request.areas is not None
    tiles: dict[str, Any] = {
        "table": "tiles.csv",
        "images": "images",
        "path": f"{{id}}.{request.format}",
        "area": "area" if has_areas else "id",
        "x": "x",
        "y": "y",
        "size_m": request.size_m,
        "crs": crs,
    }
    if request.format == "tiff":
        tiles["scale"] = [0, 1]
    if request.groups:
        tiles["groups"] = request.groups
    return tiles


def _choose_models(table: pd.DataFrame) -> dict[str, Any]:
    blocks = table[["x", "y"]] // BLOCK_M
    n_blocks = len(blocks.drop_duplicates())
    n_areas = table["area"].nunique()
    splits = ["random", "area"]
    if n_blocks >= FOLDS:
        splits.append("block")
    n_folds = min(FOLDS, n_areas)
    return {"splits": splits, "folds": max(2, n_folds)}


def _find_boundaries(request: Request) -> dict[str, Any]:
    """Name the polygons for the report's maps."""
    if request.areas is None:
        return {}
    source = Path(request.areas).resolve()
    path = os.path.relpath(source, request.out.resolve())
    return {"boundaries": path, "boundaries_code": request.area_code}


def _find_direction(request: Request) -> dict[str, Any]:
    """Say what higher values mean, where the labels are a published file that says so."""
    if request.labels is None or recognise(list_columns(request.labels, what="labels")) is None:
        return {}
    direction = find_direction(request.targets)
    return {"higher_is": direction} if direction else {}
