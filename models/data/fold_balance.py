"""Put groups of tiles into folds of equal weight: in tiles, and in the mean of every target."""

from __future__ import annotations

from typing import NamedTuple

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
    columns = [np.ones(len(group))]
    if targets is not None and targets.shape[1]:
        scaled = _standardise(targets) / np.sqrt(targets.shape[1])
        columns.extend(scaled.T)
    return np.column_stack([np.bincount(group, weights=column) for column in columns])


def _standardise(targets: Floats) -> Floats:
    is_known = ~np.isnan(targets)
    values = np.where(is_known, targets, 0.0)
    n = np.maximum(is_known.sum(axis=0), 1)
    centred = np.where(is_known, targets - values.sum(axis=0) / n, 0.0)
    deviation = np.sqrt((centred**2).sum(axis=0) / n)
    is_flat = deviation <= 1e-12 * np.abs(values).max(axis=0, initial=1.0)
    return np.where(is_flat, 0.0, centred / np.where(is_flat, 1.0, deviation))


class _Assignment(NamedTuple):
    """Groups in folds; the arrays are changed in place.

    Attributes
    ----------
    loads : (n_groups, n_loads).
    fold : (n_groups,).
    filled : (n_folds, n_loads), sums of the loads.
    size : (n_folds,), number of groups.
    """

    loads: Floats
    fold: Ints
    filled: Floats
    size: Ints

    def put(self, group: int, fold: int) -> None:
        """Put a group that is in no fold into one."""
        self.fold[group] = fold
        self.filled[fold] += self.loads[group]
        self.size[fold] += 1


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
    order = rng.permutation(len(loads))
    order = order[np.argsort(-loads[order, 0], kind="stable")]
    fold = np.empty(len(loads), dtype=np.int64)
    if (loads == loads[0]).all():
        fold[order] = np.arange(len(loads)) % n_folds
        return fold
    filled = np.zeros((n_folds, loads.shape[1]))
    state = _Assignment(loads, fold, filled, np.zeros(n_folds, dtype=np.int64))
    for place, group in enumerate(order):
        if place < n_folds:
            state.put(group, place)
        else:
            state.put(group, int((filled @ loads[group]).argmin()))
    for _ in range(_PASSES):
        if not _exchange_groups(state, rng):
            break
    return fold


def _exchange_groups(state: _Assignment, rng: np.random.Generator) -> bool:
    """Offer groups a place in every other fold, or that of another group.

    With d the difference of what enters and what leaves fold a (and leaves and enters b), the sum
    of squares changes by 2 d · (a − b) + 2 |d|².

    Returns
    -------
    Whether one was taken.
    """
    loads, fold, filled, size = state
    n_folds = len(filled)
    n_groups = len(loads)
    has_moved = False
    threshold = -1e-9 * float((filled**2).sum())
    for group in rng.permutation(n_groups)[:_N_OFFERED]:
        partners = np.arange(n_groups)
        if n_groups > _N_PARTNERS:
            partners = rng.choice(n_groups, _N_PARTNERS, replace=False)
        here = fold[group]
        other = np.concatenate([np.arange(n_folds), fold[partners]])
        change = np.vstack([np.zeros_like(filled), loads[partners]]) - loads[group]
        crossed = (change * (filled[here] - filled[other])).sum(axis=1)
        gain = 2 * (crossed + (change**2).sum(axis=1))
        gain[other == here] = np.inf
        if size[here] == 1:
            gain[:n_folds] = np.inf  # no fold becomes empty
        best = int(gain.argmin())
        if gain[best] >= threshold:
            continue
        has_moved = True
        there = other[best]
        filled[here] += change[best]
        filled[there] -= change[best]
        fold[group] = there
        if best >= n_folds:
            fold[partners[best - n_folds]] = here
        else:
            size[here] -= 1
            size[there] += 1
    return has_moved
