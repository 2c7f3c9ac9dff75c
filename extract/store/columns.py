"""The columns of embeddings files beside the cuts: ids, statuses, reasons, what pictures tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd

from extract.config.arrays import Array
from extract.errors import EmbeddingsError
from extract.store.checksums import hash_rows
from extract.store.schema import REJECTED, SET_ASIDE, UNREADABLE, open_embeddings


def read_column(file: h5py.File, path: Path, name: str) -> Array:
    """Read a column of an open file as a whole, and hold it against its checksum.

    Raises
    ------
    EmbeddingsError : it differs, or cannot be read.
    """
    try:
        data = file[name]
        values = data.asstr()[:] if data.dtype == object else data[:]
        is_damaged = data.attrs.get("sha256") not in (None, hash_rows(values))
    except UNREADABLE:
        is_damaged = True
    if is_damaged:
        raise EmbeddingsError(
            f"{path}: damaged: {name}: data differ from their checksum. {SET_ASIDE}"
        )
    return np.asarray(values)


def read_columns(shards: Sequence[Path]) -> Mapping[str, list[Array]]:
    """Read what the virtual file copies, shard by shard.

    Returns
    -------
    `id`, `status`, and `pictures` where every shard has it; one array a shard.
    """
    columns: dict[str, list[Array]] = {"id": [], "status": [], "pictures": []}
    for shard in shards:
        with open_embeddings(shard) as file:
            for name in columns.keys() & file.keys():
                columns[name].append(read_column(file, shard, name))
    if len(columns["pictures"]) < len(shards):
        del columns["pictures"]
    return columns


def read_rejects(shards: Sequence[Path]) -> dict[int, str]:
    """Return the reason of each rejected row, rows counted over all shards."""
    rejects: dict[int, str] = {}
    start = 0
    for shard in shards:
        with open_embeddings(shard) as file:
            status = read_column(file, shard, "status")
            rows = np.flatnonzero(status == REJECTED)
            reasons = read_column(file, shard, "reason") if len(rows) else np.array([])
        rejects |= {start + int(row): str(reasons[row]) for row in rows}
        start += len(status)
    return rejects


def encode_ids(ids: pd.Series[Any]) -> Array:
    """Return ids as HDF5 stores them: int64, or UTF-8 text of fixed width."""
    if ids.dtype == np.int64:
        return ids.to_numpy()
    encoded = np.array([text.encode() for text in ids])
    return encoded.astype(h5py.string_dtype("utf-8", encoded.dtype.itemsize))


def decode_ids(stored: Array) -> Array:
    """Return ids as the table has them: int64 or text."""
    if stored.dtype == np.int64:
        return stored
    return np.array([text.decode() for text in stored], dtype=object)
