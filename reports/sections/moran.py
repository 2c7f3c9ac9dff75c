"""Whether the residuals of the best models cluster on the map."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from extract.config.arrays import Array, Floats
from models.evaluation.simultaneous import ALPHA, correct_holm
from reports.data.formats import plural

N_NEIGHBOURS = 8
N_PERMUTATIONS = 999
MIN_AREAS = 10


class Moran(NamedTuple):
    """Moran's I, `i`, and its one-sided permutation p-value; NaN where they are undefined."""

    i: float
    p: float


def compute_moran(xy: Floats, values: Floats) -> Moran:
    """Compute Moran's I over the 8 nearest neighbours, with row-standardised weights.

    Parameters
    ----------
    xy : (n, 2) [m].
    values : (n,), finite.

    Returns
    -------
    I is about −1/(n − 1) where values lie anywhere, and goes towards 1 where neighbours are alike.
    Both are NaN for n < 10 or equal values.

    References
    ----------
    Moran 1950, Biometrika 37:17, doi:10.2307/2332142; Anselin 1995, Geographical Analysis 27:93
    (permutation).
    """
    largest = float(np.abs(values).max())
    rounding = 1e-12 * max(1.0, largest)
    z = values - values.mean()
    is_flat = z.std() <= rounding
    if is_flat or len(z) < MIN_AREAS:
        return Moran(np.nan, np.nan)
    tree = cKDTree(xy)
    _, nearest = tree.query(xy, k=N_NEIGHBOURS + 1)
    neighbours = nearest[:, 1:]  # the first is the place itself
    rng = np.random.default_rng(0)
    observed = _correlate(z, neighbours)
    n_as_large = 1  # the observed value counts as one of the permutations
    for _ in range(N_PERMUTATIONS):
        shuffled = rng.permutation(z)
        n_as_large += _correlate(shuffled, neighbours) >= observed
    p = n_as_large / (N_PERMUTATIONS + 1)
    return Moran(observed, p)


def _correlate(z: Floats, neighbours: Array) -> float:
    """Return Moran's I of (n,) deviations from the mean, with (n, k) neighbours of each."""
    lag = z[neighbours].mean(axis=1)
    return float(z @ lag / (z @ z))


def describe_moran(found: dict[str, Moran]) -> str:
    """Describe whether residuals cluster, with p-values corrected for the number of targets."""
    tested = {target: one for target, one in found.items() if np.isfinite(one.p)}
    if not tested:
        return "Where truths, predictions and residuals lie."
    p_values = [one.p for one in tested.values()]
    p_holm = correct_holm(np.array(p_values))
    corrected = dict(zip(tested, p_holm, strict=True))
    clustered = [target for target, p in corrected.items() if p < ALPHA]
    indices = plural(len(tested), "index")
    if not clustered:
        return f"We detect no clusters of residuals on the map, on any of {indices}."
    top = max(clustered, key=lambda target: tested[target].i)
    return (
        f"Residuals cluster on the map for {len(clustered)} of {indices}, most of all {top} "
        f"(Moran's I {tested[top].i:.2f}, corrected p = {corrected[top]:.3f}). "
        "There neighbouring areas share something that the model does not see."
    )
