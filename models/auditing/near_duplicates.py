"""Pictures that are the same, or nearly, under another label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from extract.config.arrays import Array, Bools, Ints

# Of 64. Of 209 real LiDAR tiles, copies at half the side were within 3 bits in all cases, saved as
# JPEG of quality 75 and 50 in 99 % and 96 %, cut by 2 of 224 pixels on each side in 62 %; no two
# different tiles were, though cut 50 m apart.
MAX_BITS = 3
_MOST_COMPARED = 100_000  # hashes: the pairs of 36,723 take some seconds, and grow with the square
_BLOCK = 256  # hashes compared with all others at once


class NearPairs(NamedTuple):
    """Pairs of near hashes.

    Attributes
    ----------
    left, right : (n_pairs,), rows of the hashes of each pair, left < right.
    n_skipped : hashes that were not compared, as there are too many.
    """

    left: Ints
    right: Ints
    n_skipped: int


def near_pairs(hashes: NDArray[np.uint64]) -> NearPairs:
    """Find every pair of hashes that differ in at most `MAX_BITS` bits.

    Parameters
    ----------
    hashes : (n,) uint64, distinct.
    """
    compared = hashes[:_MOST_COMPARED]
    found = [np.zeros((0, 2), np.int64)]
    for start in range(0, len(compared), _BLOCK):
        block = compared[start : start + _BLOCK]
        differing = block[:, None] ^ compared[start:]
        n_bits = np.bitwise_count(differing)
        pairs = np.argwhere(n_bits <= MAX_BITS) + start
        found.append(pairs)
    left, right = np.concatenate(found).T
    is_ordered = left < right
    return NearPairs(
        left=left[is_ordered],
        right=right[is_ordered],
        n_skipped=len(hashes) - len(compared),
    )


@dataclass(frozen=True, slots=True)
class Twins:
    """Tiles grouped by what they show.

    Attributes
    ----------
    number : (n,), number of each tile's picture: 0 … n_pictures − 1; equal numbers are twins.
    pairs : pairs of pictures that are twins as well.
    """

    number: Ints
    pairs: NearPairs

    def has_other(self, label: Ints) -> Bools:
        """Return which tiles have a twin of another label: (n,).

        Parameters
        ----------
        label : (n,), area or fold of each tile; −1 for a tile that does not count.
        """
        n_pictures = int(self.number.max(initial=-1)) + 1
        is_used = label >= 0
        number = self.number[is_used]
        used_label = label[is_used]
        largest = np.iinfo(np.int64).max
        least = np.full(n_pictures, largest)
        most = np.full(n_pictures, -1)
        np.minimum.at(least, number, used_label)
        np.maximum.at(most, number, used_label)
        near_least = least.copy()
        near_most = most.copy()
        left = self.pairs.left
        right = self.pairs.right
        for a, b in ((left, right), (right, left)):
            np.minimum.at(near_least, a, least[b])
            np.maximum.at(near_most, a, most[b])
        is_less = near_least[self.number] != label
        is_more = near_most[self.number] != label
        return is_used & (is_less | is_more)

    def partner(self, tile: int, label: Ints) -> int:
        """Return the first twin of another label of a tile that has one."""
        mine = self.number[tile]
        own_label = label[tile]
        left = self.pairs.left
        right = self.pairs.right
        after = right[left == mine]
        before = left[right == mine]
        is_near = np.isin(self.number, [mine, *after, *before])
        is_other = (label != own_label) & (label >= 0)
        partners = np.flatnonzero(is_near & is_other)
        return int(partners[0])


def group_same(values: Array) -> Twins:
    """Group tiles by equal values."""
    number, _ = pd.factorize(values)
    nothing = np.zeros(0, np.int64)
    no_pairs = NearPairs(nothing, nothing, 0)
    return Twins(number.astype(np.int64), no_pairs)


def group_near(hashes: NDArray[np.uint64]) -> Twins:
    """Group tiles by equal hashes, and pair groups whose hashes differ in few bits."""
    number, distinct = pd.factorize(hashes)
    pairs = near_pairs(distinct)
    return Twins(number.astype(np.int64), pairs)
