"""Checks of the targets: labels that cannot be learnt or trusted, or need no picture."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from extract.config.arrays import Floats, Ints
from extract.tables.numbers import NO_NUMBER
from models.auditing.areas import SAME_AS_AREA
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
from models.auditing.pictures import read_facts

ROUNDING = 1e-6  # of a target's range: labels that are nearer are the same number, written twice
MANY_MISSING = 0.2
FEW_VALUES = 10  # deciles have ten
MOST_ALIKE = 0.5
# what tables write where they have no value
SENTINELS = (-99999.0, -9999.0, -999.0, -99.0, 999.0, 9999.0, 99999.0)
COPY = 0.999
# a tenth of the rank variance, about what pictures add; Bonferroni over the targets
FOLLOWS = 0.3
ALPHA = 0.01
# share of the rank variance between groups: terciles of a target hold 0.89 of it, place and class
# at most 0.6
HELD = 0.85


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


@check("target-copies")
def copied_targets(inputs: AuditInputs) -> Iterator[Finding]:
    """Look for targets that are one another, perhaps in other units."""
    labels = inputs.labels.loc[:, inputs.labels.nunique() > 1]
    pairs = []
    for one, other in combinations(map(str, labels), 2):
        r = labels[one].corr(labels[other], min_periods=3)
        if abs(r) > COPY:
            pairs.append(f"{one} and {other}: |r| = {abs(r):.4f}")
    if pairs:
        yield Finding(
            "warning",
            f"{len(pairs)} pairs of targets are copies of each other (|r| above {COPY})",
            len(pairs),
            pairs,
            "Keep one of each pair in [targets] columns.",
        )


@check("twin-areas")
def twin_areas(inputs: AuditInputs) -> Iterator[Finding]:
    """Look for areas with equal labels of three targets or more: one area under two codes."""
    has_many_values = inputs.labels.nunique() > FEW_VALUES
    labels = inputs.labels.loc[~inputs.has_variant, has_many_values].dropna()
    again = labels[labels.duplicated(keep=False)]
    n_targets = labels.shape[1]
    if n_targets >= 3 and len(again):
        examples = []
        for _, twins in again.groupby(list(again), sort=False):
            names = inputs.codes[twins.index[:3]]
            examples.append(" and ".join(names))
        yield Finding(
            "warning",
            f"{count_of(len(again), len(inputs.areas), 'areas')} have the labels of another area "
            f"in all {n_targets} targets",
            len(again),
            examples,
            "Mend the join of areas and labels, or the codes of these areas.",
        )


@check("target-follows-tile-count")
def targets_that_follow_tile_count(inputs: AuditInputs) -> Iterator[Finding]:
    """Look for targets that the number of an area's tiles, and so its size, tells."""
    yield from _follow(
        inputs,
        inputs.tiles_of_area.astype(np.float64),
        "the number of the area's tiles",
        'Keep [models] weights at "area": weights by tile draw predictions to the areas of many '
        "tiles. Read R² beside the baselines, and scores by tile count.",
    )


@check("target-follows-file-size", "pictures")
def targets_that_follow_file_size(inputs: AuditInputs) -> Iterator[Finding]:
    """Look for targets that the mean size of an area's picture files tells."""
    usable = inputs.is_usable
    n_bytes = read_facts(inputs)["bytes"][usable].astype(np.float64)
    sizes = pd.Series(np.log(n_bytes))
    by_area = sizes.groupby(inputs.area_number[usable]).mean()
    by_area = by_area.reindex(range(len(inputs.areas)))
    yield from _follow(
        inputs,
        by_area.to_numpy().astype(np.float64),
        "the mean size of the area's picture files",
        "Hold the models against the baseline 'metadata', which knows file sizes and colours "
        "alone.",
    )


def _follow(inputs: AuditInputs, fact: Floats, what: str, remedy: str) -> Iterator[Finding]:
    examples = []
    for name, y in inputs.labels.items():
        rho, p = _spearman(y.to_numpy(), fact)
        if abs(rho) > FOLLOWS and p * len(inputs.numeric) < ALPHA:
            examples.append(f"{name}: ρ = {rho:.2f}")
    if examples:
        yield Finding(
            "warning",
            f"{count_of(len(examples), len(inputs.numeric), 'targets')} follow {what} (|ρ| above "
            f"{FOLLOWS} over areas, p < {ALPHA} after Bonferroni)",
            len(examples),
            examples,
            remedy,
        )


def _spearman(a: Floats, b: Floats) -> tuple[float, float]:
    """Rank correlation and its p; (0, 1) where one of the two does not vary."""
    pairs = pd.DataFrame({"a": a, "b": b}).dropna()
    if len(pairs) < 4 or (pairs.nunique() == 1).any():
        return 0.0, 1.0
    from scipy.stats import spearmanr  # a second to load: a run with nothing to do should not

    found = spearmanr(pairs["a"], pairs["b"])
    return float(found.statistic), float(found.pvalue)


@check("group-holds-target")
def groups_that_hold_a_target(inputs: AuditInputs) -> Iterator[Finding]:
    """Look for descriptors that are a target in bins: a model fed with them is given the answer."""
    examples = []
    for group, column in inputs.groups.items():
        value = _group_of_area(inputs, column)
        for name, y in inputs.labels.items():
            held = _share_between(y.to_numpy(), value)
            if held > HELD:
                examples.append(f"{group} holds {100 * held:.0f} % of {name}")
    if examples:
        yield Finding(
            "warning",
            f"{len(examples)} pairs of group column and target are nearly one thing (over "
            f"{100 * HELD:.0f} % of the rank variance lies between the groups)",
            len(examples),
            examples,
            "Remove descriptors that were made from the target from [tiles] groups.",
        )


def _group_of_area(inputs: AuditInputs, column: pd.Series[Any]) -> Ints:
    """Number of each area's first value of a group column; all −1 where most name one area."""
    codes, _ = pd.factorize(column.map(str))
    first = np.unique(inputs.area_number, return_index=True)[1]
    value = codes[first]
    is_alone = np.bincount(value) == 1
    if is_alone.mean() >= SAME_AS_AREA:
        return np.full(len(value), -1)
    return value


def _share_between(y: Floats, value: Ints) -> float:
    """Share of the rank variance of y between groups, less that of chance (ε², Kelley 1935)."""
    is_known = ~np.isnan(y) & (value >= 0)
    rank = pd.Series(y[is_known]).rank()
    groups = rank.groupby(value[is_known])
    n = len(rank)
    k = groups.ngroups
    if k < 2 or n - k < 2 or rank.nunique() == 1:
        return 0.0
    residual = rank - groups.transform("mean")
    within = (residual**2).sum() / (n - k)
    return float(1 - within / rank.var())
