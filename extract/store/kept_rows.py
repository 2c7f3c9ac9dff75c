"""Rows of earlier shards, which are used again where neither the tile nor its picture changed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from extract.config.arrays import Array, Bools, Ints
from extract.pictures.decode import PICTURE
from extract.store.columns import decode_ids, read_column
from extract.store.embeddings import ShardReader
from extract.store.schema import OK, open_embeddings

Stamps = NDArray[np.uint64]
_WHOLE_BYTES = 1 << 22  # a shard's cut of at most so many is read as a whole, and kept in memory
_MOST_WHOLE = 128
_NEAR = 4  # rows that lie in no more than so many times their number are read as one piece


class Match(NamedTuple):
    """Which rows of a table are kept from earlier shards.

    Attributes
    ----------
    rows : (n,), row of the earlier shards that has the tile; −1 where none has.
    is_same : (n,), whether the picture is the one that was embedded, or is missing now.
    """

    rows: Ints
    is_same: Bools


class KeptRows:
    """Rows of several shards of one backbone; of a tile that is in two, the row of the later.

    Parameters
    ----------
    paths : the shards, from the earliest to the latest.
    retry : a tile that was rejected is no kept row.

    Raises
    ------
    EmbeddingsError : a shard is damaged.
    """

    def __init__(self, paths: Sequence[Path], *, retry: bool) -> None:
        self._shards = [ShardReader(path) for path in paths]
        tables = [_read_table(path, number) for number, path in enumerate(paths)]
        table = pd.concat(tables, ignore_index=True)
        if retry:
            table = table[table["is_ok"]]
        self._table = table.drop_duplicates("id", keep="last").reset_index(drop=True)
        self._index = pd.Index(self._table["id"])
        self._read_whole = lru_cache(_MOST_WHOLE)(self._read_whole_uncached)

    def match(self, ids: pd.Series[Any], stamps: Stamps) -> Match:
        """Find the kept rows of some tiles.

        Parameters
        ----------
        ids, stamps : (n,), of the tiles, and of their pictures as they are now.
        """
        rows = self._index.get_indexer(pd.Index(ids.astype(str)))
        then = self._table["stamp"].to_numpy()[rows]
        is_same = (rows >= 0) & ((then == stamps) | (stamps == 0))
        return Match(rows.astype(np.int64), is_same)

    def read_contents(self, rows: Ints) -> NDArray[np.uint64]:
        """Return the hash of the decoded pixels of each row, 0 where it is not known."""
        return self._table["content"].to_numpy()[rows]

    def read_stamps(self, rows: Ints) -> Stamps:
        """Return the stamp that each row's picture had."""
        return self._table["stamp"].to_numpy()[rows]

    def read_reasons(self, rows: Ints) -> list[str]:
        """Return why each row was rejected; empty where it was not."""
        return self._table["reason"].iloc[rows].tolist()

    def read_facts(self, rows: Ints) -> NDArray[np.void]:
        """Return what the picture of each row tells without a network."""
        facts = np.zeros(len(rows), PICTURE)
        for shard, places, within in self._split(rows):
            with open_embeddings(shard.path) as file:
                if "pictures" in file:
                    facts[places] = read_column(file, shard.path, "pictures")[within]
        return facts

    def read(self, cut: str, rows: Ints) -> Array:
        """Read rows of a cut: (n, …), as stored.

        Raises
        ------
        EmbeddingsError : they are damaged.
        """
        pieces = []
        order = []
        for shard, places, within in self._split(rows):
            pieces.append(self._read_shard(shard, cut, within))
            order.append(places)
        return np.concatenate(pieces)[np.argsort(np.concatenate(order))]

    def _split(self, rows: Ints) -> list[tuple[ShardReader, Ints, Ints]]:
        """Return each shard in which rows lie, their places among `rows`, and their rows in it."""
        shards = self._table["shard"].to_numpy()[rows]
        within = self._table["row"].to_numpy()[rows]
        parts = []
        for number in np.unique(shards):
            places = np.flatnonzero(shards == number)
            parts.append((self._shards[number], places, within[places]))
        return parts

    def _read_shard(self, shard: ShardReader, cut: str, rows: Ints) -> Array:
        data = shard.file[f"cuts/{cut}"]
        n_bytes = data.size * data.dtype.itemsize
        try:
            if n_bytes <= _WHOLE_BYTES:
                return self._read_whole(shard, cut)[rows]
            first = int(rows.min())
            stop = int(rows.max()) + 1
            if stop - first <= _NEAR * len(rows):
                return shard.read(cut, first, stop)[rows - first]
            return np.concatenate([shard.read(cut, row, row + 1) for row in rows.tolist()])
        finally:
            shard.close()

    def _read_whole_uncached(self, shard: ShardReader, cut: str) -> Array:
        return shard.read(cut, 0, len(shard.file["status"]))


def _read_table(path: Path, number: int) -> pd.DataFrame:
    """Read what is known of each row of a shard; the stamp of one that has none is its own."""
    with open_embeddings(path) as file:
        ids = decode_ids(read_column(file, path, "id"))
        stamp = np.ones(len(ids), np.uint64)
        content = np.zeros(len(ids), np.uint64)
        if "stamp" in file:
            stamp = read_column(file, path, "stamp")
        if "pictures" in file:
            content = read_column(file, path, "pictures")["content"]
        columns = {
            "id": ids.astype(str),
            "shard": number,
            "row": np.arange(len(ids)),
            "is_ok": read_column(file, path, "status") == OK,
            "reason": read_column(file, path, "reason"),
            "stamp": stamp,
            "content": content,
        }
    return pd.DataFrame(columns)
