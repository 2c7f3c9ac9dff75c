"""One function for all models: where on a tile its prediction comes from, by the method that the model allows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from extract.config.cuts import Pooling
from extract.errors import ExplainError
from models.data.arrays import Floats, Ints
from models.data.features import Features
from models.explaining.feature_maps import Maps
from models.explaining.methods.class_activation import (
    map_contributions,
    map_gradients,
    map_linear,
    spread_gradients,
)
from models.explaining.methods.gradients import read_gradients, run_batches, shuffled, split_network
from models.explaining.methods.occlusion import occlude
from models.explaining.model_rows import Feed, expand, inner_rows
from models.families.family import Family
from models.families.linear.ridge import SharedRidge
from models.families.pca import Reduced
from models.families.trees.boosting import Boosting

Method = Literal["exact", "contributions", "gradients", "occlusion"]
METHODS: tuple[Method, ...] = get_args(Method)
WORDS: dict[Method, str] = {
    "exact": "exact: the model is linear, and the tile's prediction is that of the mean tile plus the mean of the map",
    "contributions": "XGBoost's own contribution of each channel, shared among the places where the channel is active",
    "gradients": "Grad-CAM with its sign: each channel's deviation from the mean tile, times the prediction's gradient by it",
    "occlusion": "occlusion: how far the prediction falls where a place is made to look like the mean tile's",
}


def describe_method(method: Method, *, area: bool, groups: bool) -> str:
    """Describe what the map means of a model whose rows are areas, or that sees the area descriptors too: it shows a part alone."""
    if not area and not groups:
        return WORDS[method]
    beside = " and ".join(["the area's other tiles"] * area + ["the area descriptors"] * groups)
    words = (
        "exact for this tile's linear share, its part in the spread to first order"
        if method == "exact"
        else WORDS[method]
    )
    return f"{words}; {beside} add to the prediction too, and are not in the map"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A fitted model and the tiles that it is asked about.

    Attributes
    ----------
    model : fitted. pooling : of the cut. feed : how the tiles are fed to the model.
    columns : (n,), which of the model's outputs is explained for each tile.
    reference : (d,), pooled features of the mean tile. sample : maps (m, h, w, c) of some tiles, where rows are maps.
    model_of : the model to ask about tile i instead; where a model knows the answers of the tiles that it was fitted on.
    """

    model: Family
    pooling: Pooling
    feed: Feed
    columns: Ints
    reference: NDArray[np.float32]
    sample: Maps | None = None
    model_of: Callable[[int], Family] | None = None

    def take(self, which: Ints) -> Subject:
        """Return the subject with some of its tiles."""
        of = self.model_of
        chosen = which.tolist()
        model_of = None if of is None else lambda i: of(chosen[i])
        return replace(
            self, feed=self.feed.take(which), columns=self.columns[which], model_of=model_of
        )

    def asked(self, i: int) -> Family:
        """Return the model to ask about tile i."""
        return self.model if self.model_of is None else self.model_of(i)


def list_methods(model: Family) -> list[Method]:
    """Return the methods that a fitted model allows, the best one first."""
    inner = model.fitted_ if isinstance(model, Reduced) else model
    found: list[Method] = ["exact"] if isinstance(inner, SharedRidge) else []
    found += ["contributions"] if isinstance(model, Boosting) else []
    found += ["gradients"] if hasattr(inner, "network") else []
    return [*found, "occlusion"]


def choose_method(model: Family, asked: str) -> Method:
    """Return the best method, or the one that is asked for.

    Raises
    ------
    ExplainError : the model does not allow it.
    """
    allowed = list_methods(model)
    if asked == "auto":
        return allowed[0]
    for method in allowed:
        if method == asked:
            return method
    raise ExplainError(
        f"method {asked!r}: this model allows {', '.join(allowed)}, or 'auto' for the first of them."
    )


def explain(subject: Subject, maps: Maps, method: Method, *, shuffle: int | None = None) -> Floats:
    """Return how far each place of each tile raises (> 0) or lowers (< 0) the prediction.

    Parameters
    ----------
    maps : (n, height, width, channels), of the subject's tiles, in order.
    shuffle : a seed, by which what was learnt changes places: the weights of a head, or which feature a model takes for
        which. Its maps are those that a sanity check compares with (Adebayo et al. 2018, arXiv:1810.03292).

    Returns
    -------
    (n, height, width) float64 [unit of the target]; see `WORDS` for what each method means by it.
    """
    how = {
        "exact": _exact,
        "contributions": _contributions,
        "gradients": _gradients,
        "occlusion": _occlusion,
    }
    return how[method](subject, maps, shuffle)


def predict_subject(subject: Subject) -> Floats:
    """Return what the model says of each tile (or of its area): (n,)."""
    X = subject.feed.whole()
    said = [
        subject.asked(i).predict(X.rows(np.array([i])))[0, column]
        for i, column in enumerate(subject.columns)
    ]
    return np.array(said)


def _exact(subject: Subject, maps: Maps, shuffle: int | None) -> Floats:
    inner, _, axes = inner_rows(subject.model, subject.feed.whole())
    coef: Any = inner.coef_  # type: ignore[attr-defined]
    weights = expand(coef.T, axes)[subject.columns]
    weights = subject.feed.pull_linear(weights)
    return map_linear(
        maps, weights[:, _order(weights.shape[1], shuffle)], subject.reference, subject.pooling
    )


def _contributions(subject: Subject, maps: Maps, shuffle: int | None) -> Floats:
    X = subject.feed.whole().array()
    order = np.concatenate(
        [_order(subject.feed.n_core, shuffle), np.arange(subject.feed.n_core, X.shape[1])]
    )
    model: Any = subject.model
    given = np.zeros(X.shape)
    given[:, order] = model.contributions(Features(X[:, order]))[
        np.arange(len(X)), subject.columns, :-1
    ]
    return map_contributions(maps, given[:, : subject.feed.own.shape[1]], subject.pooling)


def _gradients(subject: Subject, maps: Maps, shuffle: int | None) -> Floats:
    inner, rows, axes = inner_rows(subject.model, subject.feed.whole())
    heat: list[tuple[Ints, Floats]] = []
    for column in np.unique(subject.columns):
        mine = np.flatnonzero(subject.columns == column)
        network: Any = inner.network(int(column))  # type: ignore[attr-defined]
        with nullcontext() if shuffle is None else shuffled(network, shuffle):
            if subject.feed.grid is not None and len(network.inputs[0].shape) == 4:
                heat.append((mine, _through_maps(network, maps[mine], subject)))
                continue
            found = subject.feed.pull_gradients(expand(read_gradients(network, rows[mine]), axes))
            by_place = spread_gradients(maps[mine], found, subject.pooling)
        heat.append((mine, map_gradients(maps[mine], by_place, _channels(subject, maps.shape[3]))))
    out = np.empty((len(maps), *heat[0][1].shape[1:]))
    for mine, values in heat:
        out[mine] = values
    return out


def _through_maps(network: Any, maps: Maps, subject: Subject) -> Floats:
    """Grad-CAM at the last map inside a network that is fed with maps."""
    below, above = split_network(network)
    last, sample = (
        run_batches(below, inputs)
        for inputs in (maps, maps if subject.sample is None else subject.sample)
    )
    return map_gradients(
        last, read_gradients(above, last), sample.mean(axis=(0, 1, 2), dtype=np.float64)
    )


def _occlusion(subject: Subject, maps: Maps, shuffle: int | None) -> Floats:
    def predict(i: int, pooled: NDArray[np.float32]) -> Floats:
        X = subject.feed.features(i, pooled)
        order = _order(X.n_core, shuffle)
        X = Features(
            X.core().array()[:, order],
            beside=X.beside() if X.shape[1] > X.n_core else None,
            grid=X.grid,
        )
        return subject.asked(i).predict(X)[:, subject.columns[i]]

    shape = maps.shape[1:]
    look = (
        subject.reference if subject.pooling in ("avg", "max") else subject.reference.reshape(shape)
    )
    return occlude(predict, maps, look, subject.pooling)


def _channels(subject: Subject, n_channels: int) -> NDArray[np.floating[Any]]:
    """Mean of each channel of the mean tile."""
    return subject.reference.reshape(-1, n_channels).mean(axis=0, dtype=np.float64)


def _order(n: int, shuffle: int | None) -> Ints:
    return np.arange(n) if shuffle is None else np.random.default_rng(shuffle).permutation(n)


def rank_correlation(a: Floats, b: Floats) -> float:
    """Return Spearman's correlation between two sets of maps, the mean over tiles; NaN where none varies.

    Parameters
    ----------
    a, b : (n, height, width).
    """
    found = list(_correlations(a, b))
    return float(np.mean(found)) if found else float("nan")


def _correlations(a: Floats, b: Floats) -> Iterator[float]:
    for x, y in zip(a, b, strict=True):
        ranks = [rankdata(v) - (v.size + 1) / 2 for v in (x, y)]
        norm = float(np.sqrt((ranks[0] ** 2).sum() * (ranks[1] ** 2).sum()))
        if norm > 0:
            yield float(ranks[0] @ ranks[1]) / norm
