"""Ridge regression on features too wide for a Gram matrix, by multi-shift conjugate gradients."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from extract.config.arrays import Bools, Float32s, Floats, Matrix
from models.data.folds import Held
from models.families.linear.dual_ridge import Direct
from models.families.linear.ridge_paths import Enough, RidgePath, column_scales
from models.families.linear.shifted_gradients import ShiftedGradients
from models.families.training_rows import TrainingRows

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
        n_features = self.data.X.shape[1]
        n_targets = self.data.Y.shape[1]
        n_columns = len(self.alphas) * n_targets
        set_bytes = 2 * 4 * n_features * n_columns
        size = max(1, _STATE_BYTES // set_bytes)
        if size >= len(helds):
            return self._solve_some(helds, enough)
        found: dict[Held, RidgePath] = {}
        for start in range(0, len(helds), size):
            some = helds[start : start + size]
            found |= self._solve_some(some, _never)
        return found

    def _solve_some(self, helds: list[Held], enough: Enough) -> dict[Held, RidgePath]:
        sets = _TrainingSets(self.data, helds, is_scaled=self._is_scaled)
        iteration = ShiftedGradients(sets.right, self.alphas)
        scaled = self.alphas[:, None] * sets.total
        bound = 2 * np.sqrt(scaled)
        limit = bound * _TOLERANCE * sets.spread
        is_open = iteration.norms() > limit
        n_known = 0
        asked_at = _FIRST_ASKED
        for step in range(1, _STEPS + 1):
            if not is_open.any():
                break
            product = sets.product(iteration.direction)
            iteration.step(product, is_open)
            is_open &= iteration.norms() > limit
            is_solved = ~is_open
            n_solved = int(is_solved.all(axis=1).sum())
            if step >= asked_at and n_solved > n_known:  # to ask costs about two steps
                n_known = n_solved
                asked_at = round(1.4 * step)
                paths = sets.paths(iteration.solution, is_solved)
                if enough(paths):
                    break
        return sets.paths(iteration.solution, ~is_open)


def _never(paths: dict[Held, RidgePath]) -> bool:  # noqa: ARG001
    return False


class _TrainingSets:
    """Training sets side by side: means, scales, right-hand sides, products with Gram matrices.

    Features are seen less a shift, so that float32 loses nothing to large means. A column of a
    right-hand side is a (set, target), the targets of one set together.
    """

    def __init__(self, data: TrainingRows, helds: list[Held], *, is_scaled: bool) -> None:
        self._X = data.X
        self._helds = helds
        sample = data.X.sample(_SAMPLE)
        self._shift = sample.mean(axis=0)
        n_sets = len(helds)
        n_rows, n_targets = data.Y.shape
        weight = np.zeros((n_rows, n_sets))
        for s, held in enumerate(helds):
            rows = data.folds.training(held)
            weight[rows, s] = data.weight[rows]
        sums = weight.sum(axis=0)
        y_sums = weight.T @ data.Y
        self._y_mean = y_sums / sums[:, None]
        centred = data.Y[:, None] - self._y_mean
        squares = centred**2
        variances = np.einsum("ns,nst->st", weight, squares)
        variances /= sums[:, None]
        self._shape = (data.X.shape[1], n_sets, n_targets)
        self._weight = weight.astype(np.float32)
        self.total = np.repeat(sums, n_targets)
        self.spread = np.sqrt(variances).ravel()
        self._measure(data.Y, sums, is_scaled=is_scaled)

    def _measure(self, Y: Floats, sums: Floats, *, is_scaled: bool) -> None:
        """Compute means and scales of every set, and its right-hand sides, in one pass."""
        products = np.zeros(self._shape)
        x_sums = np.zeros(self._shape[:2])
        squares = np.zeros(self._shape[:2])
        for rows, chunk in self._chunks():
            weight = self._weight[rows]
            centred = Y[rows, None] - self._y_mean
            weighted = weight[:, :, None] * centred
            product = chunk.T @ _flat(weighted)
            products += product.reshape(self._shape)
            x_sums += chunk.T @ weight
            squared = chunk * chunk
            squares += squared.T @ weight
        squares /= sums
        x_mean = x_sums / sums
        self._x_mean = x_mean
        variance = squares - x_mean**2
        least = 1e-6 * squares
        scale = column_scales(variance, least, is_scaled=is_scaled)
        self._scale = scale[:, :, None]
        right = products / self._scale
        self.right = _flat(right)

    def _chunks(self) -> Iterator[tuple[slice, Float32s]]:
        n_features = len(self._shift)
        buffer = np.empty((0, n_features), np.float32)  # new memory costs as much as to fill
        for rows, chunk in self._X.chunks():
            if len(buffer) < len(chunk):
                buffer = np.empty_like(chunk)
            shifted = buffer[: len(chunk)]
            np.subtract(chunk, self._shift, out=shifted)
            yield rows, shifted

    def product(self, direction: Float32s) -> Float32s:
        """Multiply each set's columns by its Gram matrix: (n_features, n_right), in one pass."""
        of_sets = self._shape[1:]
        by_set = direction.reshape(self._shape)
        scaled = by_set / self._scale
        right = _flat(scaled)
        offset = np.einsum("ds,dst->st", self._x_mean, scaled)
        offset = offset.astype(np.float32)
        out = np.zeros(self._shape)
        total = np.zeros(of_sets)
        for rows, chunk in self._chunks():
            flat = chunk @ right
            scores = flat.reshape(-1, *of_sets)
            scores -= offset
            weight = self._weight[rows]
            scores *= weight[:, :, None]
            total += scores.sum(axis=0)
            product = chunk.T @ flat
            out += product.reshape(self._shape)
        x_mean = self._x_mean[:, :, None]
        out -= x_mean * total
        out /= self._scale
        return _flat(out)

    def paths(self, solution: Float32s, is_solved: Bools) -> dict[Held, RidgePath]:
        """Return the solutions by training set, for the features as they are stored."""
        n_targets = self._shape[2]
        found = {}
        for s, held in enumerate(self._helds):
            first = s * n_targets
            mine = slice(first, first + n_targets)
            scale = self._scale[:, s, None]
            scale = scale.astype(np.float32)
            by_alpha = solution[:, :, mine]
            coef = np.moveaxis(by_alpha, 1, 0)
            x_mean = self._x_mean[:, s]
            found[held] = RidgePath(
                coef=coef / scale,
                x_mean=self._shift + x_mean,
                y_mean=self._y_mean[s],
                is_solved=is_solved[:, mine],
            )
        return found


def _flat(values: Matrix) -> Float32s:
    flat = values.reshape(len(values), -1)
    return np.ascontiguousarray(flat, dtype=np.float32)
