"""Checks of the targets: labels that cannot be learnt, should not be trusted, or can be had without
any picture.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from extract.config.arrays import Floats, Ints
from models.auditing.areas import SAME_AS_AREA
from models.auditing.findings import (
    N_EXAMPLES,
    SHARE,
    AuditInputs,
    Finding,
    Severity,
    check,
    count_of,
)
from models.auditing.pictures import read_facts

ROUNDING = 1e-6  # of a target's range: labels that are nearer are the same number, written twice
MANY_MISSING = 0.2
FEW_VALUES = 10  # deciles have ten
MOST_ALIKE = 0.5
SENTINELS = (
    -99999.0,
    -9999.0,
    -999.0,
    -99.0,
    999.0,
    9999.0,
    99999.0,
)  # what tables write where they have no value
COPY = 0.999
# a tenth of the rank variance, about what pictures add; Bonferroni over the targets
FOLLOWS = 0.3
ALPHA = 0.01
# share of the rank variance between groups: terciles of a target hold 0.89 of it, place and class
# at most 0.6
HELD = 0.85


@check("labels-differ")
def labels_that_differ(inputs: AuditInputs) -> Iterator[Finding]:
    """Look for areas whose tiles have different labels of one target: a label belongs to the
    area.
    """
    for name in map(str, inputs.targets):
        differ = _differ(inputs, name)
        if not len(differ):
            continue
        severity: Severity = "fatal" if len(differ) > SHARE * len(inputs.areas) else "warning"
        remedy = "Mend the join of tiles and labels: scores of areas need one label an area."
        if name in inputs.classes:
            severity = "warning"
            remedy = (
                "Where the class is the tile's, read the level tile: an area's class is the most "
                "frequent of its tiles. Else mend the join of tiles and labels."
            )
        yield Finding(
            severity,
            f"target {name!r}: {count_of(len(differ), len(inputs.areas), 'areas')} have tiles with "
            "different labels",
            len(differ),
            [f"{inputs.areas[a]}: {_some_labels(inputs, name, a)}" for a in differ[:N_EXAMPLES]],
            remedy,
        )


def _some_labels(inputs: AuditInputs, name: str, area: int) -> str:
    labels = sorted(set(inputs.targets[name][inputs.area_number == area].dropna()))
    texts = [label if isinstance(label, str) else f"{label:g}" for label in labels[:3]]
    return ", ".join(texts) + (" …" if len(labels) > 3 else "")


def _differ(inputs: AuditInputs, name: str) -> Ints:
    column = inputs.targets[name]
    by_area = column.groupby(inputs.area_number)
    if name in inputs.classes:
        return np.flatnonzero(by_area.nunique().to_numpy() > 1)
    width = (by_area.max() - by_area.min()).to_numpy(np.float64)
    return np.flatnonzero(width > ROUNDING * (column.max() - column.min()))


@check("constant-target")
def constant_targets(inputs: AuditInputs) -> Iterator[Finding]:
    """Look for targets with one value: there is nothing to predict, and R² has no meaning."""
    constant = [name for name in inputs.targets if inputs.targets[name].nunique() == 1]
    if constant:
        values = [f"{name}: {inputs.targets[name].dropna().iloc[0]}" for name in constant]
        yield Finding(
            "warning",
            f"{count_of(len(constant), inputs.targets.shape[1], 'targets')} have one value",
            len(constant),
            values,
            "Remove them from [targets] columns.",
        )


@check("missing-labels")
def missing_labels(inputs: AuditInputs) -> Iterator[Finding]:
    """Count missing labels of each target; a target without any cannot be fitted."""
    for name, column in inputs.targets.items():
        lost = column.isna().to_numpy()
        n = int(lost.sum())
        if not n:
            continue
        share_of_area = pd.Series(lost).groupby(inputs.area_number).mean().to_numpy()
        n_partly = np.count_nonzero((share_of_area > 0) & (share_of_area < 1))
        partly = f"; in {n_partly:,} areas only some of the tiles lack it" if n_partly else ""
        severity: Severity = "warning" if n > MANY_MISSING * len(inputs) else "note"
        if n == len(inputs):
            severity = "fatal"
        yield Finding(
            severity,
            f"target {name!r}: {count_of(n, len(inputs), 'labels')} are missing{partly}",
            n,
            [str(a) for a in inputs.areas[share_of_area > 0]],
            "These tiles are left out for this target. Ask why they are missing: seldom at random.",
        )


@check("sentinel-labels")
def sentinel_labels(inputs: AuditInputs) -> Iterator[Finding]:
    """Look for a −9999 that is no label: an extreme of a usual stand-in, further out than all
    others are wide.
    """
    for name in inputs.numeric:
        column = inputs.targets[name]
        stand_ins = column[column.isin(SENTINELS)]
        others = column[~column.isin(SENTINELS)].dropna()
        if len(stand_ins) and len(others):
            low = others.min()
            high = others.max()
            far = stand_ins[(stand_ins < low - (high - low)) | (stand_ins > high + (high - low))]
            if len(far):
                yield Finding(
                    "warning",
                    f"target {name!r}: {count_of(len(far), len(column), 'labels')} look like a "
                    "stand-in for a "
                    f"missing value; the others lie in {low:g} … {high:g}",
                    len(far),
                    [f"{value:g}" for value in far.unique()],
                    "Leave these labels empty in the table.",
                )


@check("few-values")
def few_values(inputs: AuditInputs) -> Iterator[Finding]:
    """Look for numbers that are ranks or classes, or one value in most areas: squared errors say
    little of these.
    """
    examples = []
    for name, y in inputs.labels.items():
        counts = y.value_counts()
        if 1 < len(counts) <= FEW_VALUES and len(y) > 2 * FEW_VALUES:
            examples.append(f"{name}: {len(counts)} values")
        elif len(counts) > 1 and counts.iloc[0] > MOST_ALIKE * len(y):
            examples.append(
                f"{name}: {counts.index[0]:g} in {count_of(int(counts.iloc[0]), len(y), 'areas')}"
            )
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
    """Look for classes in fewer areas than there are folds: some fold is trained or tested without
    them.
    """
    n_folds = max(int(fold.max()) + 1 for fold in inputs.folds.values())
    for name in inputs.classes:
        areas = pd.Series(inputs.area_number).groupby(inputs.targets[name].to_numpy()).nunique()
        rare = areas[areas < n_folds]
        if len(rare):
            yield Finding(
                "warning",
                f"target {name!r}: {count_of(len(rare), len(areas), 'classes')} stand in fewer "
                "areas than "
                f"there are folds ({n_folds})",
                len(rare),
                [f"{label}: {n} areas" for label, n in rare.items()],
                "Join rare classes, or leave their tiles out.",
            )


@check("target-copies")
def copied_targets(inputs: AuditInputs) -> Iterator[Finding]:
    """Look for targets that are one another, perhaps in other units: two rows of the table, one
    finding.
    """
    r = inputs.labels.loc[:, inputs.labels.nunique() > 1].corr(min_periods=3).abs()
    names = list(r)
    size = r.to_numpy()
    pairs = [
        f"{names[i]} and {names[j]}: |r| = {size[i, j]:.4f}"
        for i, j in np.argwhere(np.triu(size > COPY, 1)).tolist()
    ]
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
    """Look for areas with equal labels of at least three targets: one area under two codes, or
    labels joined wrongly.
    """
    labels = inputs.labels.loc[~inputs.has_variant, inputs.labels.nunique() > FEW_VALUES].dropna()
    again = labels.duplicated(keep=False)
    if labels.shape[1] >= 3 and again.any():
        twins = labels[again].groupby(list(labels), sort=False).groups.values()
        yield Finding(
            "warning",
            f"{count_of(int(again.sum()), len(inputs.areas), 'areas')} have the labels of another "
            "area in all "
            f"{labels.shape[1]} targets",
            int(again.sum()),
            [" and ".join(str(inputs.areas[a]) for a in list(rows)[:3]) for rows in twins],
            "Mend the join of areas and labels, or the codes of these areas.",
        )


@check("target-follows-tile-count")
def targets_that_follow_tile_count(inputs: AuditInputs) -> Iterator[Finding]:
    """Look for targets that the number of an area's tiles, and so its size, tells without a
    picture.
    """
    yield from _follow(
        inputs,
        inputs.tiles_of_area.astype(np.float64),
        "the number of the area's tiles",
        "Read R² beside the baselines, and scores by tile count: dense places have small areas.",
    )


@check("target-follows-file-size", "pictures")
def targets_that_follow_file_size(inputs: AuditInputs) -> Iterator[Finding]:
    """Look for targets that the mean size of an area's picture files tells."""
    usable = inputs.is_usable
    sizes = pd.Series(np.log(read_facts(inputs)["bytes"][usable].astype(np.float64)))
    by_area = sizes.groupby(inputs.area_number[usable]).mean().reindex(range(len(inputs.areas)))
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
            f"{FOLLOWS} "
            f"over areas, p < {ALPHA} after Bonferroni)",
            len(examples),
            examples,
            remedy,
        )


def _spearman(a: Floats, b: Floats) -> tuple[float, float]:
    """Rank correlation and its p; (0, 1) where one of the two does not vary."""
    known = ~np.isnan(a) & ~np.isnan(b)
    if known.sum() < 4 or not np.ptp(a[known]) or not np.ptp(b[known]):
        return 0.0, 1.0
    from scipy.stats import spearmanr  # a second to load: a run with nothing to do should not

    found = spearmanr(a[known], b[known])
    return float(found.statistic), float(found.pvalue)


@check("group-holds-target")
def groups_that_hold_a_target(inputs: AuditInputs) -> Iterator[Finding]:
    """Look for descriptors that are a target in bins: a model fed with them is given the answer."""
    examples = []
    for group in inputs.groups:
        value = _group_of_area(inputs, inputs.groups[group])
        for name, y in inputs.labels.items():
            held = _share_between(y.to_numpy(), value)
            if held > HELD:
                examples.append(f"{group} holds {100 * held:.0f} % of {name}")
    if examples:
        yield Finding(
            "warning",
            f"{len(examples)} pairs of group column and target are nearly one thing (over "
            f"{100 * HELD:.0f} % "
            "of the rank variance lies between the groups)",
            len(examples),
            examples,
            "Remove descriptors that were made from the target from [tiles] groups.",
        )


def _group_of_area(inputs: AuditInputs, column: pd.Series[Any]) -> Ints:
    """Number of each area's first value of a group column; all −1 where most values name one area
    (`group-is-area`).
    """
    value = (
        pd.Series(pd.factorize(column.astype(str))[0])
        .groupby(inputs.area_number)
        .first()
        .to_numpy()
    )
    alone = (np.bincount(value) == 1).mean()
    return np.full(len(value), -1) if alone >= SAME_AS_AREA else value


def _share_between(y: Floats, value: Ints) -> float:
    """Share of the rank variance of y that lies between groups, corrected for their number (ε²,
    Kelley 1935).
    """
    known = ~np.isnan(y) & (value >= 0)
    from scipy.stats import rankdata

    rank = rankdata(y[known])
    number = np.unique(value[known], return_inverse=True)[1]
    n = len(rank)
    k = int(number.max(initial=-1)) + 1
    if k < 2 or n - k < 2 or not np.ptp(rank):
        return 0.0
    means = np.bincount(number, weights=rank) / np.bincount(number)
    within = ((rank - means[number]) ** 2).sum() / (n - k)
    return float(1 - within / rank.var(ddof=1))
