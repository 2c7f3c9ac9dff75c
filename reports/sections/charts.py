"""Fill the templates of the page's charts with data.

A template is Vega-Lite as JSON, `vega/<name>.json`. Its data are datasets by name, and a text
`$word` in it stands for the parameter `word`.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from reports.data.formats import format_number

Spec = dict[str, Any]
LOWEST_R2 = -0.5  # worse scores are drawn here, with their number, so that the axis stays readable
_FOLDER = Path(__file__).parent / "vega"


def fill_chart(name: str, *, datasets: dict[str, pd.DataFrame], **parameters: Any) -> Spec:
    """Return a chart as Vega-Lite, without the layers of empty datasets."""
    spec: Spec = _fill(_read(name), parameters)
    if "layer" in spec:
        empty = [key for key, table in datasets.items() if table.empty]
        spec["layer"] = [layer for layer in spec["layer"] if _name_data(layer) not in empty]
    spec["config"] = _read("config")
    spec["datasets"] = {key: list_rows(table) for key, table in datasets.items()}
    return spec


def _name_data(layer: Spec) -> str:
    """Return the name of the dataset that a layer has of its own, or nothing."""
    data: dict[str, str] = layer.get("data", {})
    return data.get("name", "")


def _read(name: str) -> Any:
    return json.loads((_FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def _fill(node: Any, parameters: dict[str, Any]) -> Any:
    if isinstance(node, dict):
        return {key: _fill(child, parameters) for key, child in node.items()}
    if isinstance(node, list):
        return [_fill(child, parameters) for child in node]
    if isinstance(node, str) and node.startswith("$"):
        return parameters[node[1:]]
    return node


def list_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows as dicts, with numbers of five digits, which keeps the page small."""
    rows: list[dict[Any, Any]] = table.to_dict("records")
    return [{key: _round(value) for key, value in row.items()} for row in rows]


def _round(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return float(f"{value:.5g}") if math.isfinite(value) else None


def clip_r2(table: pd.DataFrame) -> pd.DataFrame:
    """Add what is drawn of `r2`, `low` and `high`, and in `beyond` the number that is not."""
    columns = ["r2", "low", "high"]
    numbers = table[columns].astype(float)
    drawn = numbers.clip(lower=LOWEST_R2)
    least = numbers.min(axis=1)
    texts = "◂ " + least.map(format_number)
    return table.assign(
        drawn=drawn["r2"],
        drawn_low=drawn["low"],
        drawn_high=drawn["high"],
        beyond=texts.where(least < LOWEST_R2, ""),
    )


def select_finite(table: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Return the rows in which all those numbers are finite, as floats."""
    table = table.astype(dict.fromkeys(columns, float))
    is_finite = np.isfinite(table[columns].to_numpy()).all(axis=1)
    return table.loc[is_finite]
