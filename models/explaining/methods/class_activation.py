"""Class activation maps: what is known of pooled features, at the places they were pooled from.

Every heat is in the unit of the target, and its mean over the places is what they do together: of
a linear model exactly the prediction less that of the reference.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.config.arrays import Floats
from extract.config.cuts import Pooling
from models.explaining.tile_maps import Maps

Mean = NDArray[np.floating[Any]]


def map_linear(maps: Maps, weights: Floats, reference: Mean, pooling: Pooling) -> Floats:
    """Return the exact map of a linear prediction.

    Its mean over the places is Σ weights · (pooled − reference). Zhou et al. 2016
    (arXiv:1512.04150) for `avg`; `flat` and `map` features have one place each, and a `max`
    feature that of its maximum. No gradient and no approximation.

    Parameters
    ----------
    maps : (n, height, width, channels).
    weights : (n, n_features), change of the prediction by each pooled feature.
    reference : (n_features,), pooled features of the mean tile.

    Returns
    -------
    (n, height, width) [unit of the target].
    """
    _, height, width, channels = maps.shape
    if pooling not in ("avg", "max"):
        reference = reference.reshape(height, width, channels)
    by_place = spread_gradients(maps, weights, pooling)
    mean = reference.astype(np.float64)
    deviations = maps - mean
    raised = np.einsum("nhwc,nhwc->nhw", deviations, by_place)
    n_places = height * width
    return n_places * raised


def map_gradients(maps: Maps, gradients: Floats, reference: Mean) -> Floats:
    """Return Grad-CAM with its sign: the mean gradient of each channel times its deviation.

    Selvaraju et al. 2017 (arXiv:1610.02391) with two changes. A number has no opposite class, so
    that what lowers it counts as well: no ReLU. And channels are compared with those of the mean
    tile, so that a linear prediction from averages has its exact map, not a shifted one.

    Parameters
    ----------
    maps : (n, height, width, channels). gradients : same shape, of the prediction by the map.
    reference : (channels,), mean of the channels over places and many tiles.

    Returns
    -------
    (n, height, width) [unit of the target], to first order.
    """
    weights = gradients.sum(axis=(1, 2), dtype=np.float64)  # mean over places, times their number
    deviations = maps - reference
    return np.einsum("nhwc,nc->nhw", deviations, weights, optimize=True)


def spread_gradients(maps: Maps, gradients: Floats, pooling: Pooling) -> Floats:
    """Return the gradient by each value of the map from that by each pooled feature.

    (n, n_features) → the shape of the maps.
    """
    n, height, width, channels = maps.shape
    if pooling == "avg":
        shares = gradients / (height * width)
        by_place = shares[:, None, None, :]
        return np.broadcast_to(by_place, maps.shape)
    if pooling == "max":
        flat = maps.reshape(n, height * width, channels)
        maxima = flat.argmax(axis=1, keepdims=True)
        spread = np.zeros(flat.shape)
        of_maxima = gradients[:, None]
        np.put_along_axis(spread, maxima, of_maxima, axis=1)
        return spread.reshape(maps.shape)
    return gradients.reshape(maps.shape)
