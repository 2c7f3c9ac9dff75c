"""The features of some rows: stored as they are on disk, handed out as float32."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.family import Ints

_CHUNK_BYTES = 64 << 20  # of float32: small beside any matrix worth streaming


class Features:
    """A matrix (n_rows, n_features) that never has to be float32 as a whole.

    Parameters
    ----------
    stored : (n_all, n_features) of any float type; rows are read from it, it is never changed.
    index : (n_rows,), rows of `stored` that these features are; None for all.
    """

    def __init__(self, stored: NDArray[Any], index: Ints | None = None) -> None:
        self._stored = stored
        self._index = index

    def __len__(self) -> int:
        """Count the rows."""
        return len(self._stored) if self._index is None else len(self._index)

    @property
    def shape(self) -> tuple[int, int]:
        """(n_rows, n_features)."""
        return len(self), int(self._stored.shape[1])

    def rows(self, rows: Ints) -> Features:
        """Give some of the rows; nothing is copied."""
        return Features(self._stored, rows if self._index is None else self._index[rows])

    def array(self) -> NDArray[np.float32]:
        """Give all of it: (n_rows, n_features) float32."""
        stored = self._stored if self._index is None else self._stored[self._index]
        return np.ascontiguousarray(stored, dtype=np.float32)

    def chunks(self) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """Give (rows, their features in float32) from the first row to the last, a bounded piece at a time."""
        size = max(1, _CHUNK_BYTES // (4 * max(1, self.shape[1])))
        for start in range(0, len(self), size):
            rows = slice(start, min(start + size, len(self)))
            index = rows if self._index is None else self._index[rows]
            yield rows, np.ascontiguousarray(self._stored[index], dtype=np.float32)
