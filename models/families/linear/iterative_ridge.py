"""Ridge on features too wide for any Gram matrix: conjugate gradients for all training sets, targets and penalties at once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from models.data.arrays import Floats, Matrix
from models.data.folds import Held
from models.families.linear.gram_ridge import Data, Direct, Enough, Paths

Float32 = NDArray[np.float32]
_STATE_BYTES = (
    2 << 30
)  # of solutions and directions: more training sets than that are solved in turns
_FIRST_ASKED = 5  # steps before the held-out rows are asked for the first time
_SAMPLE = 256  # rows that the working scale is taken from


class Krylov(Direct):
    """Multi-shift conjugate gradients; the features are streamed twice times the number of steps, never held in float32.

    The Krylov space of a matrix is that of the matrix plus a multiple of one, so one sequence of products serves every
    penalty (Frommer and Maass 1999, SIAM J. Sci. Comput. 20:1831; recurrences as in Jegerlehner 1996, hep-lat/9612014).
    All training sets and targets stand side by side in one matrix product a chunk.

    A solution is accepted once its predictions of its training rows are, by a bound on the residual, within
    `tolerance` standard deviations of the target (root mean square): |Z e|² ≤ |r|² / 4α. Small penalties need more
    steps; those not reached after `steps`, or when the larger ones are `enough`, are marked unsolved, and are not chosen.
    """

    def __init__(
        self,
        data: Data,
        alphas: Floats,
        *,
        is_scaled: bool = True,
        tolerance: float = 1e-5,
        steps: int = 200,
    ) -> None:
        super().__init__(data, alphas, is_scaled=is_scaled)
        self._tolerance = tolerance
        self._steps = steps
        sample = data.X.sample(_SAMPLE)
        spread = sample.std(axis=0)
        self._shift = sample.mean(axis=0)
        self._unit = np.where(spread > 0, spread, 1).astype(np.float32)

    def paths(self, helds: list[Held], enough: Enough) -> dict[Held, Paths]:
        """Solve every training set, named by what it does not see; `enough` is asked where all sets are solved at once."""
        each = 2 * 4 * self._data.X.shape[1] * len(self.alphas) * self._data.Y.shape[1]
        size = max(1, _STATE_BYTES // each)
        found: dict[Held, Paths] = {}
        for start in range(0, len(helds), size):
            some = helds[start : start + size]
            sets = _Sets(self._data, some, self._shift, self._unit, self._is_scaled)
            found |= self._solve(sets, some, enough if size >= len(helds) else lambda _: False)
        return found

    def _solve(self, sets: _Sets, helds: list[Held], enough: Enough) -> dict[Held, Paths]:
        residual = sets.right.copy()
        flow = _Shifted(residual, self.alphas)
        shape = (len(self.alphas), residual.shape[1])
        limit = 2 * np.sqrt(self.alphas[:, None] * sets.total) * self._tolerance * sets.spread
        is_open = flow.norms() > limit
        n_known = 0
        asked = _FIRST_ASKED
        for step in range(self._steps):
            if not is_open.any():
                break
            flow.step(sets.product(flow.direction), is_open)
            is_open &= flow.norms() > limit
            n_solved = int((~is_open).all(axis=1).sum())
            if step + 1 >= asked and n_solved > n_known:  # to ask costs about two steps
                n_known = n_solved
                asked = round(1.4 * (step + 1))
                if enough(
                    dict(
                        zip(
                            helds, sets.paths(flow.solution, (~is_open).reshape(shape)), strict=True
                        )
                    )
                ):
                    break
        return dict(zip(helds, sets.paths(flow.solution, (~is_open).reshape(shape)), strict=True))


class _Shifted:
    """The recurrences: one residual for the smallest penalty, multiples of it for all others.

    Attributes
    ----------
    solution : (n_alphas, n_features, n_right). direction : (n_features, n_right), what the matrix is asked for next.
    """

    def __init__(self, residual: Float32, alphas: Floats) -> None:
        self._residual = residual
        self._least = alphas[0]
        self._gap = (alphas - alphas[0])[:, None]
        self.direction = residual.copy()
        self.solution = np.zeros((len(alphas), *residual.shape), np.float32)
        self._directions = np.repeat(residual[None], len(alphas), axis=0)
        self._ratio = np.ones((2, len(alphas), residual.shape[1]))  # of residuals, before and now
        self._before = np.ones(residual.shape[1])  # length of the step before
        self._turn = np.zeros(residual.shape[1])
        self._square = _dots(residual, residual)

    def norms(self) -> Floats:
        """Norm of every residual: (n_alphas, n_right)."""
        out: Floats = np.abs(self._ratio[1]) * np.sqrt(self._square)
        return out

    def step(self, product: Float32, is_open: NDArray[np.bool_]) -> None:
        """Go one step, from the product of the matrix (without a penalty) and `direction`."""
        curved = _dots(self.direction, product) + self._least * _dots(
            self.direction, self.direction
        )
        length = np.divide(self._square, curved, out=np.zeros_like(curved), where=curved > 0)
        old, now = self._ratio
        below = length * self._turn * (old - now) + old * self._before * (1 + self._gap * length)
        new = np.divide(now * old * self._before, below, out=np.zeros_like(now), where=below != 0)
        new, scale = (
            np.where(is_open, new, now),
            np.divide(new, now, out=np.zeros_like(now), where=now != 0),
        )
        self._residual -= (length * (product + self._least * self.direction)).astype(np.float32)
        square = _dots(self._residual, self._residual)
        turn = np.divide(square, self._square, out=np.zeros_like(square), where=self._square > 0)
        for i in np.flatnonzero(is_open.any(axis=1)):
            self.solution[i] += (
                np.where(is_open[i], length * scale[i], 0).astype(np.float32) * self._directions[i]
            )
            self._directions[i] *= (turn * scale[i] ** 2).astype(np.float32)
            self._directions[i] += new[i].astype(np.float32) * self._residual
        self.direction *= turn.astype(np.float32)
        self.direction += self._residual
        self._ratio = np.stack([np.where(is_open, now, old), new])
        self._before = np.where(length > 0, length, 1)
        self._turn = turn
        self._square = square


class _Sets:
    """Training sets side by side: their means, scales, right-hand sides, and products with their Gram matrices.

    Features are seen less `shift` and over `unit`, so that float32 loses nothing to large means. A column of a
    right-hand side is a (set, target), targets of one set together.
    """

    def __init__(
        self, data: Data, helds: list[Held], shift: Float32, unit: Float32, is_scaled: bool
    ) -> None:
        self._data = data
        self._shift = shift
        self._unit = unit
        self._is_scaled = is_scaled
        weight = np.zeros((len(data.Y), len(helds)))
        for s, held in enumerate(helds):
            rows = data.folds.training(held)
            weight[rows, s] = data.weight[rows]
        self._weight = weight.astype(np.float32)
        sums = weight.sum(axis=0)
        self._y = weight.T @ data.Y / sums[:, None]
        misses = [w @ (data.Y - y) ** 2 / w.sum() for w, y in zip(weight.T, self._y, strict=True)]
        self.total = np.repeat(sums, data.Y.shape[1])
        self.spread = np.sqrt(np.concatenate(misses))
        self._measure(sums)

    def _measure(self, sums: Floats) -> None:
        """Means and scales of every set, and its products of features and labels, in one pass."""
        n_features = self._data.X.shape[1]
        n_sets = len(sums)
        x = np.zeros((n_features, n_sets))
        squares = np.zeros((n_features, n_sets))
        products = np.zeros((n_features, n_sets, self._data.Y.shape[1]))
        for rows, chunk in self._chunks():
            weight = self._weight[rows]
            labels = (weight[:, :, None] * (self._data.Y[rows, None] - self._y)).astype(np.float32)
            products += (chunk.T @ labels.reshape(len(chunk), -1)).reshape(products.shape)
            x += chunk.T @ weight
            squares += (chunk * chunk).T @ weight
        self._x = x / sums
        squares = squares / sums
        variance = squares - self._x**2
        scale = (
            np.sqrt(np.maximum(variance, 0))
            if self._is_scaled
            else np.broadcast_to(1 / self._unit[:, None], variance.shape)
        )
        self._scale = np.where(variance <= 1e-6 * squares, np.inf, scale)
        self.right = _flat(products / self._scale[:, :, None])

    def _chunks(self) -> Iterator[tuple[slice, Float32]]:
        room = np.empty(
            (0, len(self._shift)), np.float32
        )  # one for all pieces: to get 64 MB anew costs as much as to fill it
        for rows, chunk in self._data.X.chunks():
            room = np.empty_like(chunk) if len(room) < len(chunk) else room
            centred = np.subtract(chunk, self._shift, out=room[: len(chunk)])
            centred /= self._unit
            yield rows, centred

    def product(self, direction: Float32) -> Float32:
        """Multiply each set's columns by its Gram matrix: (n_features, n_right); one pass over the features."""
        shape = len(direction), self._weight.shape[1], self._data.Y.shape[1]
        scaled = direction.reshape(shape) / self._scale[:, :, None]
        offset = np.einsum("ds,dst->st", self._x, scaled).astype(np.float32)
        right = _flat(scaled)
        out = np.zeros(shape)
        total = np.zeros(shape[1:])
        for rows, chunk in self._chunks():
            seen = (chunk @ right).reshape(-1, *shape[1:])
            seen -= offset
            seen *= self._weight[rows, :, None]
            total += seen.sum(axis=0)
            out += (chunk.T @ seen.reshape(len(chunk), -1)).reshape(shape)
        out -= self._x[:, :, None] * total
        return _flat(out / self._scale[:, :, None])

    def paths(self, solution: Float32, is_solved: NDArray[np.bool_]) -> list[Paths]:
        """Return the solutions by set, for the features as they are stored."""
        n_targets = self._data.Y.shape[1]
        found = []
        for s in range(self._weight.shape[1]):
            mine = slice(s * n_targets, (s + 1) * n_targets)
            scale = (self._scale[:, s] * self._unit).astype(np.float32)
            coef = np.moveaxis(solution[:, :, mine], 1, 0) / scale[:, None, None]
            found.append(
                Paths(
                    coef, self._shift + self._x[:, s] * self._unit, self._y[s], is_solved[:, mine]
                )
            )
        return found


def _flat(values: Matrix) -> Float32:
    return np.ascontiguousarray(values.reshape(len(values), -1), dtype=np.float32)


def _dots(a: Float32, b: Float32) -> Floats:
    """Column by column, summed in float64: (n_right,)."""
    return np.einsum("dr,dr->r", a, b, dtype=np.float64)
