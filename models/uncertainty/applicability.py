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
from typing import NamedTuple

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
        radius = self.limit * self.mean_distance
        nearest, n_near = _find_nearest(self.place(X), self.points, radius)
        return Dissimilarity(
            value=nearest / self.mean_distance,
            density=n_near * self.rows_a_point,
        )

    def save(self, folder: Path) -> None:
        """Write it as plain arrays."""
        arrays = asdict(self)
        np.savez(folder / FILE, allow_pickle=False, **arrays)


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
    n_rows, n_columns = core.shape
    places = np.linspace(0, n_rows - 1, min(n_rows, _MOST_ROWS))
    chosen = places.astype(np.int64)
    fold_of_point = fold[chosen]
    mean, sd = _measure_spread(core)
    scale = _scale_columns(sd, slopes)
    folds = _list_folds(fold_of_point)
    if not scale.any() or len(folds) < 2:
        return None
    projection = _draw_projection(n_columns, seed)
    some = core.rows(chosen)
    points = _place(some, mean, scale, projection)
    mean_distance = _find_mean_distance(points)
    if not mean_distance > 0:
        return None
    training = _hold_out(points, fold_of_point) / mean_distance
    return Applicability(
        mean=mean,
        scale=scale,
        projection=projection,
        points=points,
        mean_distance=mean_distance,
        limit=_find_limit(training),
        rows_a_point=n_rows / len(chosen),
    )


def _scale_columns(sd: Floats, slopes: Floats | None) -> Float32s:
    """Return what each column is multiplied by: (d,), 0 where it does not vary."""
    largest = float(sd.max(initial=0.0))
    varies = sd > 1e-6 * max(largest, 1e-30)
    scale = np.zeros(len(sd), np.float32)
    if slopes is None:
        scale[varies] = 1 / sd[varies]
    else:
        sizes = np.abs(slopes[: len(sd)])
        scale[varies] = sizes[varies]
    return scale


def _list_folds(fold: Ints) -> Ints:
    """Return the folds that have rows."""
    is_in_fold = fold >= 0
    return np.unique(fold[is_in_fold])


def read_applicability(folder: Path) -> Applicability | None:
    """Read what `save` wrote into a model's folder; None where the model has none."""
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as stored:
            return Applicability(
                mean=stored["mean"],
                scale=stored["scale"],
                projection=stored["projection"],
                points=stored["points"],
                mean_distance=float(stored["mean_distance"]),
                limit=float(stored["limit"]),
                rows_a_point=float(stored["rows_a_point"]),
            )
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise RunFileError(
            f"{path}: not what `make models` wrote ({error}). Do not trust this folder."
        ) from None


def _measure_spread(X: Features) -> tuple[Float32s, Floats]:
    """Return mean and standard deviation of each column: (d,), (d,)."""
    n_rows, n_columns = X.shape
    total = np.zeros(n_columns)
    for _, chunk in X.chunks():
        total += chunk.sum(axis=0, dtype=np.float64)
    mean = (total / n_rows).astype(np.float32)
    squares = np.zeros(n_columns)
    for _, chunk in X.chunks():
        centred = chunk - mean
        squared = centred**2
        squares += squared.sum(axis=0, dtype=np.float64)
    variance = squares / max(n_rows - 1, 1)
    return mean, np.sqrt(variance)


def _draw_projection(n_columns: int, seed: int) -> Float32s:
    """Draw a projection that keeps distances (Johnson and Lindenstrauss 1984): (d, 128), or (d, 0)
    of narrow rows, for none.
    """
    n_projected = _PROJECTED if n_columns > _MOST_COLUMNS else 0
    rng = np.random.default_rng(seed)
    drawn = rng.standard_normal((n_columns, n_projected))
    scaled = drawn / np.sqrt(_PROJECTED)
    return scaled.astype(np.float32)


def _place(X: Features, mean: Float32s, scale: Float32s, projection: Float32s) -> Float32s:
    n_columns, n_projected = projection.shape
    points = np.empty((len(X), n_projected or n_columns), np.float32)
    for rows, chunk in X.core().chunks():
        centred = chunk - mean
        scaled = centred * scale
        points[rows] = scaled @ projection if n_projected else scaled
    return points


def _find_mean_distance(points: Float32s) -> float:
    from sklearn.metrics import pairwise_distances_chunked  # slow to load

    def sum_rows(found: Floats, _: int) -> Floats:
        return found.sum(axis=1)

    n_points = len(points)
    n_pairs = n_points * (n_points - 1)
    sums = pairwise_distances_chunked(points, reduce_func=sum_rows)
    total = float(sum(part.sum() for part in sums))
    return total / max(n_pairs, 1)


def _hold_out(points: Float32s, fold: Ints) -> Floats:
    """Return the distance of each point to the nearest of another fold: (n_points in a fold,)."""
    held = []
    for number in _list_folds(fold):
        is_mine = fold == number
        mine = points[is_mine]
        others = points[~is_mine]
        nearest, _ = _find_nearest(mine, others, 0.0)
        held.append(nearest)
    return np.concatenate(held)


def _find_nearest(asked: Float32s, points: Float32s, radius: float) -> tuple[Floats, Floats]:
    """Return the distance to the nearest point, and how many lie within the radius: (n,), (n,)."""
    from sklearn.metrics import pairwise_distances_chunked

    def reduce(found: Floats, _: int) -> tuple[Floats, Floats]:
        is_near = found < radius
        return found.min(axis=1), is_near.sum(axis=1)

    parts = pairwise_distances_chunked(asked, points, reduce_func=reduce)
    nearest, n_near = zip(*parts, strict=True)
    distance = np.concatenate(nearest)
    density = np.concatenate(n_near)
    return distance.astype(np.float64), density.astype(np.float64)


def _find_limit(training: Floats) -> float:
    """Return the upper whisker of a box plot, at most the largest value."""
    lower, upper = np.quantile(training, [0.25, 0.75])
    spread = upper - lower
    whisker = upper + _WHISKER * spread
    largest = training.max()
    return float(min(whisker, largest))
