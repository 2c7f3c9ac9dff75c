"""Ridge regression on features too wide for a Gram matrix, by multi-shift conjugate gradients."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from extract.config.arrays import Bools, Float32s, Floats, Matrix
from models.data.folds import Held
from models.families.linear.gram_ridge import Direct, Enough, LabelledRows, RidgePath

Float32 = Float32s
_STATE_BYTES = 2 << 30  # of solutions and directions: more training sets are solved in turns
_FIRST_ASKED = 5  # steps before the held-out rows are predicted for the first time
_SAMPLE = 256  # rows that the shift is taken from
_TOLERANCE = 1e-5
_STEPS = 200


class Iterative(Direct):
    """Solve all training sets, targets and penalties at once; the features are only streamed.

    The Krylov space of a matrix is that of the matrix plus a multiple of one, so one sequence of
    products serves every penalty (Frommer and Maass 1999, SIAM J. Sci. Comput. 20:1831). All
    training sets and targets stand side by side in one matrix product a chunk; each step reads the
    features once.

    A solution b with residual r and error e is accepted once its predictions of its training rows
    are, by the bound |Z e|² ≤ |r|² / 4α, within 10⁻⁵ standard deviations of the target (root mean
    square). Small penalties need more steps; those not reached after 200, or when the larger ones
    are `enough`, are marked unsolved, and are not chosen.
    """

    def solve(self, helds: list[Held], enough: Enough) -> dict[Held, RidgePath]:
        """Solve every training set, named by the parts that it does not see.

        `enough` is asked only where all sets are solved at once.
        """
        n_columns = len(self.alphas) * self.data.Y.shape[1]
        set_bytes = 2 * 4 * self.data.X.shape[1] * n_columns
        size = max(1, _STATE_BYTES // set_bytes)
        found: dict[Held, RidgePath] = {}
        for start in range(0, len(helds), size):
            some = helds[start : start + size]
            found |= self._solve_some(some, enough if size >= len(helds) else _never)
        return found

    def _solve_some(self, helds: list[Held], enough: Enough) -> dict[Held, RidgePath]:
        sets = _TrainingSets(self.data, helds, is_scaled=self._is_scaled)
        iteration = _ShiftedGradients(sets.right, self.alphas)
        total = 2 * np.sqrt(self.alphas[:, None] * sets.total)
        limit = total * _TOLERANCE * sets.spread
        is_open = iteration.norms() > limit
        n_known = 0
        asked_at = _FIRST_ASKED
        for step in range(1, _STEPS + 1):
            if not is_open.any():
                break
            iteration.step(sets.product(iteration.direction), is_open)
            is_open &= iteration.norms() > limit
            n_solved = int((~is_open).all(axis=1).sum())
            if step >= asked_at and n_solved > n_known:  # to ask costs about two steps
                n_known = n_solved
                asked_at = round(1.4 * step)
                if enough(sets.paths(iteration.solution, ~is_open)):
                    break
        return sets.paths(iteration.solution, ~is_open)


def _never(paths: dict[Held, RidgePath]) -> bool:  # noqa: ARG001
    return False


class _ShiftedGradients:
    """Conjugate gradients for the smallest penalty, and multiples of its residual for all others.

    The names are those of Jegerlehner 1996, hep-lat/9612014, eq. 2.42 to 2.44, with positive steps:
    r and p are the residual and the direction for the smallest penalty σ₀, a and b its steps, and
    ζ r is the residual for another penalty σ.

    Attributes
    ----------
    solution : (n_alphas, n_features, n_right).
    direction : p, (n_features, n_right), which the matrix is multiplied with next.
    """

    def __init__(self, right: Float32, alphas: Floats) -> None:
        n_right = right.shape[1]
        self.solution = np.zeros((len(alphas), *right.shape), np.float32)
        self.direction = right.copy()
        self._directions = np.repeat(right[None], len(alphas), axis=0)
        self._r = right.copy()
        self._square = _dots(right, right)
        self._sigma = alphas[0]
        self._gap = (alphas - alphas[0])[:, None]
        self._zeta = np.ones((len(alphas), n_right))
        self._zeta_before = self._zeta
        self._a_before = np.ones(n_right)
        self._b_before = np.zeros(n_right)

    def norms(self) -> Floats:
        """Return the norm of every residual: (n_alphas, n_right)."""
        norms: Floats = np.abs(self._zeta) * np.sqrt(self._square)
        return norms

    def step(self, product: Float32, is_open: Bools) -> None:
        """Go one step.

        Parameters
        ----------
        product : (n_features, n_right), the matrix (without a penalty) times `direction`.
        is_open : (n_alphas, n_right), which solutions go on.
        """
        p = self.direction
        zeta, before = self._zeta, self._zeta_before
        a = _divide(self._square, _dots(p, product) + self._sigma * _dots(p, p))
        below = a * self._b_before * (before - zeta)
        below += before * self._a_before * (1 + self._gap * a)
        zeta_next = _divide(zeta * before * self._a_before, below)
        ratio = _divide(zeta_next, zeta)
        zeta_next = np.where(is_open, zeta_next, zeta)
        self._r -= (a * (product + self._sigma * p)).astype(np.float32)
        square = _dots(self._r, self._r)
        b = _divide(square, self._square)
        for i in np.flatnonzero(is_open.any(axis=1)):
            length = np.where(is_open[i], a * ratio[i], 0).astype(np.float32)
            self.solution[i] += length * self._directions[i]
            self._directions[i] *= (b * ratio[i] ** 2).astype(np.float32)
            self._directions[i] += zeta_next[i].astype(np.float32) * self._r
        p *= b.astype(np.float32)
        p += self._r
        self._zeta_before = np.where(is_open, zeta, before)
        self._zeta = zeta_next
        self._a_before = np.where(a > 0, a, 1)
        self._b_before = b
        self._square = square


class _TrainingSets:
    """Training sets side by side: means, scales, right-hand sides, products with Gram matrices.

    Features are seen less a shift, so that float32 loses nothing to large means. A column of a
    right-hand side is a (set, target), the targets of one set together.
    """

    def __init__(self, data: LabelledRows, helds: list[Held], *, is_scaled: bool) -> None:
        self._data = data
        self._helds = helds
        self._shift = data.X.sample(_SAMPLE).mean(axis=0)
        n_targets = data.Y.shape[1]
        weight = np.zeros((len(data.Y), len(helds)))
        for s, held in enumerate(helds):
            rows = data.folds.training(held)
            weight[rows, s] = data.weight[rows]
        sums = weight.sum(axis=0)
        self._weight = weight.astype(np.float32)
        self._y_mean = weight.T @ data.Y / sums[:, None]
        squares = (data.Y[:, None] - self._y_mean) ** 2
        variances = np.einsum("ns,nst->st", weight, squares) / sums[:, None]
        self.total = np.repeat(sums, n_targets)
        self.spread = np.sqrt(variances).ravel()
        self._measure(sums, is_scaled=is_scaled)

    def _measure(self, sums: Floats, *, is_scaled: bool) -> None:
        """Compute means and scales of every set, and its right-hand sides, in one pass."""
        x = np.zeros((self._data.X.shape[1], len(sums)))
        squares = np.zeros(x.shape)
        products = np.zeros((*x.shape, self._data.Y.shape[1]))
        for rows, chunk in self._chunks():
            weight = self._weight[rows]
            centred = self._data.Y[rows, None] - self._y_mean
            labels = _flat(weight[:, :, None] * centred)
            products += (chunk.T @ labels).reshape(products.shape)
            x += chunk.T @ weight
            squares += (chunk * chunk).T @ weight
        self._x_mean = x / sums
        squares /= sums
        variance = squares - self._x_mean**2
        scale = np.sqrt(np.maximum(variance, 0)) if is_scaled else np.ones(variance.shape)
        self._scale = np.where(variance <= 1e-6 * squares, np.inf, scale)
        self.right = _flat(products / self._scale[:, :, None])

    def _chunks(self) -> Iterator[tuple[slice, Float32]]:
        buffer = np.empty((0, len(self._shift)), np.float32)  # new memory costs as much as to fill
        for rows, chunk in self._data.X.chunks():
            if len(buffer) < len(chunk):
                buffer = np.empty_like(chunk)
            yield rows, np.subtract(chunk, self._shift, out=buffer[: len(chunk)])

    def product(self, direction: Float32) -> Float32:
        """Multiply each set's columns by its Gram matrix: (n_features, n_right), in one pass."""
        shape = (*self._scale.shape, self._data.Y.shape[1])
        scaled = direction.reshape(shape) / self._scale[:, :, None]
        offset = np.einsum("ds,dst->st", self._x_mean, scaled).astype(np.float32)
        right = _flat(scaled)
        out = np.zeros(shape)
        total = np.zeros(shape[1:])
        for rows, chunk in self._chunks():
            scores = (chunk @ right).reshape(len(chunk), *shape[1:])
            scores -= offset
            scores *= self._weight[rows, :, None]
            total += scores.sum(axis=0)
            out += (chunk.T @ scores.reshape(len(chunk), -1)).reshape(shape)
        out -= self._x_mean[:, :, None] * total
        return _flat(out / self._scale[:, :, None])

    def paths(self, solution: Float32, is_solved: Bools) -> dict[Held, RidgePath]:
        """Return the solutions by training set, for the features as they are stored."""
        n_targets = self._data.Y.shape[1]
        found = {}
        for s, held in enumerate(self._helds):
            mine = slice(s * n_targets, (s + 1) * n_targets)
            scale = self._scale[:, s, None, None].astype(np.float32)
            coef = np.moveaxis(solution[:, :, mine], 1, 0) / scale
            x_mean = self._shift + self._x_mean[:, s]
            found[held] = RidgePath(coef, x_mean, self._y_mean[s], is_solved[:, mine])
        return found


def _flat(values: Matrix) -> Float32:
    return np.ascontiguousarray(values.reshape(len(values), -1), dtype=np.float32)


def _dots(a: Float32, b: Float32) -> Floats:
    """Return the dot product of each pair of columns, summed in float64: (n_right,)."""
    return np.einsum("dr,dr->r", a, b, dtype=np.float64)


def _divide(a: Floats, b: Floats) -> Floats:
    """Divide, with 0 where the denominator is not positive."""
    return np.divide(a, b, out=np.zeros_like(b), where=b > 0)
