"""Area of applicability: how unlike the training rows a new row is, and from where on a model's
errors say nothing about it.

Meyer and Pebesma 2021, Methods in Ecology and Evolution 12:1620, doi:10.1111/2041-210X.13650, as
the R package CAST computes it. Columns count by what they move the prediction of a linear model;
where the model does not say, they are standardised and count alike. The dissimilarity of a row is
the distance to the nearest training row, over the mean distance between training rows. A row is
outside where it is more unlike than the training rows are, of which each is held against those of
the other folds: beyond their upper quartile by 1.5 times the range between the quartiles. Its point
density is the number of training rows that lie within that limit of it (Schumacher, Knoth, Ludwig
and Meyer 2025, Geoscientific Model Development 18:10185).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from extract.config.arrays import Float32s, Floats, Ints
from extract.errors import RunFileError
from models.data.features import Features

FILE = "applicability.npz"
_MOST_ROWS = 5_000  # training rows that are kept
_MOST_COLUMNS = 256  # wider rows are projected, which keeps distances within a few per cent
_PROJECTED = 128
_WHISKER = 1.5


class Dissimilarity(NamedTuple):
    """How unlike the training rows some rows are.

    Attributes
    ----------
    value : (n,), distance to the nearest training row in mean distances between training rows.
    density : (n,), number of training rows within the limit.
    """

    value: Floats
    density: Floats


@dataclass(frozen=True, eq=False, kw_only=True)
class Applicability:
    """The training rows of a model, as distances to them are measured.

    Attributes
    ----------
    mean, scale : (d,), what is taken off a column, and what it is multiplied by then.
    projection : (d, k) of a random projection; (d, 0) where distances are those of the columns.
    points : (n_points, k or d), training rows, at most 5,000 at even distances.
    mean_distance : between two points.
    limit : dissimilarity from which on a row is outside.
    rows_a_point : training rows for each point.
    """

    mean: Float32s
    scale: Float32s
    projection: Float32s
    points: Float32s
    mean_distance: float
    limit: float
    rows_a_point: float

    def place(self, X: Features) -> Float32s:
        """Return the points of some rows: (n_rows, k or d)."""
        return _place(X, self.mean, self.scale, self.projection)

    def measure(self, X: Features) -> Dissimilarity:
        """Measure how unlike the training rows some rows are."""
        nearest, n_near = _find_nearest(self.place(X), self.points, self.limit * self.mean_distance)
        return Dissimilarity(nearest / self.mean_distance, n_near * self.rows_a_point)

    def save(self, folder: Path) -> None:
        """Write it as plain arrays."""
        np.savez(folder / FILE, allow_pickle=False, **asdict(self))


def measure_applicability(
    X: Features, fold: Ints, *, slopes: Floats | None = None, seed: int = 0
) -> Applicability | None:
    """Measure the training rows; None where no column varies or no two folds have rows.

    Parameters
    ----------
    X : (n_rows, n_features); what stands beside, group columns, is left out.
    fold : (n_rows,), fold of each row; rows in none, below 0, are points that are not held against
        the others.
    slopes : (n_features,), how much a unit of each column moves the prediction; None where that is
        not known, and standardised columns then count alike.
    seed : of the random projection of wide rows.
    """
    core = X.core()
    n_columns = core.shape[1]
    chosen = np.linspace(0, len(core) - 1, min(len(core), _MOST_ROWS)).astype(np.int64)
    mean, sd = _measure_spread(core)
    varies = sd > 1e-6 * max(float(sd.max(initial=0.0)), 1e-30)
    scale = np.zeros(n_columns, np.float32)
    scale[varies] = 1 / sd[varies] if slopes is None else np.abs(slopes[:n_columns][varies])
    if not scale.any() or len(np.unique(fold[chosen][fold[chosen] >= 0])) < 2:
        return None
    projection = _draw_projection(n_columns, seed)
    points = _place(core.rows(chosen), mean, scale, projection)
    mean_distance = _find_mean_distance(points)
    if not mean_distance > 0:
        return None
    training = _hold_out(points, fold[chosen]) / mean_distance
    return Applicability(
        mean=mean,
        scale=scale,
        projection=projection,
        points=points,
        mean_distance=mean_distance,
        limit=_find_limit(training),
        rows_a_point=len(core) / len(chosen),
    )


def read_applicability(folder: Path) -> Applicability | None:
    """Read what `save` wrote into a model's folder; None where the model has none."""
    if not (folder / FILE).is_file():
        return None
    try:
        with np.load(folder / FILE, allow_pickle=False) as stored:
            arrays: dict[str, Any] = {
                name: stored[name] for name in Applicability.__dataclass_fields__
            }
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise RunFileError(
            f"{folder / FILE}: not what `make models` wrote ({error}). Do not trust this folder."
        ) from None
    numbers = {name: float(arrays.pop(name)) for name in ("mean_distance", "limit", "rows_a_point")}
    return Applicability(**arrays | numbers)


def _measure_spread(X: Features) -> tuple[Float32s, Floats]:
    """Return mean and standard deviation of each column: (d,), (d,)."""
    total = np.zeros(X.shape[1])
    for _, chunk in X.chunks():
        total += chunk.sum(axis=0, dtype=np.float64)
    mean = (total / len(X)).astype(np.float32)
    squares = np.zeros(X.shape[1])
    for _, chunk in X.chunks():
        squares += ((chunk - mean) ** 2).sum(axis=0, dtype=np.float64)
    return mean, np.sqrt(squares / max(len(X) - 1, 1))


def _draw_projection(n_columns: int, seed: int) -> Float32s:
    """Draw a projection that keeps distances (Johnson and Lindenstrauss 1984): (d, 128), or (d, 0)
    of narrow rows, for none.
    """
    n_projected = _PROJECTED if n_columns > _MOST_COLUMNS else 0
    drawn = np.random.default_rng(seed).standard_normal((n_columns, n_projected))
    return (drawn / np.sqrt(_PROJECTED)).astype(np.float32)


def _place(X: Features, mean: Float32s, scale: Float32s, projection: Float32s) -> Float32s:
    n_projected = projection.shape[1]
    points = np.empty((len(X), n_projected or len(mean)), np.float32)
    for rows, chunk in X.core().chunks():
        scaled = (chunk - mean) * scale
        points[rows] = scaled @ projection if n_projected else scaled
    return points


def _find_mean_distance(points: Float32s) -> float:
    from sklearn.metrics import pairwise_distances_chunked  # slow to load

    sums = pairwise_distances_chunked(points, reduce_func=lambda found, _: found.sum(axis=1))
    return float(sum(part.sum() for part in sums)) / max(len(points) * (len(points) - 1), 1)


def _hold_out(points: Float32s, fold: Ints) -> Floats:
    """Return the distance of each point to the nearest of another fold: (n_points in a fold,)."""
    held = []
    for number in np.unique(fold[fold >= 0]):
        mine = fold == number
        nearest, _ = _find_nearest(points[mine], points[~mine], 0.0)
        held.append(nearest)
    return np.concatenate(held)


def _find_nearest(asked: Float32s, points: Float32s, radius: float) -> tuple[Floats, Floats]:
    """Return the distance to the nearest point, and how many lie within the radius: (n,), (n,)."""
    from sklearn.metrics import pairwise_distances_chunked

    def reduce(found: Floats, _: int) -> tuple[Floats, Floats]:
        return found.min(axis=1), np.count_nonzero(found < radius, axis=1)

    parts = list(pairwise_distances_chunked(asked, points, reduce_func=reduce))
    nearest, n_near = zip(*parts, strict=True)
    return np.concatenate(nearest).astype(np.float64), np.concatenate(n_near).astype(np.float64)


def _find_limit(training: Floats) -> float:
    """Return the upper whisker of a box plot, at most the largest value."""
    lower, upper = np.quantile(training, [0.25, 0.75])
    whisker = upper + _WHISKER * (upper - lower)
    return float(min(whisker, training.max()))
