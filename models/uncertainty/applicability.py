"""How far a new row lies from what a model was fitted on, and from where on it counts as
outside.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from extract.config.arrays import Float32s, Floats
from extract.errors import RunFileError
from models.data.features import Features
from models.families.pca import find_axes

FILE = "reach.npz"
_K = 16
_SHARE = 0.99


class Reach(NamedTuple):
    """The spread of the training rows, along their first principal axes and off them.

    The statistics are those of process control (Jackson and Mudholkar 1979, Technometrics 21:341):
    along the axes Hotelling's T², off them the squared length Q of what the axes do not hold; each
    over the value that 99 % of the training rows stay below.

    Attributes
    ----------
    mean : (d,). axes : (d, k). variance : (k,), of the training rows along each axis. limits :
        (2,), of T² and of Q.
    """

    mean: Float32s
    axes: Float32s
    variance: Floats
    limits: Floats

    def measure(self, X: Features) -> Floats:
        """Return the distance of each row, (n_rows,): 1 is the edge of what was seen, more is
        outside.
        """
        over = _statistics(X, self) / self.limits
        return np.sqrt(over.max(axis=1))

    def save(self, folder: Path) -> None:
        """Write it as plain arrays."""
        np.savez(folder / FILE, allow_pickle=False, **self._asdict())


def measure_reach(X: Features, *, seed: int = 0) -> Reach | None:
    """Measure the training rows; None where nothing is fed that could vary (one row, no column).

    Parameters
    ----------
    X : (n_rows, n_features); what stands beside, group columns, is left out.
    """
    core = X.core()
    k = min(_K, len(core) - 1, core.shape[1])
    if k < 1:
        return None
    mean, axes = find_axes(core, k, seed)
    start = Reach(mean, axes, np.ones(k), np.ones(2))
    variance = _spread(core, start)
    largest = max(float(variance.max()), 1e-30)
    is_used = variance > 1e-10 * largest
    if not is_used.any():
        return None
    start = start._replace(axes=axes[:, is_used], variance=variance[is_used])
    statistics = _statistics(core, start)
    limits = np.quantile(statistics, _SHARE, axis=0)
    total = float(variance.sum())
    least = [1e-9, 1e-6 * total]
    limits = np.where(limits > least, limits, np.inf)
    return start._replace(limits=limits)


def read_reach(folder: Path) -> Reach | None:
    """Read what `save` wrote into a model's folder; None where the model has none."""
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return Reach(*map(arrays.__getitem__, Reach._fields))
    except (ValueError, KeyError, TypeError) as error:
        raise RunFileError(
            f"{path}: not what `make models` wrote ({error}). Do not trust this folder."
        ) from None


def _spread(X: Features, reach: Reach) -> Floats:
    total = np.zeros(reach.axes.shape[1])
    for _, chunk in X.chunks():
        centred = chunk - reach.mean
        along = (centred @ reach.axes).astype(np.float64)
        squared = along**2
        total += squared.sum(axis=0)
    return total / len(X)


def _statistics(X: Features, reach: Reach) -> Floats:
    """T² a degree of freedom, and Q, of each row: (n_rows, 2)."""
    out = np.empty((len(X), 2))
    for rows, chunk in X.core().chunks():
        centred = (chunk - reach.mean).astype(np.float64)
        along = centred @ reach.axes
        squared = along**2
        standard = squared / reach.variance
        length = (centred**2).sum(axis=1)
        beside = length - squared.sum(axis=1)
        out[rows, 0] = standard.mean(axis=1)
        out[rows, 1] = np.maximum(beside, 0)
    return out
