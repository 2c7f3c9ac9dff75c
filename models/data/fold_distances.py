"""How far tiles lie from the tiles that a model was trained on, in metres."""

from __future__ import annotations

import numpy as np

from extract.config.arrays import Floats, Ints
from models.data.folds import Folds

_QUANTILES = (0.1, 0.5, 0.9)


def measure_nearest(xy: Floats, training_xy: Floats) -> Floats:
    """Measure how far each place lies from the nearest training tile: (n,) [m].

    Parameters
    ----------
    xy : (n, 2), easting and northing of the places [m].
    training_xy : (n_training, 2), of the tiles that a model was trained on [m].
    """
    from scipy.spatial import cKDTree  # slow to load, and seldom needed

    distance, _ = cKDTree(training_xy).query(xy)
    return distance


def measure_held_out(fold: Ints, xy: Floats) -> Floats:
    """Measure how far each tile lies from the nearest tile of another fold: (n_tiles,) [m].

    Parameters
    ----------
    fold : (n_tiles,), −1 for a tile that is not used: its distance is NaN.
    xy : (n_tiles, 2), easting and northing [m].
    """
    distance = np.full(len(fold), np.nan)
    for one in np.unique(fold[fold >= 0]):
        is_held = fold == one
        is_training = ~is_held & (fold >= 0)
        distance[is_held] = measure_nearest(xy[is_held], xy[is_training])
    return distance


def measure_split(folds: Folds, xy: Floats) -> Floats:
    """Measure how far each tile lies from its fold's training tiles, buffers left out.

    Returns
    -------
    (n_tiles,) [m], NaN for a tile in no fold.
    """
    distance = np.full(len(folds), np.nan)
    for fold in folds.folds:
        parts = folds.parts_of(fold)
        held = folds.held(parts)
        training = folds.training(parts)
        distance[held] = measure_nearest(xy[held], xy[training])
    return distance


def describe_distances(distance: Floats) -> dict[str, float]:
    """Return the tenth, the median and the ninth tenth of distances [m], as in `predict.json`."""
    known = distance[np.isfinite(distance)]
    tenth, median, ninth = np.quantile(known, _QUANTILES)
    return {"p10": float(tenth), "median": float(median), "p90": float(ninth)}
