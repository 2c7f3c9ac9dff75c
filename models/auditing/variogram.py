"""The range of autocorrelation of a target: from how far apart areas tell nothing of each other.

The empirical variogram of area means (Matheron 1963, Economic Geology 58:1246) in bins of distance,
and a spherical model fitted by least squares, each bin weighed by its pairs over its squared
distance, as gstat does by default. blockCV's `cv_spatial_autocor` proposes blocks of that side
(Valavi et al. 2019, Methods in Ecology and Evolution 10:225, doi:10.1111/2041-210X.13107).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from extract.config.arrays import Floats, Ints

MIN_AREAS = 30
_MOST_AREAS = 2_000  # of which pairs are made
_N_BINS = 15
_LEAST_BINS = 4  # for three parameters
_SHARE = 1 / 3  # of the diagonal of the map: farther pairs are left out, as gstat does


class Variogram(NamedTuple):
    """A fitted spherical variogram.

    Attributes
    ----------
    distance, gamma : (n_bins,), mean distance of the pairs of a bin [m], and half the mean squared
        difference.
    nugget, sill : at distance 0, and beyond the range. range_m : [m].
    """

    distance: Floats
    gamma: Floats
    nugget: float
    sill: float
    range_m: float

    @property
    def is_clear(self) -> bool:
        """Whether the range can be told: it lies between the second and the last bin, and a quarter
        of the sill at least is not nugget.
        """
        is_within = self.distance[1] < self.range_m < self.distance[-1]
        rise = self.sill - self.nugget
        return bool(is_within and rise > 0.25 * self.sill)


def spherical(distance: Floats, nugget: float, rise: float, range_m: float) -> Floats:
    """Return the spherical model: nugget + rise (1.5 h − 0.5 h³), h = distance / range up to 1."""
    h = np.minimum(distance / range_m, 1)
    gamma: Floats = nugget + rise * (1.5 * h - 0.5 * h**3)
    return gamma


def fit_variogram(xy: Floats, values: Floats, *, seed: int = 0) -> Variogram | None:
    """Fit the variogram of area means.

    Parameters
    ----------
    xy : (n_areas, 2), centroids [m]. values : (n_areas,), NaN where missing.

    Returns
    -------
    None for fewer than 30 areas, equal values or places, or where nothing could be fitted.
    """
    from scipy.optimize import curve_fit  # slow to load

    is_known = np.isfinite(values)
    xy = xy[is_known]
    values = values[is_known]
    if len(values) > _MOST_AREAS:
        rng = np.random.default_rng(seed)
        some = rng.choice(len(values), _MOST_AREAS, replace=False)
        xy = xy[some]
        values = values[some]
    if len(values) < MIN_AREAS or not np.ptp(values) > 0:
        return None
    width, height = np.ptp(xy, axis=0)
    diagonal = float(np.hypot(width, height))
    cutoff = _SHARE * diagonal
    bins = _bin_pairs(xy, values, cutoff)
    if len(bins.n_pairs) < _LEAST_BINS:
        return None
    variance = float(values.var())
    least = [0, 0, bins.distance[0] / 2]
    most = [np.inf, np.inf, 3 * cutoff]
    try:
        (nugget, rise, range_m), _ = curve_fit(
            spherical,
            bins.distance,
            bins.gamma,
            p0=(0.3 * variance, 0.7 * variance, cutoff / 3),
            sigma=bins.distance / np.sqrt(bins.n_pairs),
            bounds=(least, most),
        )
    except RuntimeError:  # no convergence
        return None
    return Variogram(
        distance=bins.distance,
        gamma=bins.gamma,
        nugget=float(nugget),
        sill=float(nugget + rise),
        range_m=float(range_m),
    )


class _Bins(NamedTuple):
    """Pairs of areas by distance: each (n_bins,), without empty bins."""

    distance: Floats
    gamma: Floats
    n_pairs: Ints


def _bin_pairs(xy: Floats, values: Floats, cutoff: float) -> _Bins:
    from scipy.spatial.distance import pdist  # slow to load

    apart = pdist(xy)
    halved = pdist(values[:, None], "sqeuclidean") / 2
    is_near = (apart > 0) & (apart <= cutoff)
    apart = apart[is_near]
    place = np.floor(apart / max(cutoff, 1e-9) * _N_BINS)
    number = np.minimum(place, _N_BINS - 1).astype(np.int64)
    n_pairs = np.bincount(number, minlength=_N_BINS)
    is_filled = n_pairs > 0
    distances = np.bincount(number, weights=apart, minlength=_N_BINS)
    squares = np.bincount(number, weights=halved[is_near], minlength=_N_BINS)
    n_pairs = n_pairs[is_filled]
    return _Bins(
        distance=distances[is_filled] / n_pairs,
        gamma=squares[is_filled] / n_pairs,
        n_pairs=n_pairs,
    )
