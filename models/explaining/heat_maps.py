"""Where on a tile a model's prediction comes from, by the best method that the model allows."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, Literal

import numpy as np
from scipy.stats import rankdata

from extract.config.arrays import Floats, Ints
from extract.errors import ExplainError
from models.explaining.explained_model import ExplainedModel
from models.explaining.methods.class_activation import map_gradients, map_linear, spread_gradients
from models.explaining.methods.gradients import read_gradients, run_network, shuffled, split_network
from models.explaining.methods.occlusion import occlude
from models.explaining.tile_maps import Maps
from models.families.family import Family
from models.families.linear.ridge import SharedRidge

Method = Literal["exact", "gradients", "occlusion"]
WORDS: dict[Method, str] = {
    "exact": "exact: the model is linear, and the tile's prediction is that of the mean tile plus "
    "the mean of the map",
    "gradients": "Grad-CAM with its sign: each channel's deviation from the mean tile, times the "
    "prediction's gradient by it",
    "occlusion": "occlusion: how far the prediction falls where a place is made to look like the "
    "mean tile's",
}


def describe_method(method: Method, *, is_area: bool, has_groups: bool) -> str:
    """Describe what the map means; of areas, or beside area descriptors, it shows a part."""
    others = []
    if is_area:
        others.append("the area's other tiles")
    if has_groups:
        others.append("the area descriptors")
    if not others:
        return WORDS[method]
    words = WORDS[method]
    if method == "exact":
        words = "exact for this tile's linear share, its part in the spread to first order"
    subject = " and ".join(others)
    subject = subject[0].upper() + subject[1:]
    return f"{words}. {subject} add to the prediction too, and are not in the map"


def list_methods(model: Family) -> list[Method]:
    """Return the methods that a fitted model allows, the best one first."""
    allowed: list[Method] = ["occlusion"]
    if isinstance(model, SharedRidge):
        allowed.insert(0, "exact")
    if hasattr(model, "network"):
        allowed.insert(0, "gradients")
    return allowed


def choose_method(model: Family, asked: str) -> Method:
    """Return the best method for `auto`, or the one that is asked for.

    Raises
    ------
    ExplainError : the model does not allow it.
    """
    allowed = list_methods(model)
    for method in allowed:
        if asked in ("auto", method):
            return method
    raise ExplainError(
        f"method {asked!r}: this model allows {', '.join(allowed)}, or 'auto' for the first of "
        "them."
    )


def explain(
    explained: ExplainedModel, maps: Maps, method: Method, *, shuffle: int | None = None
) -> Floats:
    """Return how far each place of each tile raises (> 0) or lowers (< 0) the prediction.

    Parameters
    ----------
    maps : (n, height, width, channels), of the explained tiles, in order.
    shuffle : a seed, by which what was learnt is permuted: the weights of a network, or which
        feature a model takes for which. A sanity check compares with these maps (Adebayo et al.
        2018, arXiv:1810.03292).

    Returns
    -------
    (n, height, width) float64 [unit of the target]; see `WORDS` for what each method means by it.
    """
    by_method = {
        "exact": _explain_exactly,
        "gradients": _explain_by_gradients,
        "occlusion": _explain_by_occlusion,
    }
    return by_method[method](explained, maps, shuffle)


def _explain_exactly(explained: ExplainedModel, maps: Maps, shuffle: int | None) -> Floats:
    ridge: Any = explained.model
    coef = ridge.coef_.T[explained.columns]
    weights = explained.weights_of_pooled(coef)
    order = _permute(weights.shape[1], shuffle)
    return map_linear(maps, weights[:, order], explained.reference, explained.pooling)


def _explain_by_gradients(explained: ExplainedModel, maps: Maps, shuffle: int | None) -> Floats:
    heat: dict[int, Floats] = {}
    family: Any = explained.model
    columns = np.unique(explained.columns)
    for column in columns.tolist():
        is_mine = explained.columns == column
        mine = np.flatnonzero(is_mine)
        network = family.network(column)
        with nullcontext() if shuffle is None else shuffled(network, shuffle):
            values = _differentiate(network, explained.take(mine), maps[mine])
        heat |= dict(zip(mine.tolist(), values, strict=True))
    return np.stack([heat[i] for i in range(len(maps))])


def _differentiate(network: Any, explained: ExplainedModel, maps: Maps) -> Floats:
    """Return Grad-CAM at the maps, or at the last map inside a network that is fed with maps."""
    if explained.grid is not None and len(network.inputs[0].shape) == 4:
        below, above = split_network(network)
        last = run_network(below, maps)
        mean_tile = explained.reference.reshape(1, *maps.shape[1:])
        last_of_mean = run_network(below, mean_tile)
        channels = last_of_mean.mean(axis=(0, 1, 2), dtype=np.float64)
        gradients = read_gradients(above, last)
        return map_gradients(last, gradients, channels)
    gradients = read_gradients(network, explained.rows)
    by_pooled = explained.gradients_of_pooled(gradients)
    by_place = spread_gradients(maps, by_pooled, explained.pooling)
    n_channels = maps.shape[3]
    reference = explained.reference.reshape(-1, n_channels)
    channels = reference.mean(axis=0, dtype=np.float64)
    return map_gradients(maps, by_place, channels)


def _explain_by_occlusion(explained: ExplainedModel, maps: Maps, shuffle: int | None) -> Floats:
    order = _permute(explained.n_core, shuffle)
    reference = explained.reference
    if explained.pooling not in ("avg", "max"):
        reference = reference.reshape(maps.shape[1:])
    return occlude(
        lambda i, pooled: explained.predict_pooled(i, pooled, order),
        maps,
        reference,
        explained.pooling,
    )


def _permute(n: int, seed: int | None) -> Ints:
    if seed is None:
        return np.arange(n)
    rng = np.random.default_rng(seed)
    return rng.permutation(n)


def rank_correlation(a: Floats, b: Floats) -> float:
    """Return Spearman's correlation of two sets of maps, the mean over tiles that vary in both.

    NaN where none varies.

    Parameters
    ----------
    a, b : (n, height, width).
    """
    x = _centred_ranks(a)
    y = _centred_ranks(b)
    norms = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    varies = norms > 0
    if not varies.any():
        return float("nan")
    products = (x * y).sum(axis=1)
    correlations = products[varies] / norms[varies]
    return float(correlations.mean())


def _centred_ranks(maps: Floats) -> Floats:
    """Return the ranks of the places of each map, less their mean: (n, height · width)."""
    flat = maps.reshape(len(maps), -1)
    ranks: Floats = rankdata(flat, axis=1)
    return ranks - ranks.mean(axis=1, keepdims=True)


def measure_border(heat: Floats) -> float | None:
    """Return the mean size of the heat along the border over that inside; None where it is 0.

    Tiles are cut anywhere, so that what lies along their borders is like what lies inside. Where
    there is more heat, it is of the zeros that networks pad with (Alsallakh et al. 2021,
    arXiv:2010.02178).

    Parameters
    ----------
    heat : (n, height, width).
    """
    size = np.abs(heat)
    is_inside = np.zeros(heat.shape[1:], bool)
    is_inside[1:-1, 1:-1] = True
    if not is_inside.any() or not size[:, is_inside].any():
        return None
    return float(size[:, ~is_inside].mean() / size[:, is_inside].mean())
