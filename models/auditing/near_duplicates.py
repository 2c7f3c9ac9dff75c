"""Pictures that are the same, or nearly: who has a twin under another label."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from models.data.arrays import Ints

# Of 64. Of 209 real LiDAR tiles, copies at half the side were within 3 bits in all cases, saved as JPEG of quality 75 and
# 50 in 99 % and 96 %, cut by 2 of 224 pixels on each side in 62 %; no two different tiles were, though cut 50 m apart.
MAX_BITS = 3
_BANDS = 6  # bit i belongs to band i mod 6: bits of one place in the picture, which go together, are spread over the bands
_MAX_BUCKET = 20_000  # pairs grow with the square of a bucket; larger ones are cut and counted


class NearPairs(NamedTuple):
    """Pairs of near hashes.

    Attributes
    ----------
    left, right : (n_pairs,), rows of the hashes of each pair.
    n_cut : hashes in buckets too full to be compared pair by pair; 0 where the search was exact.
    """

    left: Ints
    right: Ints
    n_cut: int


def near_pairs(hashes: NDArray[np.uint64]) -> NearPairs:
    """Find every pair of distinct hashes that differ in at most `MAX_BITS` bits.

    The 64 bits are dealt to 6 bands. Three flips touch at most three, so that near hashes agree in at least three whole
    bands: each of the 20 choices of three bands is a key of 31 to 33 bits, hashes are sorted by it, and only those
    with equal keys are compared.

    Parameters
    ----------
    hashes : (n,) uint64, distinct.

    References
    ----------
    Manku, Jain, Das Sarma 2007, "Detecting near-duplicates for web crawling", WWW, doi:10.1145/1242572.1242592.
    """
    n = len(hashes)
    n_cut = 0
    found = [np.zeros(0, np.int64)]
    for kept in combinations(range(_BANDS), _BANDS - MAX_BITS):
        key = hashes & _mask(kept)
        order = np.argsort(key)
        left, right, cut = _within_buckets(key[order], hashes[order])
        a = order[left]
        b = order[right]
        found.append(np.minimum(a, b) * n + np.maximum(a, b))
        n_cut = max(n_cut, cut)
    pairs = np.sort(
        np.concatenate(found)
    )  # sorted by hand: NumPy's `unique` hashes, which takes five times as long here
    left, right = np.divmod(pairs[np.diff(pairs, prepend=-1) > 0], max(n, 1))
    return NearPairs(left, right, n_cut)


def _mask(kept: tuple[int, ...]) -> np.uint64:
    return np.uint64(sum(1 << bit for bit in range(64) if bit % _BANDS in kept))


def _within_buckets(key: NDArray[np.uint64], hashes: NDArray[np.uint64]) -> tuple[Ints, Ints, int]:
    """Compare each hash with the next, the next but one … of its bucket, until all buckets are through.

    Returns
    -------
    Rows of the near pairs, left and right, and the number of hashes that were not compared with all of their bucket.
    """
    found = [np.zeros((2, 0), np.int64)]
    step = 1
    active = np.arange(len(key))
    while len(active) and step <= _MAX_BUCKET:
        active = active[active + step < len(key)]
        active = active[key[active] == key[active + step]]
        near = active[_differ_in_few(hashes[active] ^ hashes[active + step])]
        found.append(np.stack([near, near + step]))
        step += 1
    left, right = np.concatenate(found, axis=1)
    return left, right, len(active)


def _differ_in_few(bits: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """True where at most `MAX_BITS` bits are set: clearing the lowest one that often leaves nothing."""
    for _ in range(MAX_BITS):
        bits = bits & (bits - (bits > 0).astype(np.uint64))
    return bits == 0


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

    def has_other(self, label: Ints) -> NDArray[np.bool_]:
        """Tell which tiles have a twin of another label, in one pass: twins of two labels have a least and a greatest.

        Parameters
        ----------
        label : (n,), area or fold of each tile; −1 for a tile that does not count.
        """
        n_pictures = int(self.number.max(initial=-1)) + 1
        used = label >= 0
        least = np.full(n_pictures, np.iinfo(np.int64).max)
        most = np.full(n_pictures, -1, np.int64)
        np.minimum.at(least, self.number[used], label[used])
        np.maximum.at(most, self.number[used], label[used])
        own_least = least.copy()
        own_most = most.copy()
        for a, b in ((self.pairs.left, self.pairs.right), (self.pairs.right, self.pairs.left)):
            np.minimum.at(least, a, own_least[b])
            np.maximum.at(most, a, own_most[b])
        return used & ((least[self.number] != label) | (most[self.number] != label))

    def partner(self, tile: int, label: Ints) -> int:
        """Return the first twin of another label of a tile that has one."""
        mine = self.number[tile]
        pairs = self.pairs
        near = np.concatenate(
            [[mine], pairs.right[pairs.left == mine], pairs.left[pairs.right == mine]]
        )
        return int(
            np.flatnonzero(np.isin(self.number, near) & (label != label[tile]) & (label >= 0))[0]
        )


def group_same(values: NDArray[Any]) -> Twins:
    """Group tiles by equal values."""
    none = np.zeros(0, np.int64)
    return Twins(pd.factorize(values)[0].astype(np.int64), NearPairs(none, none, 0))


def group_near(hashes: NDArray[np.uint64]) -> Twins:
    """Group tiles by equal hashes, and pair groups whose hashes differ in at most `MAX_BITS` bits."""
    number, distinct = pd.factorize(hashes)
    return Twins(number.astype(np.int64), near_pairs(distinct))
