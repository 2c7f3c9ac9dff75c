"""Checks of the pictures: the same or nearly the same one elsewhere, and blank ones."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from extract.config.arrays import Bools, Ints
from models.auditing.findings import (
    N_EXAMPLES,
    SHARE,
    AuditInputs,
    Finding,
    check,
    count_of,
    grade,
    list_texts,
)
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
        n_twins = int(is_twin.sum())
        worst = max(leaks.values(), default=n_twins)
        yield Finding(
            grade(worst, SHARE * inputs.n_usable, "fatal", "warning"),
            _describe("the same picture as", inputs, is_twin, leaks),
            n_twins,
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
        leaks = _leaks(inputs, rows, twins, is_twin)
        what = _describe("nearly the same picture as", inputs, is_twin, leaks)
        n_skipped = twins.pairs.n_skipped
        if n_skipped:
            what += f"; {n_skipped:,} pictures were not compared"
        yield Finding(
            "warning",
            what,
            int(is_twin.sum()),
            _examples(inputs, rows, twins, is_twin),
            "Look at these pairs. Remove copies that were only scaled or saved anew; keep what "
            "just looks alike.",
        )


@check("same-picture-within-area", "pictures")
def same_pictures_within_area(inputs: AuditInputs) -> Iterator[Finding]:
    """Look for equal pixels inside one area: harmless where areas are held out whole, counted twice
    in its mean.
    """
    rows = np.flatnonzero(_has_detail(inputs))
    content = read_facts(inputs)["content"][rows]
    shown = pd.DataFrame({"content": content, "area": inputs.area_number[rows]})
    again = rows[shown.duplicated(keep=False)]
    if len(again):
        yield Finding(
            "note",
            f"{count_of(len(again), inputs.n_usable, 'tiles')} show the same picture as another "
            "tile of their area",
            len(again),
            list_texts(inputs.ids[again]),
            "Remove the copies from the table: they count twice, and the split 'random' is no "
            "test for them.",
        )


@check("blank-pictures", "pictures")
def blank_pictures(inputs: AuditInputs) -> Iterator[Finding]:
    """Count pictures of one colour, or mostly without data, as one group: they tell nothing of a
    place.
    """
    is_blank = inputs.is_usable & ~_has_detail(inputs)
    blank = np.flatnonzero(is_blank)
    if len(blank):
        areas = np.unique(inputs.area_number[blank])
        yield Finding(
            grade(len(blank), MANY_BLANK * inputs.n_usable, "warning", "note"),
            f"{count_of(len(blank), inputs.n_usable, 'tiles')} in {len(areas):,} areas are of one "
            "colour or mostly without data",
            len(blank),
            list_texts(inputs.ids[blank]),
            "Water and gaps in the survey look so. Remove them where they say nothing of the "
            "place.",
        )


@check("areas-without-pictures", "pictures")
def areas_without_pictures(inputs: AuditInputs) -> Iterator[Finding]:
    """Look for areas all of whose pictures were rejected: they drop out of every score, and seldom
    at random.
    """
    n_areas = len(inputs.areas)
    n_usable = np.bincount(inputs.area_number[inputs.is_usable], minlength=n_areas)
    lost = inputs.areas[n_usable == 0]
    if len(lost):
        yield Finding(
            grade(len(lost), SHARE * n_areas, "warning", "note"),
            f"{count_of(len(lost), n_areas, 'areas')} have no usable picture and stand in no score",
            len(lost),
            list_texts(lost),
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
    is_flat = facts["spread"].max(axis=1) < FLAT_SPREAD
    is_empty = facts["nodata"] > MOSTLY_NODATA
    return inputs.is_usable & ~is_flat & ~is_empty


def _has_bits(hashes: NDArray[np.uint64]) -> Bools:
    return np.bitwise_count(hashes) >= MIN_BITS


def _leaks(inputs: AuditInputs, rows: Ints, twins: Twins, is_twin: Bools) -> dict[str, int]:
    """Count the twins that lie in two folds of each split that holds areas out whole."""
    counts = {}
    for split, fold in inputs.folds.items():
        if split != "random":
            is_leak = twins.has_other(fold[rows]) & is_twin
            counts[split] = int(is_leak.sum())
    return counts


def _describe(like: str, inputs: AuditInputs, is_twin: Bools, leaks: dict[str, int]) -> str:
    where = "".join(f", {n:,} across the folds of {split!r}" for split, n in leaks.items())
    n_twins = int(is_twin.sum())
    return (
        f"{count_of(n_twins, inputs.n_usable, 'tiles')} show {like} a tile of another area{where}"
    )


def _examples(inputs: AuditInputs, rows: Ints, twins: Twins, is_twin: Bools) -> list[str]:
    """Name a few pairs of twins: `12 (E01000001) and 40 (E01000002)`."""
    area = inputs.area_number[rows]
    named: list[str] = []
    seen: set[int] = set()
    first_twins = np.flatnonzero(is_twin)[: 4 * N_EXAMPLES]
    for tile in first_twins.tolist():
        if tile in seen:
            continue
        pair = [tile, twins.partner(tile, area)]
        seen.update(pair)
        names = [f"{inputs.ids[row]} ({inputs.area[row]})" for row in rows[pair]]
        named.append(" and ".join(names))
    return named
