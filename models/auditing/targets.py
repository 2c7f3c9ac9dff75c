"""Checks of the targets beside other columns: what tells them without a picture."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from extract.config.arrays import Floats, Ints
from models.auditing.areas import SAME_AS_AREA
from models.auditing.findings import AuditInputs, Finding, check, count_of
from models.auditing.labels import FEW_VALUES
from models.auditing.pictures import read_facts

COPY = 0.999
# a tenth of the rank variance, about what pictures add; Bonferroni over the targets
FOLLOWS = 0.3
ALPHA = 0.01
# share of the rank variance between groups: terciles of a target hold 0.89 of it, place and class
# at most 0.6
HELD = 0.85


@check("target-copies")
def copied_targets(inputs: AuditInputs) -> Iterator[Finding]:
    """Look for targets that are one another, perhaps in other units."""
    varies = inputs.labels.nunique() > 1
    labels = inputs.labels.loc[:, varies]
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
    _, first = np.unique(inputs.area_number, return_index=True)
    value = codes[first]
    n_areas = np.bincount(value)
    is_alone = n_areas == 1
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
