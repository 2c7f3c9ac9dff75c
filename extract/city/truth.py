"""The made city's targets: a known function of the form of its areas, plus noise, so that the best reachable R² is known."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from extract.city.drawing import FORMS

# Mean, standard deviation and a limit that no value passes, from the Indices of Deprivation 2019 of London's
# 4,835 LSOAs; then the share of the variance that the form explains, and its weights (in the order of FORMS).
TARGETS: dict[str, tuple[float, float, float, float, tuple[float, ...]]] = {
    #                    mean     sd     limit  share    cov  height tower  terr  yards  trees width bend
    "income": (0.136, 0.0757, 0.004, 0.68, (0.2, 0.0, 0.7, 0.1, -0.2, -0.6, 0.0, 0.0)),
    "employment": (0.087, 0.0468, 0.002, 0.64, (0.2, 0.0, 0.7, 0.1, -0.1, -0.6, 0.1, 0.0)),
    "education": (13.07, 9.973, 0.010, 0.60, (-0.2, 0.0, 0.6, 0.1, -0.1, -0.6, 0.0, -0.1)),
    "health": (-0.383, 0.705, 1.78, 0.56, (0.3, 0.1, 0.6, 0.0, -0.2, -0.5, 0.0, 0.0)),
    "crime": (0.258, 0.571, 6.85, 0.52, (0.6, 0.1, 0.3, 0.1, 0.0, -0.4, 0.1, 0.0)),
    "barriers": (31.62, 9.745, 0.500, 0.48, (0.2, 0.0, 0.6, -0.1, 0.0, -0.7, 0.0, 0.0)),
    "living_environment": (29.21, 10.89, 5.000, 0.80, (0.7, 0.2, 0.0, 0.2, -0.5, 0.1, -0.1, 0.0)),
}
# Correlations of the seven in the same LSOAs, in the order of TARGETS.
CORRELATION = np.array(
    [
        [1.00, 0.95, 0.71, 0.78, 0.50, 0.56, 0.10],
        [0.95, 1.00, 0.69, 0.77, 0.47, 0.48, 0.05],
        [0.71, 0.69, 1.00, 0.56, 0.33, 0.46, -0.11],
        [0.78, 0.77, 0.56, 1.00, 0.49, 0.45, 0.18],
        [0.50, 0.47, 0.33, 0.49, 1.00, 0.31, 0.36],
        [0.56, 0.48, 0.46, 0.45, 0.31, 1.00, 0.11],
        [0.10, 0.05, -0.11, 0.18, 0.36, 0.11, 1.00],
    ]
)

Floats = NDArray[np.float64]


def draw_scores(centres: Floats, rng: np.random.Generator) -> Floats:
    """Draw the form of the areas: (n_areas, 8), the greater part smooth over some km, the rest their own."""
    n_areas = len(centres)
    n_forms = len(FORMS)
    n_waves = 12
    length = rng.uniform(18.0, 45.0, (n_waves, n_forms))  # in tiles
    turn, phase = rng.uniform(0.0, 2 * np.pi, (2, n_waves, n_forms))
    south, east = centres.T[..., None, None]
    waves = np.cos(2 * np.pi / length * (south * np.cos(turn) + east * np.sin(turn)) + phase)
    smooth = _standardise(waves.sum(axis=1))
    own = np.sqrt(0.65) * smooth + np.sqrt(0.35) * rng.standard_normal((n_areas, n_forms))
    coverage, height, towers, terraces, yards, trees, width, bend = own.T
    mixed = [
        coverage,
        0.7 * height + 0.4 * coverage + 0.5 * towers,
        towers,
        0.8 * terraces + 0.4 * coverage,
        0.7 * yards - 0.6 * coverage,
        0.8 * trees - 0.5 * towers - 0.2 * coverage + 0.2 * yards,
        0.8 * width + 0.5 * towers,
        bend - 0.3 * terraces,
    ]
    return _standardise(np.column_stack(mixed))


def draw_labels(scores: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Draw the targets from the form: labels and their noise-free function, both (n_areas, 7).

    A target is limit ± (a ± b·z)² with z = √share·signal + √(1 − share)·noise, the signal being the weighted
    and standardised form. The square gives the skew of the real targets, and keeps shares positive. The
    noise is such that the z correlate as the real targets do, and does not follow the form by chance.
    """
    mean, sd, limit, share = np.array([spec[:4] for spec in TARGETS.values()]).T
    signal = _standardise(scores @ np.array([spec[4] for spec in TARGETS.values()]).T)
    known = np.sqrt(share) * signal
    z = known + np.sqrt(1.0 - share) * _draw_noise(scores, signal, share, rng)
    span = np.abs(mean - limit)
    sign = np.sign(mean - limit)
    b2 = span - np.sqrt(span**2 - sd**2 / 2.0)  # so that a² + b² = span, 4a²b² + 2b⁴ = sd²
    a = np.sqrt(span - b2)
    b = sign * np.sqrt(b2)
    labels = limit + sign * (a + b * z) ** 2
    expected = limit + sign * ((a + b * known) ** 2 + b2 * (1.0 - share))
    return np.round(labels, 3), expected


def _draw_noise(scores: Floats, signal: Floats, share: Floats, rng: np.random.Generator) -> Floats:
    """Draw area noise (n_areas, 7) that brings the correlation of the targets to the real one."""
    n_areas, n_targets = signal.shape
    white = rng.standard_normal((n_areas, n_targets))
    if n_areas > 2 * (scores.shape[1] + n_targets):
        form = np.column_stack([np.ones(n_areas), scores])
        white -= form @ np.linalg.lstsq(form, white, rcond=None)[0]
        white = np.linalg.qr(white)[0] * np.sqrt(n_areas)
    wanted = CORRELATION - np.sqrt(np.outer(share, share)) * (signal.T @ signal / n_areas)
    values, vectors = np.linalg.eigh(wanted / np.sqrt(np.outer(1.0 - share, 1.0 - share)))
    root = vectors * np.sqrt(np.clip(values, 0.02, None))
    noise: Floats = white @ (root / np.linalg.norm(root, axis=1, keepdims=True)).T
    return noise


def _standardise(values: Floats) -> Floats:
    spread = values.std(axis=0)
    standard: Floats = (values - values.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    return standard
