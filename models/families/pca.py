"""Reduce features to principal components, fitted on training rows, in front of any family."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from extract.config.arrays import Float32s, Floats, Matrix
from models.data.features import Features
from models.families.family import Family, FitContext
from models.families.linear.ridge_paths import few_threads
from models.families.training_rows import TrainingRows

_FILE = "pca.npz"
_MORE = 16  # directions that are followed beyond those asked for
_PASSES = 4


class Axes(NamedTuple):
    """Where the components lie: mean (d,) and orthonormal axes (d, k), float32."""

    mean: Float32s
    axes: Float32s


class Reduced(Family):
    """A family fed with the first k principal components of the embedding, and with what stands
    beside as it is.

    The components keep their variances: the family does not standardise them (`standardise` false).
    Where the rows are areas, the pooled embedding (means and standard deviations) is what is
    reduced.

    Parameters
    ----------
    family : what is fitted. k : number of components. seed : of the first guess of the axes.
    """

    def __init__(self, family: Family, k: int, seed: int = 0) -> None:
        self.family = family
        self.k = k
        self.seed = seed
        self.revision = family.revision

    def fit_rows(self, data: TrainingRows, context: FitContext) -> None:
        """Find the axes of the rows, then fit the family; its choices are made on the same axes.

        Raises
        ------
        ValueError : fewer rows or columns than components.
        """
        self.axes_ = find_axes(data.X, self.k, self.seed)
        reduced = reduce_features(data.X, self.axes_)
        self.fitted_ = self.family.fresh()
        self.fitted_.fit_rows(data._replace(X=reduced), context)
        self.chosen_ = self.fitted_.chosen_
        self.curves_ = self.fitted_.curves_

    def predict(self, X: Features) -> Floats:
        """Reduce, and let the family predict: (n_rows, n_targets)."""
        return self.fitted_.predict(reduce_features(X, self.axes_))

    def slopes(self) -> Floats | None:
        """Return the slopes of the columns that the components are made of; the largest that the
        components allow, since those of several targets are summed.
        """
        slopes = self.fitted_.slopes()
        if slopes is None:
            return None
        k = self.axes_.axes.shape[1]
        of_core = np.abs(self.axes_.axes) @ slopes[:k]
        return np.append(of_core, slopes[k:])

    def save_axes(self, folder: Path) -> None:
        """Write the axes as plain arrays."""
        np.savez(folder / _FILE, allow_pickle=False, **self.axes_._asdict())

    @classmethod
    def load_axes(cls, folder: Path, fitted: Family) -> Self:
        """Put the axes in front of the family that was read."""
        with np.load(folder / _FILE, allow_pickle=False) as arrays:
            axes = Axes(arrays["mean"], arrays["axes"])
        n_components = axes.axes.shape[1]
        model = cls(fitted, n_components)
        model.axes_ = axes
        model.fitted_ = fitted
        model.chosen_ = fitted.chosen_
        return model


def inner_family(model: Family) -> Family:
    """Return the family that predicts: behind principal components, the one that is fed them."""
    return model.fitted_ if isinstance(model, Reduced) else model


def reduce_features(X: Features, axes: Axes) -> Features:
    """Return the components, streamed; what stands beside stays beside: (n_rows, k + n_beside)."""
    n_components = axes.axes.shape[1]
    out = np.empty((len(X), n_components), np.float32)
    for rows, chunk in X.core().chunks():
        centred = chunk - axes.mean
        out[rows] = centred @ axes.axes
    if X.beside is None:
        return Features(out)
    return Features(out, beside=X.read_beside())


def find_axes(X: Features, k: int, seed: int) -> Axes:
    """Find the first k principal axes of the embedding of some rows; the same rows are asked once a
    cut.

    Randomised subspace iteration (Halko, Martinsson and Tropp 2011, SIAM Review 53:217), streamed:
    four passes, the largest float32 matrix is (n_features, k + 16).

    Raises
    ------
    ValueError : fewer rows or columns than components.
    """
    core = X.core()
    n_rows, n_features = core.shape
    most = min(n_rows, n_features)
    if k > most:
        raise ValueError(
            f"pca:{k}: expected at most {most} components for {n_rows} training rows of "
            f"{n_features} features. Ask for fewer in the model's name."
        )
    rows = b""
    if X.index is not None:
        rows = hashlib.sha256(X.index.tobytes()).digest()
    key = (Axes, k, seed, rows)
    if key not in X.cache:
        X.cache[key] = _iterate(core, k, seed)
    axes: Axes = X.cache[key]
    return axes


def _iterate(X: Features, k: int, seed: int) -> Axes:
    n_rows, n_features = X.shape
    total = np.zeros(n_features)
    for _, chunk in X.chunks():
        total += chunk.sum(axis=0, dtype=np.float64)
    mean = (total / n_rows).astype(np.float32)
    width = min(k + _MORE, n_rows, n_features)
    rng = np.random.default_rng(seed)
    drawn = rng.standard_normal((n_features, width))
    axes = drawn.astype(np.float32)
    for _ in range(_PASSES - 1):
        axes = _orthonormal(axes)
        grown = np.zeros(axes.shape)
        for _, chunk in X.chunks():
            centred = chunk - mean
            scores = centred @ axes
            grown += centred.T @ scores
        axes = grown.astype(np.float32)
    axes = _orthonormal(axes)
    square = np.zeros((width, width))
    for _, chunk in X.chunks():
        centred = chunk - mean
        scores = centred @ axes
        square += scores.T @ scores
    with few_threads(width):
        _, directions = np.linalg.eigh(square)  # of the least variance first
    largest = directions[:, ::-1][:, :k]
    turned = axes @ largest
    return Axes(mean, turned.astype(np.float32))


def _orthonormal(axes: Matrix) -> Matrix:
    """Return orthonormal axes of the same space.

    One thread: of 25,088 × 272 that took 1.4 s, and two took 4.6 to 10 s beside another program on
    the two cores.
    """
    with few_threads(axes.shape[1]):
        orthonormal, _ = np.linalg.qr(axes)
    return orthonormal
