"""Checks of the areas: how their codes are written, how many there are, what gives them away."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from extract.tables.area_codes import FIRST_OF_2021, select_new, select_ons
from models.auditing.findings import (
    AuditInputs,
    Finding,
    Severity,
    check,
    count_of,
    list_texts,
)
from models.auditing.look_alikes import group_look_alikes, quote

# Numbered codes without leading zeros are of one length in at most 90 % of the cases (1 … 9, 10 …
# 99, …).
ONE_FORM = 0.95
# Below it, intervals from resampled areas are too narrow: Cameron, Gelbach, Miller 2008,
# doi:10.1162/rest.90.3.414.
FEW_AREAS = 30
FEW_BLOCKS = 20
UNEVEN = 0.5
SAME_AS_AREA = 0.9
ALIKE = "differ from another in case, blanks, or the form of letters or numbers alone"


@check("area-variants")
def area_variants(inputs: AuditInputs) -> Iterator[Finding]:
    """Look for codes that are one to a person: an area counted as two, one of them in training."""
    names = inputs.codes[inputs.has_variant]
    if len(names):
        yield Finding(
            "fatal",
            f"{count_of(len(names), len(inputs.areas), 'area codes')} {ALIKE}",
            len(names),
            [" and ".join(map(quote, alike)) for alike in group_look_alikes(names)],
            "Write each code one way in the table.",
        )


@check("label-variants")
def label_variants(inputs: AuditInputs) -> Iterator[Finding]:
    """Look for classes and group values that are one to a person, and are learnt as two."""
    columns = {f"target {name!r}": inputs.targets[name] for name in inputs.classes}
    columns |= {f"group column {name!r}": column for name, column in inputs.groups.items()}
    for where, column in columns.items():
        values = column.dropna().map(str)
        variants = group_look_alikes(values)
        if variants:
            n = sum(map(len, variants))
            yield Finding(
                "warning",
                f"{where}: {count_of(n, values.nunique(), 'values')} {ALIKE}",
                n,
                [" and ".join(map(quote, alike)) for alike in variants],
                "Write each value one way in the table.",
            )


@check("odd-area-codes")
def odd_area_codes(inputs: AuditInputs) -> Iterator[Finding]:
    """Look for codes that have not the form of nearly all: cut off, or of another list."""
    names = inputs.codes
    form = names.replace([r"[0-9]", r"[A-Z]", r"[a-z]"], ["9", "A", "a"], regex=True)
    shares = form.value_counts(normalize=True)
    usual = shares.index[0]
    is_odd = (form != usual).to_numpy() & ~inputs.has_variant
    odd = names[is_odd]
    if shares.iloc[0] > ONE_FORM and len(odd):
        yield Finding(
            "warning",
            f"{count_of(len(odd), len(names), 'area codes')} are not of the form {usual!r} of the "
            "others",
            len(odd),
            [quote(name) for name in odd],
            "Mend these codes, or remove their tiles.",
        )


@check("mixed-area-levels")
def mixed_area_levels(inputs: AuditInputs) -> Iterator[Finding]:
    """Look for codes of areas of different size: LSOA (E01, W01) beside MSOA (E02) or wards."""
    kinds = select_ons(inputs.codes).str[:3]
    level = kinds.str[1:3]
    levels = level.value_counts()
    if len(levels) > 1:
        is_usual = level == levels.index[0]
        few = kinds[~is_usual]
        odd = ", ".join(sorted(few.unique()))
        usual = ", ".join(sorted(kinds[is_usual].unique()))
        yield Finding(
            "warning",
            f"{count_of(len(few), len(inputs.areas), 'area codes')} are of another level ({odd}) "
            f"than the others ({usual})",
            len(few),
            list_texts(inputs.areas[few.index]),
            "Use one level of areas, that of the labels.",
        )


@check("mixed-vintage")
def mixed_vintage(inputs: AuditInputs) -> Iterator[Finding]:
    """Look for LSOA codes that exist only since 2021 beside others, mostly of both vintages."""
    kinds = select_ons(inputs.codes).str[:3]
    is_lsoa = kinds.isin(list(FIRST_OF_2021))
    n = int(is_lsoa.sum())
    new = select_new(inputs.codes)
    n_new = len(new)
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
        new,
        "Labels and tiles need codes of one vintage: indices of 2019 are by LSOA 2011, those of "
        "2025 by LSOA 2021.",
    )


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


@check("few-blocks", "folds")
def few_blocks(inputs: AuditInputs) -> Iterator[Finding]:
    """Warn where whole blocks are held out, and there are too few: these are what is resampled."""
    if 0 < inputs.n_blocks < FEW_BLOCKS:
        yield Finding(
            "warning",
            f"the split 'block' holds {inputs.n_blocks} blocks out, however many areas they have; "
            f"its intervals need at least {FEW_BLOCKS}",
            inputs.n_blocks,
            [],
            "Lower [models] block_m, or take more ground. Read its intervals as too narrow.",
        )


@check("one-tile-areas")
def one_tile_areas(inputs: AuditInputs) -> Iterator[Finding]:
    """Count areas with one tile, whose prediction averages nothing."""
    alone = inputs.areas[inputs.tiles_of_area == 1]
    if len(alone):
        yield Finding(
            "note",
            f"{count_of(len(alone), len(inputs.areas), 'areas')} have one tile",
            len(alone),
            list_texts(alone),
            "Read the scores by tile count: the fewer tiles, the worse the mean.",
        )


@check("uneven-areas")
def uneven_areas(inputs: AuditInputs) -> Iterator[Finding]:
    """Look for areas so uneven that scores of tiles are those of a few large ones.

    The number of areas that would weigh the same is (Σn)² / Σn² (Kish 1965).
    """
    n = pd.Series(inputs.tiles_of_area, index=inputs.areas, dtype=np.float64)
    effective = n.sum() ** 2 / (n**2).sum()
    if effective < UNEVEN * len(n):
        yield Finding(
            "note",
            "tiles are shared so unevenly that scores of tiles weigh like those of "
            f"{effective:,.0f} areas, not of {len(n):,}",
            int(effective),
            [f"{area}: {n_tiles:,.0f} tiles" for area, n_tiles in n.nlargest(5).items()],
            "Read the scores at level 'area', and keep [models] weights at \"area\".",
        )


@check("group-is-area")
def groups_that_are_areas(inputs: AuditInputs) -> Iterator[Finding]:
    """Look for descriptors that name the area: they tell nothing of areas held out, and everything
    on 'random'.
    """
    area = pd.Series(inputs.area_number)
    for name, column in inputs.groups.items():
        value = column.map(str)
        n_areas = area.groupby(value.to_numpy()).nunique()
        alone = n_areas.index[n_areas == 1]
        if len(n_areas) > 1 and len(alone) >= SAME_AS_AREA * len(n_areas):
            yield Finding(
                "warning",
                f"group column {name!r}: {count_of(len(alone), len(n_areas), 'values')} stand for "
                "one area alone",
                len(alone),
                list_texts(alone),
                f"Remove {name!r} from [tiles] groups: it is a name of the area, no description.",
            )
