"""Class activation maps: what is known of a prediction's features, carried back to the places of the map they were pooled from.

Every heat here is in the unit of the target, and its mean over the places is what they do together: of a linear model exactly
the prediction less that of the reference.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.config.cuts import Pooling
from models.data.arrays import Floats
from models.explaining.feature_maps import Maps

Mean = NDArray[np.floating[Any]]


def map_linear(maps: Maps, weights: Floats, reference: Mean, pooling: Pooling) -> Floats:
    """Return the exact map of a linear prediction: mean over places = Σ weights · (pooled − reference).

    Zhou et al. 2016 (arXiv:1512.04150) for `avg`; `flat` and `map` features have one place each, and a `max` feature that
    of its maximum. No gradient and no approximation.

    Parameters
    ----------
    maps : (n, height, width, channels).
    weights : (n, n_features), change of the prediction by each pooled feature.
    reference : (n_features,), what a feature is compared with: that of the mean tile.

    Returns
    -------
    (n, height, width) [unit of the target].
    """
    n, height, width, channels = maps.shape
    if pooling == "avg":
        return np.einsum("nhwc,nc->nhw", maps - reference, weights, optimize=True)
    if pooling == "max":
        pooled = maps.max(axis=(1, 2))
        return _at_maxima(maps, weights * (pooled - reference))
    deviations = maps - reference.reshape(height, width, channels)
    return (
        height
        * width
        * np.einsum(
            "nhwc,nhwc->nhw", deviations, weights.reshape(n, height, width, channels), optimize=True
        )
    )


def map_gradients(maps: Maps, gradients: Floats, reference: Mean) -> Floats:
    """Return Grad-CAM with its sign: Σ over channels of the mean gradient times the channel's deviation from the reference.

    Selvaraju et al. 2017 (arXiv:1610.02391), two things apart. A number has no opposite class, so that what lowers it counts
    as well: no ReLU. And channels are compared with those of the mean tile, so that a linear prediction from averages has
    here its exact map, not one that is shifted as a whole.

    Parameters
    ----------
    maps : (n, height, width, channels). gradients : the same shape, of the prediction by each value of the map.
    reference : (channels,), mean of the channels over places and many tiles.

    Returns
    -------
    (n, height, width) [unit of the target], to first order.
    """
    weights = gradients.sum(axis=(1, 2), dtype=np.float64)  # mean over places, times their number
    return np.einsum("nhwc,nc->nhw", maps - reference, weights, optimize=True)


def spread_gradients(maps: Maps, gradients: Floats, pooling: Pooling) -> Floats:
    """Return the gradient by each value of the map from that by each pooled feature: (n, n_features) → the shape of the maps."""
    n, height, width, _ = maps.shape
    if pooling == "avg":
        return np.broadcast_to(gradients[:, None, None, :] / (height * width), maps.shape)
    if pooling == "max":
        flat = np.zeros((n, height * width, maps.shape[3]))
        np.put_along_axis(flat, _argmax(maps)[:, None], gradients[:, None], axis=1)
        return flat.reshape(maps.shape)
    return gradients.reshape(maps.shape)


def map_contributions(maps: Maps, contributions: Floats, pooling: Pooling) -> Floats:
    """Return each feature's own contribution to the places that made the feature; mean over places = Σ contributions.

    An average's contribution is shared among places by the size of the channel's values there, evenly where all are zero.

    Parameters
    ----------
    maps : (n, height, width, channels). contributions : (n, n_features) [unit of the target].
    """
    _, height, width, _ = maps.shape
    if pooling == "max":
        return _at_maxima(maps, contributions)
    if pooling != "avg":
        return height * width * contributions.reshape(maps.shape).sum(axis=3)
    size = np.abs(maps).astype(np.float64)
    total = size.sum(axis=(1, 2), keepdims=True)
    shares = np.where(total > 0, size / np.where(total > 0, total, 1), 1 / (height * width))
    return height * width * np.einsum("nhwc,nc->nhw", shares, contributions, optimize=True)


def _argmax(maps: Maps) -> NDArray[np.int64]:
    return maps.reshape(len(maps), -1, maps.shape[3]).argmax(axis=1)


def _at_maxima(maps: Maps, values: Floats) -> Floats:
    """Put each channel's value where the channel is largest, times the number of places."""
    n, height, width, channels = maps.shape
    heat = np.zeros((n, height * width))
    np.add.at(heat, (np.repeat(np.arange(n), channels), _argmax(maps).ravel()), values.ravel())
    return height * width * heat.reshape(n, height, width)
