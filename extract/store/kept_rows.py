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
_MOST_CHUNKS = 1 << 11  # that stay in memory in each process: 1 GiB
_LARGEST_CHUNK = 1 << 19  # [bytes] that stays; a larger one is that of one row, and read once


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
        self._chunks = _Chunks([ShardReader(path) for path in paths])
        tables = [_read_table(path, number) for number, path in enumerate(paths)]
        table = pd.concat(tables, ignore_index=True)
        if retry:
            table = table[table["is_ok"]]
        self._table = table.drop_duplicates("id", keep="last")
        self._index = pd.Index(self._table["id"])
        self._facts = np.concatenate([_read_facts(path) for path in paths])[self._table.index]

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
        return self._facts["content"][rows]

    def read_stamps(self, rows: Ints) -> Stamps:
        """Return the stamp that each row's picture had."""
        return self._table["stamp"].to_numpy()[rows]

    def read_reasons(self, rows: Ints) -> list[str]:
        """Return why each row was rejected; empty where it was not."""
        return self._table["reason"].iloc[rows].tolist()

    def read_facts(self, rows: Ints) -> NDArray[np.void]:
        """Return what the picture of each row tells without a network."""
        return self._facts[rows]

    def read(self, cut: str, rows: Ints) -> Array:
        """Read rows of a cut: (n, …), as stored.

        Raises
        ------
        EmbeddingsError : they are damaged.
        """
        shards = self._table["shard"].to_numpy()[rows]
        within = self._table["row"].to_numpy()[rows]
        return self._chunks.gather(cut, shards, within)


class _Chunks:
    """Chunks of several shards, as they are read and checked; those used last stay in memory.

    Each chunk is read once where tiles were added or removed. Where the table was sorted anew too,
    up to 1 GiB of vectors.
    """

    def __init__(self, shards: list[ShardReader]) -> None:
        self._shards = shards
        self._open = shards[0]
        self._read_small = lru_cache(_MOST_CHUNKS)(self._read_chunk)
        self._size_of = lru_cache(None)(self._read_size)

    def gather(self, cut: str, shards: Ints, rows: Ints) -> Array:
        """Return the rows of a cut: (n, …), each of its own shard."""
        pieces = []
        order = []
        for shard in np.unique(shards).tolist():
            size, is_small = self._size_of(shard, cut)
            read = self._read_small if is_small else self._read_chunk
            of_shard = np.flatnonzero(shards == shard)
            chunks = rows[of_shard] // size
            for chunk in np.unique(chunks).tolist():
                places = of_shard[chunks == chunk]
                pieces.append(read(shard, cut, chunk * size)[rows[places] - chunk * size])
                order.append(places)
        return np.concatenate(pieces)[np.argsort(np.concatenate(order))]

    def _read_chunk(self, shard: int, cut: str, start: int) -> Array:
        reader = self._switch_to(shard)
        stop = start + self._size_of(shard, cut)[0]
        return reader.read(cut, start, stop)

    def _read_size(self, shard: int, cut: str) -> tuple[int, bool]:
        """Return the number of rows in a chunk, and whether it is small."""
        n_rows, n_bytes = self._switch_to(shard).measure_chunk(cut)
        return n_rows, n_bytes <= _LARGEST_CHUNK

    def _switch_to(self, shard: int) -> ShardReader:
        """Keep one shard open: there may be more of them than a process may open files."""
        if self._open is not self._shards[shard]:
            self._open.close()
            self._open = self._shards[shard]
        return self._open


def _read_table(path: Path, number: int) -> pd.DataFrame:
    """Read what is known of each row of a shard; the stamp of one that has none is its own."""
    with open_embeddings(path) as file:
        ids = decode_ids(read_column(file, path, "id"))
        stamp = np.ones(len(ids), np.uint64)
        if "stamp" in file:
            stamp = read_column(file, path, "stamp")
        columns = {
            "id": ids.astype(str),
            "shard": number,
            "row": np.arange(len(ids)),
            "is_ok": read_column(file, path, "status") == OK,
            "reason": read_column(file, path, "reason"),
            "stamp": stamp,
        }
    return pd.DataFrame(columns)


def _read_facts(path: Path) -> NDArray[np.void]:
    """Read what the pictures of a shard tell; zeros where the shard does not say."""
    with open_embeddings(path) as file:
        if "pictures" in file:
            return read_column(file, path, "pictures")
        return np.zeros(len(file["status"]), PICTURE)
