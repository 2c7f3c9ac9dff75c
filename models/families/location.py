"""What a place tells without a picture: its neighbours on the map, or a smooth field, whichever predicts better."""

from __future__ import annotations

from typing import NamedTuple, Self

import numpy as np

from models.data.arrays import Floats
from models.data.features import Features
from models.data.folds import Folds, Held
from models.families.family import Chosen, Family, Task, as_probabilities, labelled_groups
from models.families.linear.gram_ridge import Data, Gram, few_threads
from models.families.linear.ridge import solve_sets
from models.families.nearest_neighbours import (
    K_CHOICES,
    WEIGHTINGS,
    Choice,
    Weighting,
    predict_nearest,
    search_map,
)

NOISE = tuple(float(a) for a in 10.0 ** np.arange(-2, 4, 0.5))
LENGTHS = (1.0, 2.0, 4.0, 8.0, 16.0)
N_CENTRES = 300
_JITTER = 1e-6  # of the variance of a field: rounding must not make its covariance indefinite
_EVERYTHING: Held = frozenset()


class Location(Family):
    """Predict each target from easting and northing, by the better of two rules on the inner folds.

    Neighbours on the map: k and weighting are chosen. A smooth field: a Gaussian process of Matérn covariance (ν = 3/2)
    seen through its values at some centres (the subset of regressors of Rasmussen and Williams 2006, ch. 8.3.1), which
    makes it a ridge regression on as many columns; its length and its share of noise are chosen.

    Parameters
    ----------
    k_choices, weightings : of the neighbours.
    n_centres : centres of the field, spread over the training tiles.
    lengths : of the field, as multiples of the distance between centres; shorter waves than that cannot be seen.
    noise : variance of the noise over that of the field.
    """

    def __init__(
        self,
        k_choices: tuple[int, ...] = K_CHOICES,
        weightings: tuple[Weighting, ...] = WEIGHTINGS,
        n_centres: int = N_CENTRES,
        lengths: tuple[float, ...] = LENGTHS,
        noise: tuple[float, ...] = NOISE,
        task: Task = "number",
    ) -> None:
        self.k_choices = k_choices
        self.weightings = weightings
        self.task = task
        self.n_centres = n_centres
        self.lengths = lengths
        self.noise = noise

    def fit(self, X: Features, Y: Floats, *, folds: Folds, weight: Floats) -> Self:
        """Choose the rule and its parameters for every target; X is easting and northing [m], (n_rows, 2)."""
        self.xy_ = X.array().astype(np.float64)
        self.Y_ = Y
        self.weight_ = weight
        self.centres_, self.spacing_ = spread_centres(self.xy_, self.n_centres)
        n_targets = Y.shape[1]
        self.coef_ = np.zeros((len(self.centres_), n_targets))
        self.intercept_ = np.zeros(n_targets)
        self.nearest_: list[Chosen] = [{} for _ in range(n_targets)]
        self.chosen_ = [{} for _ in range(n_targets)]
        for rows, columns in labelled_groups(Y):
            data = Data(X, Y[:, columns], weight, folds).take(rows)
            choice = Choice(search_map, self.k_choices, self.weightings, self.task)
            nearest, errors = choice.choose(
                self.xy_[rows], data.Y, folds=data.folds, weight=data.weight
            )
            with few_threads(len(self.centres_)):
                field = self._fit_field(self.xy_[rows], data)
            for i, t in enumerate(columns):
                self.nearest_[t] = nearest[i]
                self.coef_[:, t], self.intercept_[t] = field.coef[:, i], field.intercept[i]
                self.chosen_[t] = (
                    {"rule": "field", **field.chosen[i]}
                    if field.error[i] < errors[i]
                    else {"rule": "neighbours", **nearest[i]}
                )
        return self

    def _fit_field(self, xy: Floats, data: Data) -> _Field:
        """Return the best length and noise of every target; errors are infinite where there are no folds to choose on."""
        best = _Field(
            np.zeros((len(self.centres_), data.Y.shape[1])),
            np.zeros(data.Y.shape[1]),
            np.full(data.Y.shape[1], np.inf),
            [{} for _ in range(data.Y.shape[1])],
        )
        if not any(len(train) and len(held) for train, held in data.folds.splits()):
            return best
        from scipy.linalg import (  # slow to load, and a run with nothing to do should not
            cholesky,
            solve_triangular,
        )

        noise = np.sort(np.asarray(self.noise, dtype=float))
        for length in np.multiply(self.lengths, self.spacing_):
            root = cholesky(
                matern(self.centres_, self.centres_, length) + _JITTER * np.eye(len(self.centres_)),
                lower=True,
            )
            columns = solve_triangular(root, matern(self.centres_, xy, length), lower=True).T
            seen = data._replace(X=Features(columns))
            solver = Gram(seen, noise, is_scaled=False)
            linear = solve_sets(solver, seen, [_EVERYTHING], noise, task=self.task)[_EVERYTHING]
            coef = solve_triangular(root, linear.coef, lower=True, trans="T")
            for i in np.flatnonzero(linear.error < best.error):
                best.coef[:, i], best.intercept[i], best.error[i] = (
                    coef[:, i],
                    linear.intercept[i],
                    linear.error[i],
                )
                best.chosen[i] = {"length_m": float(length), "noise": float(linear.alpha[i])}
        return best

    def predict(self, X: Features) -> Floats:
        """Predict every target by its rule: (n_rows, n_targets)."""
        xy = X.array().astype(np.float64)
        out = predict_nearest(
            search_map, self.xy_, self.Y_, xy, weight=self.weight_, chosen=self.nearest_
        )
        for t, chosen in enumerate(self.chosen_):
            if chosen["rule"] == "field":
                out[:, t] = (
                    matern(xy, self.centres_, chosen["length_m"]) @ self.coef_[:, t]
                    + self.intercept_[t]
                )
        return as_probabilities(out, self.task)


class _Field(NamedTuple):
    """The best field of each target: value = intercept + covariance with the centres · coef."""

    coef: Floats
    intercept: Floats
    error: Floats
    chosen: list[Chosen]


def spread_centres(xy: Floats, n: int) -> tuple[Floats, float]:
    """Take places that lie far apart, and give the distance [m] within which every place has one of them.

    Each centre is the place farthest from those before it (Gonzalez 1985, Theor. Comput. Sci. 38:293), from the place
    nearest to the middle on.
    """
    centres = [int(((xy - xy.mean(axis=0)) ** 2).sum(axis=1).argmin())]
    nearest = np.full(len(xy), np.inf)
    while True:
        nearest = np.minimum(nearest, ((xy - xy[centres[-1]]) ** 2).sum(axis=1))
        farthest = int(nearest.argmax())
        if len(centres) == n or nearest[farthest] == 0:
            return xy[centres], float(np.sqrt(nearest[farthest])) or 1.0
        centres.append(farthest)


def matern(a: Floats, b: Floats, length: float) -> Floats:
    """Matérn covariance, ν = 3/2, of variance one between places: (n_a, n_b)."""
    from scipy.spatial.distance import cdist

    scaled = cdist(a, b) * (np.sqrt(3) / length)
    out: Floats = (1 + scaled) * np.exp(-scaled)
    return out
