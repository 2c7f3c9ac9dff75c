"""Texts in CSV files that spreadsheets open, which take some for formulas."""

from __future__ import annotations

from typing import Any

import pandas as pd

_FORMULA = r"[=+\-@\t\r]"


def quote_formulas(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table in which texts that begin as formulas do have an apostrophe before them.

    A text that is a number stays. Source: OWASP, "CSV Injection".
    """
    quoted = {}
    for name in table.columns:
        column = table[name]
        is_text = pd.api.types.is_string_dtype(column) or column.dtype == object
        quoted[name] = _quote(column) if is_text else column
    names = pd.Series(table.columns, dtype=object)
    return pd.DataFrame(quoted, index=table.index).set_axis(_quote(names).tolist(), axis=1)


def _quote(column: pd.Series[Any]) -> pd.Series[Any]:
    texts = column.astype(str)
    is_formula = texts.str.match(_FORMULA) & column.notna()
    if not is_formula.any():
        return column
    is_number = pd.to_numeric(texts, errors="coerce").notna()
    return column.mask(is_formula & ~is_number, "'" + texts)
