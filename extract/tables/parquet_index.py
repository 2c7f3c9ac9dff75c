"""The indexes of pandas in Parquet files: those that are counted are in the metadata alone."""

from __future__ import annotations

import re
from typing import Any

import pyarrow as pa

_UNNAMED = re.compile(r"__index_level_\d+__")


def list_ranges(schema: pa.Schema) -> dict[str, range]:
    """Return the named indexes that are counted: name → its values, one a row."""
    ranges = {}
    for one in _list_stated(schema):
        if isinstance(one, dict) and one.get("name"):
            start = one["start"]
            stop = one["stop"]
            ranges[str(one["name"])] = range(start, stop, one["step"])
    return ranges


def list_index_columns(schema: pa.Schema) -> set[str]:
    """Return the columns that are an index of pandas."""
    named = {one for one in _list_stated(schema) if isinstance(one, str)}
    unnamed = filter(_UNNAMED.fullmatch, schema.names)
    return named.union(unnamed)


def _list_stated(schema: pa.Schema) -> list[Any]:
    """Return the indexes: the name of a column, or the description of one that is counted."""
    metadata = schema.pandas_metadata
    if not metadata:
        return []
    return list(metadata.get("index_columns", []))
