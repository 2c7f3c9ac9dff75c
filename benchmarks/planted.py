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
    area = np.sort(
        np.concatenate([np.arange(n_areas), rng.integers(0, n_areas, n_tiles - n_areas)])
    )
    traits = rng.normal(size=(n_areas, N_TRAITS))
    Y = np.column_stack([_target(traits, rng) for _ in range(N_TARGETS)])
    return Planted(_embed(traits, area, n_features, rng), Y[area], area)


def _target(traits: NDArray[Any], rng: np.random.Generator) -> NDArray[np.float64]:
    mix = np.zeros(N_TRAITS)
    mix[:2], mix[rng.choice(np.arange(2, N_TRAITS), 3, replace=False)] = 1.0, rng.normal(size=3)
    linear = traits @ mix
    curved = (
        np.maximum(linear, 0)
        + 0.7 * traits[:, 0] * traits[:, rng.integers(2, N_TRAITS)]
        + 0.5 * linear
    )
    signal = (curved - curved.mean()) / curved.std()
    return 20 + 8 * (signal + 0.7 * rng.normal(size=len(traits)))


def _embed(
    traits: NDArray[Any], area: NDArray[Any], n_features: int, rng: np.random.Generator
) -> NDArray[np.float16]:
    load = rng.normal(size=(N_TRAITS, n_features)) * (rng.random((N_TRAITS, n_features)) < 0.3)
    shift = rng.normal(size=n_features)
    X = np.empty((len(area), n_features), np.float16)
    for start in range(0, len(area), 8192):
        rows = slice(start, start + 8192)
        seen = traits[area[rows]] + 0.8 * rng.normal(size=(len(area[rows]), N_TRAITS))
        X[rows] = np.maximum(seen @ load + shift + rng.normal(size=(len(seen), n_features)), 0)
    return X
