"""Checks of the pictures: the same or nearly the same one elsewhere, blank ones, areas that have
none.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from extract.config.arrays import Bools, Ints
from models.auditing.findings import N_EXAMPLES, SHARE, AuditInputs, Finding, check, count_of
from models.auditing.near_duplicates import Twins, group_near, group_same

FLAT_SPREAD = 1.0  # of 0 … 255, in every colour: below what JPEG adds to one colour
MOSTLY_NODATA = 0.5
MANY_BLANK = 0.05  # share of blank pictures from which on they are worth a warning
# a difference hash with fewer bits is within 3 bits of a blank picture's, and tells as little
MIN_BITS = 4


@check("same-picture-across-areas", "pictures")
def same_pictures_across_areas(inputs: AuditInputs) -> Iterator[Finding]:
    """Look for equal pixels under two areas: a model that has seen the one knows the other by
    heart.
    """
    rows = np.flatnonzero(_has_detail(inputs))
    twins = group_same(read_facts(inputs)["content"][rows])
    is_twin = twins.has_other(inputs.area_number[rows])
    if is_twin.any():
        leaks = _leaks(inputs, rows, twins, is_twin)
        worst = max(leaks.values(), default=int(is_twin.sum()))
        yield Finding(
            "fatal" if worst > SHARE * inputs.is_usable.sum() else "warning",
            _describe("the same picture as", inputs, is_twin, leaks),
            int(is_twin.sum()),
            _examples(inputs, rows, twins, is_twin),
            "Remove the copies from the table, or mend the path or the area of one of them.",
        )


@check("near-picture-across-areas", "pictures")
def near_pictures_across_areas(inputs: AuditInputs) -> Iterator[Finding]:
    """Look for perceptual hashes that differ in at most 3 of 64 bits under two areas, besides equal
    pictures.

    Pictures whose hash has fewer than 4 bits are left out: a blank one is as near to them as a
    copy. A copy that was cut at the edges is found about every other time.
    """
    facts = read_facts(inputs)
    rows = np.flatnonzero(_has_detail(inputs) & _has_bits(facts["perceptual"]))
    area = inputs.area_number[rows]
    twins = group_near(facts["perceptual"][rows])
    is_twin = twins.has_other(area) & ~group_same(facts["content"][rows]).has_other(area)
    if is_twin.any():
        what = _describe(
            "nearly the same picture as", inputs, is_twin, _leaks(inputs, rows, twins, is_twin)
        )
        n_skipped = twins.pairs.n_skipped
        yield Finding(
            "warning",
            f"{what}; {n_skipped:,} pictures were not compared" if n_skipped else what,
            int(is_twin.sum()),
            _examples(inputs, rows, twins, is_twin),
            "Look at these pairs. Remove copies that were only scaled or saved anew; keep what "
            "just "
            "looks alike.",
        )


@check("same-picture-within-area", "pictures")
def same_pictures_within_area(inputs: AuditInputs) -> Iterator[Finding]:
    """Look for equal pixels inside one area: harmless where areas are held out whole, counted twice
    in its mean.
    """
    rows = np.flatnonzero(_has_detail(inputs))
    content = group_same(read_facts(inputs)["content"][rows]).number
    pair = content * len(inputs.areas) + inputs.area_number[rows]
    _, number, size = np.unique(pair, return_inverse=True, return_counts=True)
    again = rows[size[number] > 1]
    if len(again):
        yield Finding(
            "note",
            f"{count_of(len(again), int(inputs.is_usable.sum()), 'tiles')} show the same picture "
            "as another "
            "tile of their area",
            len(again),
            [str(i) for i in inputs.ids[again]],
            "Remove the copies from the table: they count twice, and the split 'random' is no "
            "test for them.",
        )


@check("blank-pictures", "pictures")
def blank_pictures(inputs: AuditInputs) -> Iterator[Finding]:
    """Count pictures of one colour, or mostly without data, as one group: they tell nothing of a
    place.
    """
    blank = np.flatnonzero(inputs.is_usable & ~_has_detail(inputs))
    if len(blank):
        n_areas = len(np.unique(inputs.area_number[blank]))
        yield Finding(
            "warning" if len(blank) > MANY_BLANK * inputs.is_usable.sum() else "note",
            f"{count_of(len(blank), int(inputs.is_usable.sum()), 'tiles')} in {n_areas:,} areas "
            "are of one colour or "
            "mostly without data",
            len(blank),
            [str(i) for i in inputs.ids[blank[:N_EXAMPLES]]],
            "Water and gaps in the survey look so. Remove them where they say nothing of the "
            "place.",
        )


@check("areas-without-pictures", "pictures")
def areas_without_pictures(inputs: AuditInputs) -> Iterator[Finding]:
    """Look for areas all of whose pictures were rejected: they drop out of every score, and seldom
    at random.
    """
    usable = np.bincount(inputs.area_number[inputs.is_usable], minlength=len(inputs.areas))
    lost = np.flatnonzero(usable == 0)
    if len(lost):
        yield Finding(
            "warning" if len(lost) > SHARE * len(inputs.areas) else "note",
            f"{count_of(len(lost), len(inputs.areas), 'areas')} have no usable picture and stand "
            "in no score",
            len(lost),
            [str(a) for a in inputs.areas[lost]],
            "features/rejects.csv names the reasons: mend those files, or say in "
            "the paper which areas are missing.",
        )


def read_facts(inputs: AuditInputs) -> NDArray[np.void]:
    """Return what the features tell of the pictures, to a check that needs them."""
    if inputs.pictures is None:
        raise ValueError(
            "pictures: expected what the features tell of them, got None; ask "
            "`inputs.has('pictures')` first"
        )
    return inputs.pictures


def _has_detail(inputs: AuditInputs) -> Bools:
    """True where a picture was decoded, has more than one colour and is mostly data."""
    facts = read_facts(inputs)
    return (
        inputs.is_usable
        & (facts["spread"].max(axis=1) >= FLAT_SPREAD)
        & (facts["nodata"] <= MOSTLY_NODATA)
    )


def _has_bits(hashes: NDArray[np.uint64]) -> Bools:
    return np.bitwise_count(hashes) >= MIN_BITS


def _leaks(inputs: AuditInputs, rows: Ints, twins: Twins, is_twin: Bools) -> dict[str, int]:
    """Count the twins that lie in two folds of each split that holds areas out whole."""
    return {
        split: int((twins.has_other(fold[rows]) & is_twin).sum())
        for split, fold in inputs.folds.items()
        if split != "random"
    }


def _describe(like: str, inputs: AuditInputs, is_twin: Bools, leaks: dict[str, int]) -> str:
    where = "".join(f", {n:,} across the folds of {split!r}" for split, n in leaks.items())
    return (
        f"{count_of(int(is_twin.sum()), int(inputs.is_usable.sum()), 'tiles')} show {like} a tile "
        f"of another area{where}"
    )


def _examples(inputs: AuditInputs, rows: Ints, twins: Twins, is_twin: Bools) -> list[str]:
    """Name a few pairs of twins: `12 (E01000001) and 40 (E01000002)`."""
    area = inputs.area_number[rows]
    named = list[str]()
    seen = set[int]()
    for tile in np.flatnonzero(is_twin)[: 4 * N_EXAMPLES].tolist():
        if tile in seen or len(named) == N_EXAMPLES:
            continue
        pair = (tile, twins.partner(tile, area))
        seen |= set(pair)
        named.append(" and ".join(f"{inputs.ids[rows[t]]} ({inputs.area[rows[t]]})" for t in pair))
    return named
