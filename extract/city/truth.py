"""Targets of the made city: a known function of the urban form of its areas, plus noise."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter

from extract.config.arrays import Floats, Ints

FORMS = ("coverage", "height", "towers", "trees", "width")
_SMOOTH_TILES = 5.0  # standard deviation of the filter that makes neighbouring areas alike


class Target(NamedTuple):
    """Distribution of a target, and how it depends on the urban form.

    Attributes
    ----------
    limit : value that the target never passes.
    share : share of the variance of z that the form explains.
    weights : weight of each of `FORMS` in the signal.
    """

    mean: float
    sd: float
    limit: float
    share: float
    weights: tuple[float, ...]


# Mean and standard deviation: Indices of Deprivation 2019, the 4,835 LSOAs of London.
TARGETS: dict[str, Target] = {
    "income": Target(
        mean=0.136,
        sd=0.0757,
        limit=0.004,
        share=0.68,
        weights=(0.3, 0.0, 0.7, -0.6, 0.0),
    ),
    "employment": Target(
        mean=0.087,
        sd=0.0468,
        limit=0.002,
        share=0.64,
        weights=(0.3, 0.0, 0.7, -0.6, 0.1),
    ),
    "education": Target(
        mean=13.07,
        sd=9.973,
        limit=0.010,
        share=0.60,
        weights=(-0.1, 0.0, 0.6, -0.6, -0.1),
    ),
    "health": Target(
        mean=-0.383,
        sd=0.705,
        limit=1.78,
        share=0.56,
        weights=(0.4, 0.1, 0.6, -0.5, 0.0),
    ),
    "crime": Target(
        mean=0.258,
        sd=0.571,
        limit=6.85,
        share=0.52,
        weights=(0.7, 0.1, 0.3, -0.4, 0.1),
    ),
    "barriers": Target(
        mean=31.62,
        sd=9.745,
        limit=0.500,
        share=0.48,
        weights=(0.2, 0.0, 0.6, -0.7, 0.0),
    ),
    "living_environment": Target(
        mean=29.21,
        sd=10.89,
        limit=5.000,
        share=0.80,
        weights=(0.9, 0.2, 0.0, 0.1, -0.2),
    ),
}


def draw_scores(ids: Ints, area: Ints, *, side: int, rng: np.random.Generator) -> Floats:
    """Draw the urban form of the areas: about two thirds shared with neighbours, the rest own.

    Parameters
    ----------
    ids : (n_tiles,), grid square of each tile, counted down the columns.
    area : (n_tiles,), area of each tile.
    side : rows and columns of the grid.

    Returns
    -------
    (n_areas, 5), standard scores, one column for each of `FORMS`.
    """
    white = rng.standard_normal((side, side, len(FORMS)))
    field = gaussian_filter(white, (_SMOOTH_TILES, _SMOOTH_TILES, 0.0))
    of_squares = field.reshape(side * side, len(FORMS))
    of_areas = pd.DataFrame(of_squares[ids]).groupby(area).mean()
    smooth = _standardise(of_areas.to_numpy())
    own = rng.standard_normal(smooth.shape)
    return _standardise(np.sqrt(0.65) * smooth + np.sqrt(0.35) * own)


def draw_labels(scores: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Draw the targets from the urban form.

    A target is limit ± (a ± b·z)² with z = √share·signal + √(1 − share)·noise; the signal is the
    weighted and standardised form. The square gives the skew of the real targets and keeps shares
    positive; a² + b² = |mean − limit| and 4a²b² + 2b⁴ = sd² give mean and standard deviation.

    Returns
    -------
    labels : (n_areas, 7), rounded to three decimals.
    expected : (n_areas, 7), mean of each target given the form.
    """
    mean, sd, limit, share = np.array([target[:4] for target in TARGETS.values()]).T
    weights = np.array([target.weights for target in TARGETS.values()])
    signal = _standardise(scores @ weights.T)
    known = np.sqrt(share) * signal
    noise = np.sqrt(1.0 - share) * _draw_noise(scores, rng)
    span = np.abs(mean - limit)
    sign = np.sign(mean - limit)
    b_squared = span - np.sqrt(span**2 - sd**2 / 2.0)
    a = np.sqrt(span - b_squared)
    b = sign * np.sqrt(b_squared)
    labels = limit + sign * (a + b * (known + noise)) ** 2
    mean_square = (a + b * known) ** 2 + b_squared * (1.0 - share)
    expected = limit + sign * mean_square
    return np.round(labels, 3), expected


def _draw_noise(scores: Floats, rng: np.random.Generator) -> Floats:
    """Draw noise (n_areas, 7); with enough areas it is exactly uncorrelated with the form."""
    n_areas = len(scores)
    noise = rng.standard_normal((n_areas, len(TARGETS)))
    if n_areas <= 2 * (len(FORMS) + len(TARGETS)):
        return noise
    form = np.column_stack([np.ones(n_areas), scores])
    basis, _ = np.linalg.qr(form)
    noise -= basis @ (basis.T @ noise)
    orthogonal, _ = np.linalg.qr(noise)
    return orthogonal * np.sqrt(n_areas)


def compute_ceiling(labels: Floats, expected: Floats, area: Ints) -> pd.DataFrame:
    """Compute the R² of the noise-free function: columns target, level (tile or area) and r2.

    At level `tile` an area counts once for each of its tiles, at level `area` once.
    """
    rows = []
    for k, name in enumerate(TARGETS):
        for level, pick in (("tile", area), ("area", np.arange(len(labels)))):
            truth = labels[pick, k]
            residual = truth - expected[pick, k]
            r2 = 1.0 - np.mean(residual**2) / np.var(truth)
            rows.append({"target": name, "level": level, "r2": round(float(r2), 4)})
    return pd.DataFrame(rows)


def _standardise(values: Floats) -> Floats:
    spread = values.std(axis=0)
    centred = values - values.mean(axis=0)
    standard: Floats = centred / np.where(spread > 0, spread, 1.0)
    return standard
