"""Made embeddings with a planted truth: areas of a few tiles, seven targets that hang together, one
label an area.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

N_TRAITS, N_TARGETS = 12, 7


class Planted(NamedTuple):
    """X : (n, d) float16, ≥ 0 as after a ReLU and average pooling. Y : (n, 7), equal within an
    area. area : (n,).
    """

    X: NDArray[np.float16]
    Y: NDArray[np.float64]
    area: NDArray[np.int64]


def plant(n_tiles: int, n_features: int, *, seed: int = 0, tiles_per_area: float = 5.0) -> Planted:
    """Draw areas with traits; a tile shows its area's traits blurred, and the targets are curved
    mixtures of them.

    The first two traits go into every target, so that the targets are correlated; about half of
    each target's variance is noise of the area, which no picture shows.
    """
    rng = np.random.default_rng(seed)
    n_areas = max(2, round(n_tiles / tiles_per_area))
    further = rng.integers(0, n_areas, n_tiles - n_areas)
    area = np.concatenate([np.arange(n_areas), further])
    area.sort()
    traits = rng.normal(size=(n_areas, N_TRAITS))
    targets = [_target(traits, rng) for _ in range(N_TARGETS)]
    Y = np.column_stack(targets)[area]
    X = _embed(traits[area], n_features, rng)
    return Planted(X, Y, area)


def _target(traits: NDArray[Any], rng: np.random.Generator) -> NDArray[np.float64]:
    """Return a curved mixture of some traits, half of it noise: (n_areas,)."""
    mix = np.zeros(N_TRAITS)
    mix[:2] = 1.0
    own_weights = rng.normal(size=3)
    own = rng.choice(np.arange(2, N_TRAITS), 3, replace=False)
    mix[own] = own_weights
    linear = traits @ mix
    other = rng.integers(2, N_TRAITS)
    product = 0.7 * traits[:, 0] * traits[:, other]
    curved = np.maximum(linear, 0) + product + 0.5 * linear
    signal = (curved - curved.mean()) / curved.std()
    noise = 0.7 * rng.normal(size=len(traits))
    return 20 + 8 * (signal + noise)


def _embed(traits: NDArray[Any], n_features: int, rng: np.random.Generator) -> NDArray[np.float16]:
    """Return what pictures of tiles show of their areas' traits: (n_tiles, n_features)."""
    load = rng.normal(size=(N_TRAITS, n_features))
    load *= rng.random(load.shape) < 0.3
    shift = rng.normal(size=n_features)
    X = np.empty((len(traits), n_features), np.float16)
    for start in range(0, len(traits), 8192):
        rows = slice(start, start + 8192)
        seen = traits[rows] + 0.8 * rng.normal(size=traits[rows].shape)
        active = seen @ load
        active += shift
        active += rng.normal(size=active.shape)
        X[rows] = np.maximum(active, 0)
    return X
