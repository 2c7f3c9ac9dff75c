"""Put groups of tiles into folds of equal weight: in tiles, and in the mean of every target."""

from __future__ import annotations

import numpy as np

from extract.config.arrays import Floats, Ints

_PASSES = 4
_N_OFFERED = 1000  # groups that are offered another place in a pass
_N_PARTNERS = 256  # groups that each of them is offered for an exchange


def weigh_groups(group: Ints, targets: Floats | None) -> Floats:
    """Compute the weight of each group: its tiles, and its sums of the standardised targets.

    Standardised targets sum to 0, so that folds whose sums are near 0 have means near the overall
    one. Divided by the root of their number, all targets together weigh as much as the tiles. A
    missing label and a constant target weigh nothing.

    Returns
    -------
    (n_groups, 1 + n_targets).
    """
    sums = [np.bincount(group)]
    if targets is not None:
        scale = np.sqrt(targets.shape[1])
        for column in targets.T:
            weights = _standardise(column) / scale
            sums.append(np.bincount(group, weights))
    return np.column_stack(sums).astype(np.float64)


def _standardise(target: Floats) -> Floats:
    """Return a target with mean 0 and deviation 1; 0 where missing, and where it is constant."""
    is_known = ~np.isnan(target)
    values = target[is_known]
    scaled = np.zeros(len(target))
    if not len(values):
        return scaled
    deviation = values.std()
    largest = np.abs(values).max()
    if deviation > 1e-12 * max(1.0, largest):
        centred = values - values.mean()
        scaled[is_known] = centred / deviation
    return scaled


def balance_groups(loads: Floats, n_folds: int, seed: int) -> Ints:
    """Return the fold of each group, such that the loads of the folds are alike.

    The sum over the folds of the squared loads is least where all are equal. Largest groups first,
    each goes where that sum grows least (the rule of longest-processing-time scheduling, Graham
    1969, SIAM J. Appl. Math. 17:416, for vectors); then groups move, or change places with one of
    another fold, as long as the sum falls.

    Parameters
    ----------
    loads : (n_groups, n_loads), at least `n_folds` groups.
    seed : decides between groups of one size, and which exchanges are tried where there are too
        many to try all.

    Returns
    -------
    (n_groups,), 0 … n_folds − 1, no fold empty.
    """
    rng = np.random.default_rng(seed)
    n_groups = len(loads)
    order = rng.permutation(n_groups)
    by_size = np.argsort(-loads[order, 0], kind="stable")
    order = order[by_size]
    fold = np.empty(n_groups, dtype=np.int64)
    is_even = (loads == loads[0]).all()
    if is_even:
        fold[order] = np.arange(n_groups) % n_folds
        return fold
    first = order[:n_folds]
    fold[first] = np.arange(n_folds)
    filled = loads[first].copy()
    for group in order[n_folds:]:
        load = loads[group]
        growth = filled @ load
        emptiest = growth.argmin()
        fold[group] = emptiest
        filled[emptiest] += load
    for _ in range(_PASSES):
        if not _exchange_groups(loads, fold, filled, rng):
            break
    return fold


def _exchange_groups(loads: Floats, fold: Ints, filled: Floats, rng: np.random.Generator) -> bool:
    """Offer groups a place in every other fold, or that of another group.

    With d the difference of what enters and what leaves fold a (and leaves and enters b), the sum
    of squares changes by 2 d · (a − b) + 2 |d|².

    Parameters
    ----------
    fold, filled : (n_groups,) and the sums of the loads (n_folds, n_loads); changed in place.

    Returns
    -------
    Whether one was taken.
    """
    n_folds = len(filled)
    n_groups = len(loads)
    every_fold = np.arange(n_folds)
    has_moved = False
    squares = filled**2
    threshold = -1e-9 * squares.sum()
    drawn = rng.permutation(n_groups)
    for group in drawn[:_N_OFFERED]:
        partners = np.arange(n_groups)
        if n_groups > _N_PARTNERS:
            partners = rng.choice(n_groups, _N_PARTNERS, replace=False)
        here = fold[group]
        other = np.append(every_fold, fold[partners])
        nothing = np.zeros_like(filled)
        entering = np.vstack([nothing, loads[partners]])
        change = entering - loads[group]
        apart = filled[here] - filled[other]
        products = change * apart + change**2
        gain = 2 * products.sum(axis=1)
        gain[other == here] = np.inf
        n_here = np.count_nonzero(fold == here)
        if n_here == 1:
            gain[:n_folds] = np.inf  # no fold becomes empty
        best = gain.argmin()
        if gain[best] >= threshold:
            continue
        has_moved = True
        there = other[best]
        filled[here] += change[best]
        filled[there] -= change[best]
        fold[group] = there
        if best >= n_folds:
            partner = partners[best - n_folds]
            fold[partner] = here
    return has_moved
