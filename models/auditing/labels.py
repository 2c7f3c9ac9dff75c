"""Checks of the labels of each target: missing, no labels at all, or no numbers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from extract.config.arrays import Ints
from extract.tables.numbers import NO_NUMBER
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

ROUNDING = 1e-6  # of a target's range: labels that are nearer are the same number, written twice
MANY_MISSING = 0.2
FEW_VALUES = 10  # deciles have ten
MOST_ALIKE = 0.5
# what tables write where they have no value
SENTINELS = (-99999.0, -9999.0, -999.0, -99.0, 999.0, 9999.0, 99999.0)


@check("labels-differ")
def labels_that_differ(inputs: AuditInputs) -> Iterator[Finding]:
    """Look for areas whose tiles have different labels of one target: a label is the area's."""
    n_areas = len(inputs.areas)
    for name in map(str, inputs.targets):
        differ = _differ(inputs, name)
        if not len(differ):
            continue
        severity = grade(len(differ), SHARE * n_areas, "fatal", "warning")
        remedy = "Mend the join of tiles and labels: scores of areas need one label an area."
        if name in inputs.classes:
            severity = "warning"
            remedy = (
                "Where the class is the tile's, read the level tile: an area's class is the most "
                "frequent of its tiles. Else mend the join of tiles and labels."
            )
        yield Finding(
            severity,
            f"target {name!r}: {count_of(len(differ), n_areas, 'areas')} have tiles with different "
            "labels",
            len(differ),
            [f"{inputs.areas[a]}: {_some_labels(inputs, name, a)}" for a in differ[:N_EXAMPLES]],
            remedy,
        )


def _some_labels(inputs: AuditInputs, name: str, area: int) -> str:
    column = inputs.targets[name][inputs.area_number == area]
    labels = sorted(column.dropna().unique())
    texts = [label if isinstance(label, str) else f"{label:g}" for label in labels[:3]]
    if len(labels) > 3:
        texts.append("…")
    return ", ".join(texts)


def _differ(inputs: AuditInputs, name: str) -> Ints:
    column = inputs.targets[name]
    by_area = column.groupby(inputs.area_number)
    if name in inputs.classes:
        n_labels = by_area.nunique().to_numpy()
        return np.flatnonzero(n_labels > 1)
    width = by_area.max() - by_area.min()
    rounding = ROUNDING * (column.max() - column.min())
    return np.flatnonzero(width.to_numpy() > rounding)


@check("constant-target")
def constant_targets(inputs: AuditInputs) -> Iterator[Finding]:
    """Look for targets with one value: there is nothing to predict, and R² has no meaning."""
    examples = []
    for name, column in inputs.targets.items():
        values = column.dropna().unique()
        if len(values) == 1:
            examples.append(f"{name}: {values[0]}")
    if examples:
        yield Finding(
            "warning",
            f"{count_of(len(examples), inputs.targets.shape[1], 'targets')} have one value",
            len(examples),
            examples,
            "Remove them from [targets] columns.",
        )


@check("missing-labels")
def missing_labels(inputs: AuditInputs) -> Iterator[Finding]:
    """Count missing labels of each target; a target without any cannot be fitted."""
    for name, column in inputs.targets.items():
        is_lost = column.isna()
        n = int(is_lost.sum())
        if not n:
            continue
        share = is_lost.groupby(inputs.area_number).mean().to_numpy()
        n_partly = np.count_nonzero((share > 0) & (share < 1))
        partly = f"; in {n_partly:,} areas only some of the tiles lack it" if n_partly else ""
        severity = grade(n, MANY_MISSING * len(inputs), "warning", "note")
        if n == len(inputs):
            severity = "fatal"
        yield Finding(
            severity,
            f"target {name!r}: {count_of(n, len(inputs), 'labels')} are missing{partly}",
            n,
            list_texts(inputs.areas[share > 0]),
            "These tiles are left out for this target. Ask why they are missing: seldom at random.",
        )


@check("sentinel-labels")
def sentinel_labels(inputs: AuditInputs) -> Iterator[Finding]:
    """Look for a −9999 that is no label: further out than all others are wide; or a class `NA`."""
    for name in inputs.classes:
        labels = inputs.targets[name].dropna().map(str)
        words = labels[labels.str.lower().isin(NO_NUMBER)]
        if len(words):
            yield Finding(
                "warning",
                f"target {name!r}: {count_of(len(words), len(labels), 'labels')} are a class whose "
                "name is a word for a missing value",
                len(words),
                list_texts(words.unique()),
                "Where it is no class, list it in [tiles] missing.",
            )
    for name in inputs.numeric:
        column = inputs.targets[name]
        is_stand_in = column.isin(SENTINELS)
        others = column[~is_stand_in]
        low = others.min()
        high = others.max()
        width = high - low
        is_far = (column < low - width) | (column > high + width)
        far = column[is_stand_in & is_far]
        if len(far):
            yield Finding(
                "warning",
                f"target {name!r}: {count_of(len(far), len(column), 'labels')} look like a "
                f"stand-in for a missing value; the others lie in {low:g} … {high:g}",
                len(far),
                [f"{value:g}" for value in far.unique()],
                "Leave these labels empty in the table, or list them in [tiles] missing.",
            )


@check("few-values")
def few_values(inputs: AuditInputs) -> Iterator[Finding]:
    """Look for numbers that are ranks or classes: squared errors say little of these."""
    examples = []
    for name, y in inputs.labels.items():
        counts = y.value_counts()
        n_values = len(counts)
        if n_values < 2:
            continue
        most = int(counts.iloc[0])
        if n_values <= FEW_VALUES and len(y) > 2 * FEW_VALUES:
            examples.append(f"{name}: {n_values} values")
        elif most > MOST_ALIKE * len(y):
            share = count_of(most, len(y), "areas")
            examples.append(f"{name}: {counts.index[0]:g} in {share}")
    if examples:
        yield Finding(
            "note",
            f"{count_of(len(examples), len(inputs.numeric), 'targets')} have few values, or one "
            "in most areas",
            len(examples),
            examples,
            "Take the score itself where this is its decile, or name it in [targets] classes.",
        )


@check("rare-classes", "folds")
def rare_classes(inputs: AuditInputs) -> Iterator[Finding]:
    """Look for classes in fewer areas than there are folds: some fold is fitted without them."""
    last = max(fold.max() for fold in inputs.folds.values())
    n_folds = int(last) + 1
    area = pd.Series(inputs.area_number)
    for name in inputs.classes:
        n_areas = area.groupby(inputs.targets[name].to_numpy()).nunique()
        rare = n_areas[n_areas < n_folds]
        if len(rare):
            yield Finding(
                "warning",
                f"target {name!r}: {count_of(len(rare), len(n_areas), 'classes')} stand in fewer "
                f"areas than there are folds ({n_folds})",
                len(rare),
                [f"{label}: {n} areas" for label, n in rare.items()],
                "Join rare classes, or leave their tiles out.",
            )
