"""Models that see no picture: the mean, the region's mean, and the place on the map."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from extract.config.arrays import Floats, Ints
from models.data.features import Features
from models.data.folds import Held
from models.families.family import Family, FitContext, as_probabilities
from models.families.fit_results import Chosen
from models.families.linear.gram_ridge import Gram
from models.families.linear.ridge import solve_sets
from models.families.linear.ridge_paths import few_threads
from models.families.neighbour_search import (
    N_NEIGHBORS,
    WEIGHTS,
    Choice,
    Weighting,
    predict_nearest,
    search_map,
)
from models.families.training_rows import Task, TrainingRows, labelled_groups

NOISE = tuple(float(a) for a in 10.0 ** np.arange(-2, 4, 0.5))
LENGTHS = (1.0, 2.0, 4.0, 8.0, 16.0)
N_CENTRES = 300
_JITTER = 1e-6  # of a field's variance: rounding must not make its covariance indefinite
_EVERYTHING: Held = frozenset()


class Mean(Family):
    """Predict the mean of the training labels, or the shares of their classes."""

    def __init__(self, task: Task = "number") -> None:
        self.task = task

    def fit_rows(self, data: TrainingRows, context: FitContext) -> None:
        """Compute the mean of every target."""
        self.mean_ = weighted_means(data.Y, data.weight)
        self.chosen_ = [{} for _ in self.mean_]

    def predict(self, X: Features) -> Floats:
        """Return the means for every row: (n_rows, n_targets)."""
        return np.tile(self.mean_, (len(X), 1))


class Region(Family):
    """Predict the mean training label, or the classes' shares, of the tile's region.

    A region without a training label gets the mean of all.
    """

    def __init__(self, task: Task = "number") -> None:
        self.task = task

    def fit_rows(self, data: TrainingRows, context: FitContext) -> None:
        """Compute the mean of every region and target; X is the region's number, (n_rows, 1)."""
        code = _read_codes(data.X)
        self.overall_ = weighted_means(data.Y, data.weight)
        n_regions = int(code.max()) + 1
        self.mean_ = np.tile(self.overall_, (n_regions, 1))
        for t, y in enumerate(data.Y.T):
            is_known = ~np.isnan(y)
            region = code[is_known]
            weight = data.weight[is_known]
            weighted = weight * y[is_known]
            total = np.bincount(region, weights=weight, minlength=n_regions)
            sums = np.bincount(region, weights=weighted, minlength=n_regions)
            is_seen = total > 0
            means = sums[is_seen] / total[is_seen]
            self.mean_[is_seen, t] = means
        self.chosen_ = [{} for _ in self.overall_]

    def predict(self, X: Features) -> Floats:
        """Return the mean of each row's region: (n_rows, n_targets)."""
        code = _read_codes(X)
        n_regions = len(self.mean_)
        is_known = code < n_regions
        place = np.minimum(code, n_regions - 1)
        return np.where(is_known[:, None], self.mean_[place], self.overall_)


def _read_codes(X: Features) -> Ints:
    """Return the region of each row: (n_rows,)."""
    column = X.array()[:, 0]
    return column.astype(np.int64)


def weighted_means(Y: Floats, weight: Floats) -> Floats:
    """Return the weighted mean of the labels of each target: (n_targets,).

    Raises
    ------
    ValueError : a target without one label.
    """
    means = np.empty(Y.shape[1])
    for rows, columns in labelled_groups(Y):
        labels = Y[np.ix_(rows, columns)]
        means[columns] = np.average(labels, axis=0, weights=weight[rows])
    return means


class Location(Family):
    """Predict each target from easting and northing, by the better of two rules.

    Neighbours on the map: their number and weighting are chosen. A smooth field: a Gaussian process
    of Matérn covariance (ν = 3/2) seen through its values at some centres (the subset of regressors
    of Rasmussen and Williams 2006, Gaussian Processes for Machine Learning, section 8.3.1), which
    makes it a ridge regression on as many columns; its length and its noise are chosen. The inner
    folds choose the rule too.

    Parameters
    ----------
    n_neighbors, weights : of the neighbours, to choose from.
    n_centres : centres of the field, spread over the training tiles.
    lengths : of the field, as multiples of the distance between centres, which cannot show shorter
        waves.
    noise : variance of the noise over that of the field.
    """

    def __init__(
        self,
        n_neighbors: tuple[int, ...] = N_NEIGHBORS,
        weights: tuple[Weighting, ...] = WEIGHTS,
        n_centres: int = N_CENTRES,
        lengths: tuple[float, ...] = LENGTHS,
        noise: tuple[float, ...] = NOISE,
        task: Task = "number",
    ) -> None:
        self.n_neighbors = n_neighbors
        self.weights = weights
        self.task = task
        self.n_centres = n_centres
        self.lengths = lengths
        self.noise = noise

    def fit_rows(self, data: TrainingRows, context: FitContext) -> None:
        """Choose the rule of every target; X is easting and northing [m], (n_rows, 2)."""
        self.xy_ = data.X.array().astype(np.float64)
        self.Y_ = data.Y
        self.weight_ = data.weight
        self.centres_, self.spacing_ = spread_centres(self.xy_, self.n_centres)
        n_centres = len(self.centres_)
        n_targets = data.Y.shape[1]
        self.coef_ = np.zeros((n_centres, n_targets))
        self.intercept_ = np.zeros(n_targets)
        self.nearest_: list[Chosen] = [{} for _ in range(n_targets)]
        self.chosen_ = [{} for _ in range(n_targets)]
        choice = Choice(search_map, self.n_neighbors, self.weights, self.task)
        for rows, columns, mine in data.split_labelled():
            xy = self.xy_[rows]
            nearest, errors = choice.choose(xy, mine)
            with few_threads(n_centres):
                field = self._fit_field(xy, mine)
            self.coef_[:, columns] = field.coef
            self.intercept_[columns] = field.intercept
            for i, t in enumerate(columns):
                self.nearest_[t] = nearest[i]
                is_field = field.error[i] < errors[i]
                if is_field:
                    self.chosen_[t] = {"rule": "field", **field.chosen[i]}
                else:
                    self.chosen_[t] = {"rule": "neighbours", **nearest[i]}

    def _fit_field(self, xy: Floats, data: TrainingRows) -> _Field:
        """Fit the best field of every target; errors are inf without folds to choose on."""
        from scipy.linalg import cholesky, solve_triangular  # slow to import

        n_centres = len(self.centres_)
        n_targets = data.Y.shape[1]
        best = _Field(
            coef=np.zeros((n_centres, n_targets)),
            intercept=np.zeros(n_targets),
            error=np.full(n_targets, np.inf),
            chosen=[{} for _ in range(n_targets)],
        )
        if not list(data.folds.splits()):
            return best
        noise = np.sort(np.array(self.noise, dtype=float))
        jitter = _JITTER * np.eye(n_centres)
        for length in np.multiply(self.lengths, self.spacing_):
            covariance = matern(self.centres_, self.centres_, length)
            root = cholesky(covariance + jitter, lower=True)
            beside = matern(self.centres_, xy, length)
            columns = solve_triangular(root, beside, lower=True)
            seen = data._replace(X=Features(columns.T))
            solver = Gram(seen, noise, is_scaled=False)
            solved = solve_sets(solver, [_EVERYTHING], task=self.task)
            linear = solved[_EVERYTHING]
            coef = solve_triangular(root, linear.coef, lower=True, trans="T")
            for t in np.flatnonzero(linear.error < best.error):
                best.coef[:, t] = coef[:, t]
                best.intercept[t] = linear.intercept[t]
                best.error[t] = linear.error[t]
                best.chosen[t] = {
                    "length_m": float(length),
                    "noise": float(linear.alpha[t]),
                }
        return best

    def predict(self, X: Features) -> Floats:
        """Predict every target by its rule: (n_rows, n_targets)."""
        xy = X.array().astype(np.float64)
        out = predict_nearest(
            search_map,
            self.xy_,
            self.Y_,
            xy,
            weight=self.weight_,
            chosen=self.nearest_,
        )
        for t, chosen in enumerate(self.chosen_):
            if chosen["rule"] == "field":
                covariance = matern(xy, self.centres_, chosen["length_m"])
                coef = self.coef_[:, t]
                out[:, t] = covariance @ coef + self.intercept_[t]
        return as_probabilities(out, self.task)


class _Field(NamedTuple):
    """Best field of each target: value = intercept + covariance with the centres · coef."""

    coef: Floats  # (n_centres, n_targets)
    intercept: Floats  # (n_targets,)
    error: Floats  # (n_targets,), weighted sum of squares on the inner folds
    chosen: list[Chosen]


def spread_centres(xy: Floats, n: int) -> tuple[Floats, float]:
    """Choose places that lie far apart.

    Each centre is the place farthest from those before it (Gonzalez 1985, Theor. Comput. Sci.
    38:293); the first is the place nearest to the middle.

    Returns
    -------
    (at most n, 2), and the distance [m] within which every place has a centre.
    """
    middle = xy.mean(axis=0)
    centre = _squares_from(middle, xy).argmin()
    centres = [centre]
    nearest = np.full(len(xy), np.inf)
    while True:
        nearest = np.minimum(nearest, _squares_from(xy[centre], xy))
        centre = nearest.argmax()
        farthest = nearest[centre]
        if len(centres) == n or farthest == 0:
            spacing = float(np.sqrt(farthest))
            return xy[centres], spacing or 1.0
        centres.append(centre)


def _squares_from(place: Floats, xy: Floats) -> Floats:
    """Return the squared distance of each place from one: (n,)."""
    offset = xy - place
    squares = offset**2
    return squares.sum(axis=1)


def matern(a: Floats, b: Floats, length: float) -> Floats:
    """Return the Matérn covariance, ν = 3/2 and variance 1, between places: (n_a, n_b)."""
    from scipy.spatial.distance import cdist

    distance = cdist(a, b)
    scaled = distance * (np.sqrt(3) / length)
    covariance: Floats = (1 + scaled) * np.exp(-scaled)
    return covariance
