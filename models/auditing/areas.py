"""Checks of the areas: how their codes are written, how many there are, and whether descriptors
give them away.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import pandas as pd

from models.auditing.findings import AuditInputs, Finding, Severity, check, count_of

# Numbered codes without leading zeros are of one length in at most 90 % of the cases (1 … 9, 10 …
# 99, …).
ONE_FORM = 0.95
# Below it, intervals from resampled areas are too narrow: Cameron, Gelbach, Miller 2008,
# doi:10.1162/rest.90.3.414.
FEW_AREAS = 30
UNEVEN = 0.5
SAME_AS_AREA = 0.9
# First codes that the 2021 census made: Office for National Statistics, "LSOA (2011) to LSOA (2021)
# best fit lookup"; areas that did not change keep their older code, so that most codes are of both
# vintages.
FIRST_OF_2021 = {"E01": 33769, "W01": 1959}
_ONS = re.compile(r"([EWSN]\d\d)(\d{6})")


@check("area-variants")
def area_variants(inputs: AuditInputs) -> Iterator[Finding]:
    """Look for codes that differ by case or blanks alone: one area counted as two, one of them in
    training.
    """
    if inputs.has_variant.any():
        names = pd.Series([str(a) for a in inputs.areas[inputs.has_variant]])
        plain = names.str.replace(r"\s+", "", regex=True).str.casefold()
        groups = [" and ".join(map(repr, part)) for _, part in names.groupby(plain)]
        yield Finding(
            "fatal",
            f"{count_of(len(names), len(inputs.areas), 'area codes')} differ from another by case "
            "or "
            "blanks alone",
            len(names),
            groups,
            "Write each code one way in the table.",
        )


@check("odd-area-codes")
def odd_area_codes(inputs: AuditInputs) -> Iterator[Finding]:
    """Look for codes that are not of the form that nearly all have, as E01000001: empty, cut off,
    of another list.
    """
    names = pd.Series([str(a) for a in inputs.areas])
    form = (
        names.str.replace(r"\d", "9", regex=True)
        .str.replace(r"[A-Z]", "A", regex=True)
        .str.replace(r"[a-z]", "a", regex=True)
        .replace("", "(empty)")
    )
    shares = form.value_counts(normalize=True)
    odd = names[(form != shares.index[0]).to_numpy() & ~inputs.has_variant]
    if shares.iloc[0] > ONE_FORM and len(odd):
        yield Finding(
            "warning",
            f"{count_of(len(odd), len(names), 'area codes')} are not of the form "
            f"{shares.index[0]!r} "
            "of the others",
            len(odd),
            [repr(name) for name in odd],
            "Mend these codes, or remove their tiles.",
        )


@check("mixed-area-levels")
def mixed_area_levels(inputs: AuditInputs) -> Iterator[Finding]:
    """Look for codes of areas of different size in one column: LSOA (E01, W01) beside MSOA (E02),
    wards (E05).
    """
    codes = _ons(inputs)
    levels = codes.str[1:3].value_counts()
    if len(levels) > 1:
        few = codes[codes.str[1:3] != levels.index[0]]
        kinds = ", ".join(sorted(few.unique()))
        yield Finding(
            "warning",
            f"{count_of(len(few), len(inputs.areas), 'area codes')} are of another level ({kinds}) "
            "than the "
            f"others ({', '.join(sorted(codes[codes.str[1:3] == levels.index[0]].unique()))})",
            len(few),
            [str(a) for a in inputs.areas[few.index]],
            "Use one level of areas, that of the labels.",
        )


@check("mixed-vintage")
def mixed_vintage(inputs: AuditInputs) -> Iterator[Finding]:
    """Look for LSOA codes that exist only since 2021 beside others, which most often are of both
    vintages.
    """
    codes = _ons(inputs)
    is_lsoa = codes.isin(list(FIRST_OF_2021))
    number = pd.Series(
        [int(str(a)[3:]) for a in inputs.areas[codes.index]], index=codes.index, dtype=np.int64
    )
    is_new = is_lsoa & (number >= codes.map(FIRST_OF_2021).fillna(np.inf))
    n_new = int(is_new.sum())
    n = int(is_lsoa.sum())
    if not 0 < n_new < n:
        return
    severity: Severity = "note"
    says = "the others may be of either; codes alone cannot tell 2011 from 2021"
    if "11" in inputs.area_column:
        severity = "warning"
        says = f"though the column is called {inputs.area_column!r}"
    yield Finding(
        severity,
        f"{count_of(n_new, n, 'LSOA codes')} exist only since 2021, {says}",
        n_new,
        [str(a) for a in inputs.areas[codes.index[is_new]]],
        "Labels and tiles need codes of one vintage: indices of 2019 are by LSOA 2011, those of "
        "2025 by LSOA 2021.",
    )


def _ons(inputs: AuditInputs) -> pd.Series[str]:
    """Kind of every area whose code is one of the Office for National Statistics: `E01`; index:
    number of the area.
    """
    names = pd.Series([str(a) for a in inputs.areas], dtype=object)
    return names[[_ONS.fullmatch(name) is not None for name in names]].str[:3]


@check("few-areas")
def few_areas(inputs: AuditInputs) -> Iterator[Finding]:
    """Warn where there are too few areas for any claim about accuracy."""
    n = len(inputs.areas)
    if n < FEW_AREAS:
        yield Finding(
            "warning",
            f"{len(inputs):,} tiles lie in {n} areas; intervals need at least {FEW_AREAS}",
            n,
            [],
            "Take more areas. With these, the way can be tried, but no accuracy be claimed.",
        )


@check("one-tile-areas")
def one_tile_areas(inputs: AuditInputs) -> Iterator[Finding]:
    """Count areas with one tile, whose prediction averages nothing."""
    alone = np.flatnonzero(inputs.tiles_of_area == 1)
    if len(alone):
        yield Finding(
            "note",
            f"{count_of(len(alone), len(inputs.areas), 'areas')} have one tile",
            len(alone),
            [str(a) for a in inputs.areas[alone]],
            "Read the scores by tile count: the fewer tiles, the worse the mean.",
        )


@check("uneven-areas")
def uneven_areas(inputs: AuditInputs) -> Iterator[Finding]:
    """Look for areas so uneven that scores of tiles are those of a few large ones (Kish 1965: (Σn)²
    / Σn²).
    """
    n = inputs.tiles_of_area.astype(np.float64)
    effective = n.sum() ** 2 / (n**2).sum()
    if effective < UNEVEN * len(n):
        large = np.argsort(-n, kind="stable")
        yield Finding(
            "note",
            "tiles are shared so unevenly that scores of tiles weigh like those of "
            f"{effective:,.0f} areas, not "
            f"of {len(n):,}",
            int(effective),
            [f"{inputs.areas[a]}: {n[a]:,.0f} tiles" for a in large[:5]],
            "Read the scores at level 'area', and try [models] weights = \"area\".",
        )


@check("group-is-area")
def groups_that_are_areas(inputs: AuditInputs) -> Iterator[Finding]:
    """Look for descriptors that name the area: they tell nothing of areas held out, and everything
    on 'random'.
    """
    for name, column in inputs.groups.items():
        areas = pd.Series(inputs.area_number).groupby(column.astype(str).to_numpy()).nunique()
        alone = int((areas == 1).sum())
        if len(areas) > 1 and alone >= SAME_AS_AREA * len(areas):
            yield Finding(
                "warning",
                f"group column {name!r}: {count_of(alone, len(areas), 'values')} stand for one "
                "area alone",
                alone,
                [str(value) for value in areas.index[areas == 1]],
                f"Remove {name!r} from [tiles] groups: it is a name of the area, no description.",
            )
