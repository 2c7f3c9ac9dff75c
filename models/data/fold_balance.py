"""Groups of tiles put into folds that weigh alike: in tiles, and in the mean of every target."""

from __future__ import annotations

import numpy as np

from models.data.arrays import Floats, Ints

_PASSES = 4
_OFFERS = (
    1000  # groups that are offered another place in a pass; all of them where there are no more
)
_PARTNERS = 256  # groups that each of them is offered for an exchange


def weigh_groups(group: Ints, targets: Floats | None) -> Floats:
    """What each group weighs: its tiles, and its sums of the standardised targets: (n_groups, 1 + n_targets).

    Standardised targets sum to 0, so that folds whose sums are near 0 have means near the overall one. Divided by the
    root of their number, all targets together weigh as much as the tiles. A missing label, and a constant target, weigh
    nothing.
    """
    columns = [np.ones(len(group))]
    if targets is not None and targets.shape[1]:
        columns += list((_standardise(targets) / np.sqrt(targets.shape[1])).T)
    return np.column_stack([np.bincount(group, weights=column) for column in columns])


def _standardise(targets: Floats) -> Floats:
    known = ~np.isnan(targets)
    n = np.maximum(known.sum(axis=0), 1)
    centred = np.where(known, targets - np.where(known, targets, 0.0).sum(axis=0) / n, 0.0)
    spread = np.sqrt((centred**2).sum(axis=0) / n)
    is_flat = spread <= 1e-12 * np.abs(np.where(known, targets, 0.0)).max(axis=0, initial=1.0)
    return np.where(is_flat, 0.0, centred / np.where(is_flat, 1.0, spread))


def balance_groups(loads: Floats, n_folds: int, seed: int) -> Ints:
    """Return the fold of each group, such that the folds' loads are alike: (n_groups,), none empty.

    The sum over the folds of the squared loads is least where all are equal. Largest groups first, each goes where that
    sum grows least (the rule of longest-processing-time scheduling, Graham 1969, SIAM J. Appl. Math. 17:416, for
    vectors); then groups move, or change places with one of another fold, as long as the sum falls.

    Parameters
    ----------
    loads : (n_groups, n_loads), at least `n_folds` groups.
    seed : decides between groups of one size, and which exchanges are tried where there are too many to try all.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(loads))
    order = order[np.argsort(-loads[order, 0], kind="stable")]
    fold = np.empty(len(loads), dtype=np.int64)
    filled = np.zeros((n_folds, loads.shape[1]))
    if (loads == loads[0]).all():
        fold[order] = np.arange(len(loads)) % n_folds
        return fold
    for place, g in enumerate(order):
        fold[g] = place if place < n_folds else int((filled @ loads[g]).argmin())
        filled[fold[g]] += loads[g]
    for _ in range(_PASSES):
        if not _exchange(loads, fold, filled, rng):
            break
    return fold


def _exchange(loads: Floats, fold: Ints, filled: Floats, rng: np.random.Generator) -> bool:
    """Offer each group a place in every other fold, and those of some groups; true where one was taken.

    With d the difference of what enters and what leaves fold a (and leaves and enters b), the sum of squares changes by
    2 d · (a − b) + 2 |d|².
    """
    n_folds = len(filled)
    n_taken = 0
    size = np.bincount(fold, minlength=n_folds)
    least = -1e-9 * float((filled**2).sum())
    for g in rng.permutation(len(loads))[:_OFFERS]:
        some = (
            rng.choice(len(loads), _PARTNERS, replace=False)
            if len(loads) > _PARTNERS
            else np.arange(len(loads))
        )
        other = np.concatenate([np.arange(n_folds), fold[some]])
        entering = np.vstack([np.zeros_like(filled), loads[some]])
        change = entering - loads[g]
        gain = 2 * (
            (change * (filled[fold[g]] - filled[other])).sum(axis=1) + (change**2).sum(axis=1)
        )
        gain[other == fold[g]] = np.inf
        if size[fold[g]] == 1:
            gain[:n_folds] = np.inf  # a fold is not emptied
        best = int(gain.argmin())
        if gain[best] >= least:
            continue
        here = fold[g]
        there = other[best]
        filled[here] += change[best]
        filled[there] -= change[best]
        fold[g], n_taken = there, n_taken + 1
        if best >= n_folds:
            fold[some[best - n_folds]] = here
        else:
            size[here], size[there] = size[here] - 1, size[there] + 1
    return n_taken > 0
