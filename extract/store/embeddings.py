"""Read embeddings: every row that is handed out was held against its checksum."""

from __future__ import annotations

import hashlib
import math
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from extract.config.arrays import Array, Bools
from extract.errors import EmbeddingsError
from extract.store.checksums import CHUNK_SUMS, hash_dataset, sum_chunk
from extract.store.columns import decode_ids
from extract.store.schema import (
    OK,
    SET_ASIDE,
    UNREADABLE,
    check_seal,
    get_attributes,
    name_shards,
    open_embeddings,
)


class _Part(NamedTuple):
    """A shard, and the rows of the whole that lie in it."""

    shard: ShardReader
    start: int
    stop: int


class Embeddings:
    """Read one backbone's embeddings, `features/<backbone>.h5`.

    Attributes
    ----------
    path, backbone : the file, and the backbone by its name.
    ids : (n_tiles,), int64 or text, in the order of the tile table.
    is_ok : (n_tiles,), false where the tile was rejected and its rows are NaN.
    cuts : dataset name of each cut, `<layer>:<pooling>`.
    attributes : root attributes of the file.

    Raises
    ------
    EmbeddingsError : no such file, not an embeddings file, a newer schema, or a shard is missing;
        from every method, data that differ from their checksum.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.backbone = path.stem
        self._file = open_embeddings(path)
        self._checked: set[str] = set()
        self._parts_of: dict[str, list[_Part]] = {}
        self._open_shard: ShardReader | None = None
        try:
            check_seal(self._file, path)
            self.attributes = get_attributes(self._file)
            self.cuts = list(self._file["cuts"])
            named = name_shards(path, self.attributes)
            self._shards = {name: ShardReader(path.parent / name) for name in named}
            for shard in self._shards.values():
                shard.check_there()
        except EmbeddingsError:
            self._file.close()
            raise

    @cached_property
    def ids(self) -> Array:
        """All ids; `read_ids` reads some."""
        return self.read_ids(slice(None))

    @cached_property
    def is_ok(self) -> Bools:
        """Whether each tile was accepted."""
        return np.asarray(self._read_column("status", slice(None)) == OK)

    def __len__(self) -> int:
        """Return the number of tiles."""
        return len(self._file["status"])

    def read_ids(self, rows: slice) -> Array:
        """Read some ids, int64 or text, in the order of the tile table."""
        return decode_ids(self._read_column("id", rows))

    @property
    def pictures(self) -> NDArray[np.void] | None:
        """Statistics of each picture, (n_tiles,) of `extract.pictures.decode.PICTURE`.

        Zeros for rejected tiles; None for imported files and those of schema version 1.
        """
        return self.read_pictures(slice(None))

    def read_pictures(self, rows: slice) -> NDArray[np.void] | None:
        """Read some rows of `pictures`."""
        return self._read_column("pictures", rows) if "pictures" in self._file else None

    def _read_column(self, name: str, rows: slice) -> Array:
        """Read rows of a column, the whole of which is checked before the first are read."""
        try:
            stated = self._file[name].attrs.get("sha256")
            if name not in self._checked and stated not in (None, hash_dataset(self._file[name])):
                raise _damaged(self.path, name)
            self._checked.add(name)
            return np.asarray(self._file[name][rows])
        except EmbeddingsError:
            raise
        except UNREADABLE:
            raise _damaged(self.path, name) from None

    def shape(self, cut: str) -> tuple[int, ...]:
        """Return the shape of one row of a cut."""
        return tuple(self._file[f"cuts/{cut}"].shape[1:])

    def read(self, cut: str, rows: slice = slice(None)) -> NDArray[np.float16 | np.float32]:
        """Read rows of a cut, as stored: (n_rows, …), NaN rows for rejected tiles."""
        first, last, _ = rows.indices(len(self))
        pieces = []
        for part in self._find_parts(cut):
            start = max(first, part.start)
            stop = min(last, part.stop)
            if start < stop:
                self._switch_to(part.shard)
                pieces.append(part.shard.read(cut, start - part.start, stop - part.start))
        if not pieces:
            return np.asarray(self._file[f"cuts/{cut}"][:0])
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    def _find_parts(self, cut: str) -> list[_Part]:
        """Return where the rows of a cut lie, in order; what is no virtual file is its own part."""
        if cut not in self._parts_of:
            data = self._file[f"cuts/{cut}"]
            parts = [_Part(ShardReader(self.path), 0, len(self))]
            if data.is_virtual:
                parts = [self._find_part(source) for source in data.virtual_sources()]
            parts.sort(key=lambda part: part.start)
            stops = [0, *(part.stop for part in parts)]
            if stops[-1] != len(self) or stops[:-1] != [part.start for part in parts]:
                raise EmbeddingsError(
                    f"{self.path}: rows of {cut!r} lie in no shard, or in two. {SET_ASIDE}"
                )
            self._parts_of[cut] = parts
        return self._parts_of[cut]

    def _find_part(self, source: h5py._hl.vds.VDSmap) -> _Part:
        first, last = source.vspace.get_select_bounds()
        return _Part(self._shards[source.file_name], int(first[0]), int(last[0]) + 1)

    def _switch_to(self, shard: ShardReader) -> None:
        """Keep one shard open: there may be more of them than a process may open files."""
        if self._open_shard is not shard:
            if self._open_shard is not None:
                self._open_shard.close()
            self._open_shard = shard

    def checksum(self, cut: str) -> str:
        """Return the SHA-256 of a cut's checksums in all shards; the data are not read."""
        digest = hashlib.sha256()
        for shard in self._shards.values():
            with open_embeddings(shard.path) as file:
                digest.update(str(file[f"cuts/{cut}"].attrs["sha256"]).encode())
        return digest.hexdigest()

    def __enter__(self) -> Embeddings:
        """Return the reader itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        """Close the file."""
        if self._open_shard is not None:
            self._open_shard.close()
        self._file.close()


class ShardReader:
    """Read the cuts of one shard; each chunk is held against its checksum when it is first read.

    Shards of versions 1 and 2 have one checksum a cut: all of it is read first.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: h5py.File | None = None
        self._sums: dict[str, dict[int, int]] = {}  # of each cut, the chunks that are not checked

    def check_there(self) -> None:
        """Raise `EmbeddingsError` where the shard is missing."""
        if not self.path.is_file():
            raise EmbeddingsError(
                f"{self.path.parent}.h5: its shard {self.path.parent.name}/{self.path.name} is "
                "missing. Run `make features` again."
            )

    @property
    def file(self) -> h5py.File:
        """The file, which is opened where it is not."""
        if self._file is None:
            self._file = open_embeddings(self.path)
            check_seal(self._file, self.path)
        return self._file

    def close(self) -> None:
        """Close the file; what was checked is remembered."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def read(self, cut: str, start: int, stop: int) -> Array:
        """Read rows of a cut: (stop − start, …), as stored.

        Raises
        ------
        EmbeddingsError : they differ from their checksum, or cannot be read.
        """
        file = self.file
        try:
            data = file[f"cuts/{cut}"]
            size = _count_chunk_rows(data)
            first = start // size
            last = -(-stop // size)
            rows = np.asarray(data[first * size : last * size])
            self._check(cut, data, rows, first=first)
        except EmbeddingsError:
            raise
        except UNREADABLE:
            raise _damaged(self.path, f"cuts/{cut}") from None
        return rows[start - first * size : stop - first * size]

    def measure_chunk(self, cut: str) -> tuple[int, int]:
        """Return the number of rows in a chunk of a cut, and its size [bytes]."""
        data = self.file[f"cuts/{cut}"]
        n_rows = _count_chunk_rows(data)
        return n_rows, n_rows * math.prod(data.shape[1:]) * data.dtype.itemsize

    def _check(self, cut: str, data: h5py.Dataset, rows: Array, *, first: int) -> None:
        """Check whole chunks of a cut, of which `first` is the number of the first."""
        if cut not in self._sums:
            self._sums[cut] = self._read_sums(cut, data)
        sums = self._sums[cut]
        size = _count_chunk_rows(data)
        for start in range(0, len(rows), size):
            chunk = first + start // size
            if chunk in sums:
                if sum_chunk(rows[start : start + size]) != sums[chunk]:
                    raise _damaged(self.path, f"cuts/{cut}")
                del sums[chunk]

    def _read_sums(self, cut: str, data: h5py.Dataset) -> dict[int, int]:
        """Return the checksum of each chunk; none where all of the cut was checked."""
        sums = data.attrs.get(CHUNK_SUMS)
        if sums is not None and data.chunks and len(sums) == -(-len(data) // data.chunks[0]):
            return dict(enumerate(sums.tolist()))
        if hash_dataset(data) != data.attrs["sha256"]:
            raise _damaged(self.path, f"cuts/{cut}")
        return {}


def _count_chunk_rows(data: h5py.Dataset) -> int:
    return data.chunks[0] if data.chunks else max(1, len(data))


def _damaged(path: Path, name: str) -> EmbeddingsError:
    return EmbeddingsError(f"{path}: damaged: {name}: data differ from their checksum. {SET_ASIDE}")
