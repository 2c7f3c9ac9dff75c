"""Codes of the findings that `[models] accept` may name; `models.auditing` finds them."""

from __future__ import annotations

from collections.abc import Sequence

from extract.config.suggestions import suggest

FINDING_CODES = (
    "area-in-two-folds",
    "area-variants",
    "areas-without-pictures",
    "blank-pictures",
    "constant-target",
    "degrees-for-metres",
    "few-areas",
    "few-blocks",
    "few-values",
    "group-holds-target",
    "group-is-area",
    "inferred-tile-size",
    "label-variants",
    "labels-differ",
    "missing-labels",
    "mixed-area-levels",
    "mixed-vintage",
    "near-picture-across-areas",
    "neighbours-alike",
    "odd-area-codes",
    "one-tile-areas",
    "overlap-across-folds",
    "rare-classes",
    "repeated-id",
    "same-picture-across-areas",
    "same-picture-within-area",
    "same-place",
    "sentinel-labels",
    "target-copies",
    "target-follows-file-size",
    "target-follows-tile-count",
    "twin-areas",
    "uneven-areas",
)


def check_finding_codes(codes: Sequence[str]) -> None:
    """Check codes that findings are to be accepted by; raises ValueError with the nearest."""
    for code in codes:
        if code not in FINDING_CODES:
            raise ValueError(
                f"unknown finding {code!r}; known: {', '.join(FINDING_CODES)}."
                f"{suggest(code, FINDING_CODES)}"
            )
