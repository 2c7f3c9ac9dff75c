"""The features of some rows: in memory or on disk as they are stored, handed out as float32."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from extract.errors import FeaturesError
from extract.networks.registry import Origin
from extract.store.embeddings import Embeddings
from models.data.arrays import Ints
from models.data.float16 import is_finite, widen

_CHUNK_BYTES = 64 << 20  # of float32: small beside any matrix worth streaming
_READ_BYTES = 8 << 20  # of a file at once: many HDF5 chunks, so that each is read about once
GIB = 1 << 30


def free_memory() -> int:
    """Half of what the machine has free now [bytes]: what features may fill where the settings say nothing."""
    return int(psutil.virtual_memory().available // 2)


class OnDisk:
    """Rows of one cut in its file, read when they are asked for, in the file's own order.

    It is a matrix for `Features`: `shape`, `dtype` and rows by `[…]`. It may be pickled; the file is opened again.

    Parameters
    ----------
    path, cut : the backbone's file, and the dataset in it.
    rows : (n_rows,), increasing; rows of the file that are rows of the matrix; None for all.
    """

    def __init__(self, path: Path, cut: str, rows: Ints | None) -> None:
        self._path = path
        self._cut = cut
        self._rows = rows
        self._reader = Embeddings(path)
        piece = self._reader.read(cut, slice(0, 0))
        self.dtype: np.dtype[Any] = piece.dtype
        self.grid = tuple(piece.shape[1:]) if piece.ndim == 4 else None
        self.shape = (
            len(self._reader) if rows is None else len(rows),
            int(np.prod(piece.shape[1:])),
        )

    @property
    def n_bytes(self) -> int:
        """Size of the whole as stored [bytes]."""
        return self.shape[0] * self.shape[1] * self.dtype.itemsize

    def __getstate__(self) -> tuple[Path, str, Ints | None]:
        return self._path, self._cut, self._rows

    def __setstate__(self, state: tuple[Path, str, Ints | None]) -> None:
        self.__init__(*state)  # type: ignore[misc]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Ints | slice) -> NDArray[Any]:
        """Read rows: (n_asked, n_features) as stored.

        Raises
        ------
        FeaturesError : NaN or infinity in a row of an accepted tile.
        """
        if self._rows is not None:
            asked = self._rows[index]
        else:
            asked = np.arange(*index.indices(len(self))) if isinstance(index, slice) else index
        order = np.argsort(asked, kind="stable")
        out = np.empty((len(asked), self.shape[1]), self.dtype)
        span = max(1, _READ_BYTES // max(1, self.shape[1] * self.dtype.itemsize))
        for part in (
            np.split(order, np.flatnonzero(np.diff(asked[order] // span)) + 1) if len(asked) else ()
        ):
            first = asked[part[0]]
            piece = self._reader.read(self._cut, slice(first, asked[part[-1]] + 1))
            piece = piece.reshape(len(piece), self.shape[1])
            found = (
                piece
                if len(piece) == len(part) and (np.diff(part) == 1).all()
                else piece[asked[part] - first]
            )
            if not is_finite(found):
                raise FeaturesError(
                    f"{self._path}: NaN or infinity in {self._cut!r} of accepted tiles. "
                    "Run `make features` anew."
                )
            out[part] = found
        return out


class Features:
    """A matrix (n_rows, n_features) that never has to be float32 as a whole.

    Parameters
    ----------
    stored : (n_all, n_core) of any float type, in memory or `OnDisk`; rows are read from it, it is never changed.
    index : (n_rows,), rows of `stored` that these features are; None for all.
    beside : (n_all, n_beside) in memory, columns that stand after those of `stored`: group columns, which no PCA mixes.
    limit : most that `array` may give [bytes]; None for half of the memory that is free then.
    grid : height, width and channels of a row that is a map; None for vectors.

    Attributes
    ----------
    origin : the network that stood before them, where a model goes on with it.
    """

    def __init__(
        self,
        stored: NDArray[Any] | OnDisk,
        index: Ints | None = None,
        *,
        beside: NDArray[Any] | None = None,
        limit: int | None = None,
        grid: tuple[int, int, int] | None = None,
    ) -> None:
        self._stored = stored
        self._index = index
        self._beside = beside
        self._limit = limit
        self.grid = grid
        self.origin: Origin | None = None
        self.shared: dict[
            tuple[Any, ...], Any
        ] = {}  # what was made of all rows once, for every view of them

    def __len__(self) -> int:
        """Count the rows."""
        return len(self._stored) if self._index is None else len(self._index)

    @property
    def shape(self) -> tuple[int, int]:
        """(n_rows, n_features)."""
        return len(self), self.n_core + (0 if self._beside is None else self._beside.shape[1])

    @property
    def n_core(self) -> int:
        """Count the columns that are not beside."""
        return int(self._stored.shape[1])

    @property
    def index(self) -> Ints:
        """Rows of the whole that these are: (n_rows,)."""
        return np.arange(len(self)) if self._index is None else self._index

    def whole(self) -> Features:
        """Return all rows of the matrix that these are rows of."""
        return self._view(None, self._beside)

    def rows(self, rows: Ints) -> Features:
        """Return some of the rows; nothing is copied."""
        return self._view(rows if self._index is None else self._index[rows], self._beside)

    def core(self) -> Features:
        """Return the columns that are not beside."""
        return self._view(self._index, None)

    def beside(self) -> NDArray[np.float32]:
        """Return the columns beside: (n_rows, n_beside) float32."""
        wide = np.zeros((len(self._stored), 0)) if self._beside is None else self._beside
        return np.asarray(wide if self._index is None else wide[self._index], dtype=np.float32)

    def with_beside(self, beside: NDArray[Any]) -> Features:
        """Return the same rows with other columns beside: (n_all, n_beside), a row for each of the whole."""
        return self._view(self._index, beside)

    def _view(self, index: Ints | None, beside: NDArray[Any] | None) -> Features:
        view = Features(self._stored, index, beside=beside, limit=self._limit, grid=self.grid)
        view.shared = self.shared
        view.origin = self.origin
        return view

    def from_network(self, origin: Origin | None) -> Features:
        """Return the same rows, told which network stood before them."""
        view = self._view(self._index, self._beside)
        view.origin = origin
        return view

    @property
    def limit(self) -> int:
        """Most that `array` may give [bytes]."""
        return free_memory() if self._limit is None else self._limit

    @property
    def n_bytes(self) -> int:
        """Size of the whole as stored [bytes]."""
        return len(self._stored) * self.n_core * self._stored.dtype.itemsize

    def check_fits(self) -> None:
        """Refuse what would not fit as float32 into the memory that it may fill.

        Raises
        ------
        FeaturesError : it would not.
        """
        limit = self.limit
        size = 4 * len(self) * self.shape[1]
        if size > limit:
            raise FeaturesError(
                f"{len(self)} rows of {self.shape[1]} features: expected at most {limit / GIB:.2g} GiB as "
                f"float32, got {size / GIB:.2g} GiB. Reduce them first, as 'knn+pca:256', take a family that "
                "streams (ridge, xgboost), or raise memory_gib in [models]."
            )

    def array(self) -> NDArray[np.float32]:
        """Return all of it: (n_rows, n_features) float32.

        Raises
        ------
        FeaturesError : as `check_fits`.
        """
        self.check_fits()
        return self._read(slice(0, len(self)))

    def sample(self, n: int) -> NDArray[np.float32]:
        """Return a few rows, from the first to the last at even distances: (at most n, n_features) float32."""
        rows = self.rows(np.linspace(0, len(self) - 1, min(n, len(self))).astype(np.int64))
        return rows._read(slice(0, len(rows)))

    def chunks(self) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """Return (rows, their features in float32) from the first row to the last, a bounded piece at a time.

        The next piece is read while the last one is worked on.
        """
        size = max(1, _CHUNK_BYTES // (4 * max(1, self.shape[1])))
        pieces = [slice(start, min(start + size, len(self))) for start in range(0, len(self), size)]
        if len(pieces) < 2:
            yield from ((rows, self._read(rows)) for rows in pieces)
            return
        with ThreadPoolExecutor(1) as ahead:
            coming = ahead.submit(self._read, pieces[0])
            for rows, following in zip_longest(pieces, pieces[1:]):
                piece = coming.result()
                if following is not None:
                    coming = ahead.submit(self._read, following)
                yield rows, piece

    def _read(self, rows: slice) -> NDArray[np.float32]:
        index = rows if self._index is None else self._index[rows]
        core = self._stored[index]
        if self._beside is None:
            return widen(core)
        return np.hstack([widen(core), self._beside[index]], dtype=np.float32, casting="same_kind")


def open_features(path: Path, cut: str, rows: Ints, *, memory: int | None) -> Features:
    """Return rows of a cut: read into memory as they are stored where they fit, else read whenever they are needed.

    Parameters
    ----------
    path, cut, rows : as `OnDisk`.
    memory : what they may fill [bytes]; None for half of what is free.

    Raises
    ------
    FeaturesError : NaN or infinity among rows that are read into memory.
    """
    stored = OnDisk(path, cut, rows)
    fits = stored.n_bytes <= (free_memory() if memory is None else memory)
    return Features(stored[:] if fits else stored, limit=memory, grid=stored.grid)
