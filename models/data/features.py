"""Features of some rows, in memory or on disk, read as float32 in bounded pieces."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from extract.config.arrays import Array, Float32s, Ints
from extract.errors import FeaturesError
from extract.networks.registry import Origin
from extract.store.embeddings import Embeddings
from models.data.float16 import is_finite, widen

_CHUNK_BYTES = 64 << 20  # of float32: small beside any matrix worth streaming
_READ_BYTES = 8 << 20  # of a file at once: many HDF5 chunks, so that each is read about once
_GIB = 1 << 30


def free_memory() -> int:
    """Return half of the memory that is free now [bytes]: the default limit of features."""
    return int(psutil.virtual_memory().available // 2)


class OnDisk:
    """Rows of one cut in its file, read when they are indexed; a matrix for `Features`.

    It may be pickled; the file is then opened again.

    Parameters
    ----------
    path, cut : the backbone's file, and the dataset in it.
    rows : (n_rows,), rows of the file that are rows of the matrix; None for all.
    """

    def __init__(self, path: Path, cut: str, rows: Ints | None) -> None:
        self._path = path
        self._cut = cut
        self._reader = Embeddings(path)
        if rows is None:
            rows = np.arange(len(self._reader))
        self._rows = rows
        empty = self._reader.read(cut, slice(0, 0))
        row_shape = empty.shape[1:]
        self.dtype: np.dtype[Any] = empty.dtype
        self.grid = row_shape if len(row_shape) == 3 else None
        self.shape = (len(rows), math.prod(row_shape))

    def __reduce__(self) -> tuple[type[OnDisk], tuple[Path, str, Ints]]:
        return OnDisk, (self._path, self._cut, self._rows)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Ints | slice) -> Array:
        """Read rows: (n_asked, n_features) as stored.

        Raises
        ------
        FeaturesError : NaN or infinity in a row.
        """
        asked = self._rows[index]
        n_features = self.shape[1]
        out = np.empty((len(asked), n_features), self.dtype)
        row_bytes = n_features * self.dtype.itemsize
        n_at_once = max(1, _READ_BYTES // max(1, row_bytes))
        block = asked // n_at_once
        for number in np.unique(block):
            is_mine = block == number
            places = np.flatnonzero(is_mine)
            rows = asked[places]
            first = rows.min()
            end = rows.max() + 1
            piece = self._reader.read(self._cut, slice(first, end))
            vectors = piece.reshape(len(piece), -1)
            found = vectors[rows - first]
            if not is_finite(found):
                raise FeaturesError(
                    f"{self._path}: NaN or infinity in {self._cut!r} of accepted tiles. "
                    "Run `make features` anew."
                )
            out[places] = found
        return out


class SideBySide:
    """The columns of several matrices of the same rows; a matrix for `Features`.

    Parameters
    ----------
    matrices : (n_rows, n_features) each, in memory or `OnDisk`; of maps the values as a vector.
    """

    grid = None

    def __init__(self, matrices: Sequence[Array | OnDisk]) -> None:
        self._matrices = matrices
        dtypes = [matrix.dtype for matrix in matrices]
        widths = [matrix.shape[1] for matrix in matrices]
        self.dtype = np.result_type(*dtypes)
        self.shape = (len(matrices[0]), sum(widths))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Ints | slice) -> Array:
        """Read rows: (n_asked, n_features) as stored; raises FeaturesError as `OnDisk` does."""
        return np.hstack([matrix[index] for matrix in self._matrices])


@dataclass(frozen=True, eq=False)
class Features:
    """A matrix (n_rows, n_features) that never has to be float32 as a whole.

    Attributes
    ----------
    stored : (n_all, n_core) of any float type, in memory or on disk; never changed.
    index : (n_rows,), rows of `stored` that these features are; None for all.
    beside : (n_all, n_beside), columns after those of `stored`: group columns, which no PCA mixes.
    limit : most that `array` may take [bytes]; None for half of the memory that is free then.
    grid : height, width and channels of a row that is a map; None for vectors.
    origin : the network that made the features, where a model goes on with it.
    cache : results computed once for all views of the same `stored`, as principal axes.
    """

    stored: Array | OnDisk | SideBySide
    index: Ints | None = None
    beside: Array | None = None
    limit: int | None = None
    grid: tuple[int, ...] | None = None
    origin: Origin | None = None
    cache: dict[Hashable, Any] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        """Return the number of rows."""
        if self.index is None:
            return len(self.stored)
        return len(self.index)

    @property
    def shape(self) -> tuple[int, int]:
        """(n_rows, n_features)."""
        n_features = self.n_core
        if self.beside is not None:
            n_features += self.beside.shape[1]
        return len(self), n_features

    @property
    def n_core(self) -> int:
        """Number of columns without those beside."""
        return int(self.stored.shape[1])

    def rows(self, rows: Ints) -> Features:
        """Return some of the rows; nothing is copied."""
        index = rows
        if self.index is not None:
            index = self.index[rows]
        return replace(self, index=index)

    def core(self) -> Features:
        """Return the columns that are not beside."""
        return replace(self, beside=None)

    def read_beside(self) -> Float32s:
        """Return the columns beside: (n_rows, n_beside) float32."""
        if self.beside is None:
            return np.zeros((len(self), 0), np.float32)
        values = self.beside
        if self.index is not None:
            values = values[self.index]
        return values.astype(np.float32)

    @property
    def fits(self) -> bool:
        """Whether the matrix fits as float32 into the memory that it may take."""
        return self._float32_bytes <= self._limit_bytes

    @property
    def _limit_bytes(self) -> int:
        if self.limit is None:
            return free_memory()
        return self.limit

    @property
    def _float32_bytes(self) -> int:
        n_rows, n_features = self.shape
        return 4 * n_rows * n_features

    def check_fits(self) -> None:
        """Check that the matrix fits as float32 into the memory that it may take.

        Raises
        ------
        FeaturesError : it does not.
        """
        if self.fits:
            return
        n_rows, n_features = self.shape
        limit = self._limit_bytes / _GIB
        size = self._float32_bytes / _GIB
        raise FeaturesError(
            f"{n_rows} rows of {n_features} features: expected at most {limit:.2g} GiB as "
            f"float32, got {size:.2g} GiB. Reduce them first, as 'knn+pca:256', take a family "
            "that streams (ridge, xgboost), or raise memory_gib in [models]."
        )

    def array(self) -> Float32s:
        """Return the whole matrix: (n_rows, n_features) float32.

        Raises
        ------
        FeaturesError : it does not fit into memory.
        """
        self.check_fits()
        return self.read_rows(slice(0, len(self)))

    def sample(self, n: int) -> Float32s:
        """Return at most n rows at even distances: (at most n, n_features) float32."""
        n_rows = len(self)
        rows = np.linspace(0, n_rows - 1, min(n, n_rows))
        sample = self.rows(rows.astype(np.int64))
        return sample.read_rows(slice(0, len(rows)))

    def chunks(self) -> Iterator[tuple[slice, Float32s]]:
        """Yield (rows, their features in float32) from the first row to the last, in pieces.

        The next piece is read while the last one is used.
        """
        n_rows, n_features = self.shape
        row_bytes = 4 * max(1, n_features)
        size = max(1, _CHUNK_BYTES // row_bytes)
        if n_rows <= size:
            rows = slice(0, n_rows)
            yield rows, self.read_rows(rows)
            return
        starts = range(0, n_rows, size)
        pieces = [slice(start, min(start + size, n_rows)) for start in starts]
        with ThreadPoolExecutor(1) as pool:
            coming = pool.submit(self.read_rows, pieces[0])
            for rows, following in pairwise(pieces):
                piece = coming.result()
                coming = pool.submit(self.read_rows, following)
                yield rows, piece
            yield pieces[-1], coming.result()

    def read_rows(self, rows: slice) -> Float32s:
        """Return consecutive rows, whatever memory they take: (n_asked, n_features) float32."""
        index: slice | Ints = rows
        if self.index is not None:
            index = self.index[rows]
        core = widen(self.stored[index])
        if self.beside is None:
            return core
        beside = self.beside[index]
        return np.hstack([core, beside], dtype=np.float32, casting="same_kind")


def open_matrix(sources: Sequence[tuple[Path, str]], rows: Ints | None) -> OnDisk | SideBySide:
    """Open rows of a cut, or of several side by side, on disk.

    Parameters
    ----------
    sources : the backbone's file and the dataset in it, of each cut. rows : as for `OnDisk`.
    """
    first, *others = (OnDisk(path, cut, rows) for path, cut in sources)
    if not others:
        return first
    return SideBySide([first, *others])


def open_features(
    sources: Sequence[tuple[Path, str]], rows: Ints, *, memory: int | None
) -> Features:
    """Open rows of cuts: in memory as stored where they fit, else read when they are needed.

    Parameters
    ----------
    sources, rows : as for `open_matrix`.
    memory : what they may take [bytes]; None for half of what is free.

    Raises
    ------
    FeaturesError : NaN or infinity among rows that are read into memory.
    """
    matrix = open_matrix(sources, rows)
    size = math.prod(matrix.shape) * matrix.dtype.itemsize
    limit = free_memory() if memory is None else memory
    stored = matrix if size > limit else matrix[:]
    return Features(stored, limit=memory, grid=matrix.grid)
