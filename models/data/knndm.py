"""Folds whose held-out tiles lie as far from training as the places to be predicted do.

Nearest neighbour distance matching with k folds (kNNDM): Linnenbrink et al. 2024, Geoscientific
Model Development 17:5897, doi:10.5194/gmd-17-5897-2024.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from extract.config.arrays import Floats, Ints
from models.data.fold_balance import balance_groups
from models.data.fold_distances import measure_held_out, measure_nearest

N_CANDIDATES = 60  # numbers of clusters that are tried
MAX_AREAS = 20_000  # whose distances are clustered: 1.6 GB
LARGEST_FOLD = 0.5  # of the tiles: no fold may hold more


def match_distances(
    area: Ints, xy: Floats, prediction_xy: Floats, *, n_folds: int, seed: int
) -> Ints:
    """Assign whole areas to folds so that distances to training are those of prediction.

    Areas are clustered by the places of their centroids (Ward's method), from as many clusters as
    folds to every area for itself. The clusters are dealt out to the folds, and the number of
    clusters is kept at which the distances of the held-out tiles to the nearest training tile are
    the most like those of the prediction places to the nearest tile (the least Wasserstein
    distance).

    Parameters
    ----------
    area : (n_tiles,), number of each tile's area, 0 … n_areas − 1.
    xy : (n_tiles, 2), easting and northing of the tiles [m].
    prediction_xy : (n_places, 2), of the places to be predicted [m].
    seed : of the order in which equal clusters are dealt out.

    Returns
    -------
    (n_tiles,), fold of each tile, 0 … n_folds − 1.

    Raises
    ------
    ValueError : fewer areas than folds, or more than `MAX_AREAS`.
    """
    from scipy.stats import wasserstein_distance

    n_areas = int(area.max()) + 1
    if not n_folds <= n_areas <= MAX_AREAS:
        raise ValueError(
            f"split 'knndm': expected {n_folds} to {MAX_AREAS:,} areas, got {n_areas:,}. Use the "
            "split 'block', or another number of folds."
        )
    wanted = measure_nearest(prediction_xy, xy)
    best = np.inf
    chosen = np.zeros(len(area), dtype=np.int64)
    for fold_of_area in _propose_folds(area, xy, n_folds, seed):
        fold = fold_of_area[area]
        is_large = np.bincount(fold, minlength=n_folds).max() > LARGEST_FOLD * len(fold)
        if is_large and np.isfinite(best):
            continue
        distance = wasserstein_distance(measure_held_out(fold, xy), wanted)
        if distance < best:
            best = distance
            chosen = fold
    return chosen


def _propose_folds(area: Ints, xy: Floats, n_folds: int, seed: int) -> Iterator[Ints]:
    """Yield the fold of each area, from the most clusters to the fewest: (n_areas,)."""
    from scipy.cluster.hierarchy import fcluster, ward

    centroids = pd.DataFrame(xy).groupby(area).mean().to_numpy()
    n_tiles = np.bincount(area).astype(np.float64)
    n_areas = len(centroids)
    tree = ward(centroids)
    counts = np.geomspace(n_folds, n_areas, N_CANDIDATES)
    candidates = np.unique(counts.astype(np.int64))
    for n_clusters in candidates[::-1]:
        cluster = fcluster(tree, n_clusters, criterion="maxclust") - 1
        loads = np.bincount(cluster, weights=n_tiles).astype(np.float64)
        if len(loads) >= n_folds:
            yield balance_groups(loads[:, None], n_folds, seed)[cluster]
