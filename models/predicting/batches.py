"""In which parts a place is predicted: of a bounded size, in the table's order, or whole areas."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from models.data.arrays import Ints
from models.predicting.place_table import PlaceTable
from models.store.cells import Cell

# of the features in float32, and tiles, of one part
_PART_BYTES = 128 << 20
_PART_TILES = 65_536


@dataclass(frozen=True, slots=True)
class Parts:
    """Rows of a table part by part: in its order, or for `@area` models whole areas.

    Attributes
    ----------
    starts : (n_parts + 1,), first row of each part, in `order`. order : (n_tiles,), the rows by area; None for the table's order.
    """

    starts: Ints
    order: Ints | None

    def __len__(self) -> int:
        """Count the parts."""
        return len(self.starts) - 1

    def rows(self, i: int) -> Ints:
        """Return the rows of a part, (n,) increasing."""
        start = self.starts[i]
        stop = self.starts[i + 1]
        return np.arange(start, stop) if self.order is None else np.sort(self.order[start:stop])


def cut_parts(table: PlaceTable, cell: Cell, n_features: int) -> Parts:
    """Cut a place into parts of a bounded size; a part of an `@area` model has at least one area."""
    n = len(table)
    largest = max(256, min(_PART_TILES, _PART_BYTES // (4 * max(1, n_features))))
    if not cell.spec.area:
        return Parts(np.append(np.arange(0, n, largest), n), None)
    code = table.code_areas()
    order = np.argsort(code, kind="stable")
    ends = np.cumsum(np.bincount(code))
    starts = [0]
    for before, end in pairwise(ends):
        if end - starts[-1] > largest and before > starts[-1]:
            starts.append(int(before))
    return Parts(np.array([*starts, n]), order)
