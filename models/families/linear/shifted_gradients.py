"""Conjugate gradients for many penalties at once."""

from __future__ import annotations

import numpy as np

from extract.config.arrays import Bools, Float32s, Floats


class ShiftedGradients:
    """Conjugate gradients for the smallest penalty, and multiples of its residual for all others.

    The names are those of Jegerlehner 1996, hep-lat/9612014, eq. 2.42 to 2.44, with positive steps:
    r and p are the residual and the direction for the smallest penalty σ₀, a and b its steps, and
    ζ r is the residual for another penalty σ.

    Attributes
    ----------
    solution : (n_alphas, n_features, n_right).
    direction : p, (n_features, n_right), which the matrix is multiplied with next.
    """

    def __init__(self, right: Float32s, alphas: Floats) -> None:
        n_alphas = len(alphas)
        n_right = right.shape[1]
        self.direction = right.copy()
        self._directions = np.repeat(right[None], n_alphas, axis=0)
        self.solution = np.zeros_like(self._directions)
        self._r = right.copy()
        self._square = _dots(right, right)
        self._sigma = alphas[0]
        gap = alphas - self._sigma
        self._gap = gap[:, None]
        self._zeta = np.ones((n_alphas, n_right))
        self._zeta_before = self._zeta
        self._a_before = np.ones(n_right)
        self._b_before = np.zeros(n_right)

    def norms(self) -> Floats:
        """Return the norm of every residual: (n_alphas, n_right)."""
        smallest = np.sqrt(self._square)
        norms: Floats = np.abs(self._zeta) * smallest
        return norms

    def step(self, product: Float32s, is_open: Bools) -> None:
        """Go one step.

        Parameters
        ----------
        product : (n_features, n_right), the matrix (without a penalty) times `direction`.
        is_open : (n_alphas, n_right), which solutions go on.
        """
        p = self.direction
        sigma = self._sigma
        curvature = _dots(p, product)
        curvature += sigma * _dots(p, p)
        a = _divide(self._square, curvature)
        reached = self._next_zeta(a)
        ratio = _divide(reached, self._zeta)
        zeta = np.where(is_open, reached, self._zeta)
        shifted = product + sigma * p
        change = a * shifted
        self._r -= change.astype(np.float32)
        square = _dots(self._r, self._r)
        b = _divide(square, self._square)
        step = a * ratio
        step = np.where(is_open, step, 0)
        step = step.astype(np.float32)
        kept = b * ratio**2
        kept = kept.astype(np.float32)
        residual = zeta.astype(np.float32)
        is_any_open = is_open.any(axis=1)
        for i in np.flatnonzero(is_any_open):
            direction = self._directions[i]
            self.solution[i] += step[i] * direction
            direction *= kept[i]
            direction += residual[i] * self._r
        p *= b.astype(np.float32)
        p += self._r
        self._zeta_before = np.where(is_open, self._zeta, self._zeta_before)
        self._zeta = zeta
        self._a_before = np.where(a > 0, a, 1)
        self._b_before = b
        self._square = square

    def _next_zeta(self, a: Floats) -> Floats:
        """Return ζ after a step a, eq. 2.44: (n_alphas, n_right)."""
        zeta = self._zeta
        before = self._zeta_before
        scaled = before * self._a_before
        growth = 1 + self._gap * a
        change = before - zeta
        below = a * self._b_before * change
        below += scaled * growth
        above = zeta * scaled
        return _divide(above, below)


def _dots(a: Float32s, b: Float32s) -> Floats:
    """Return the dot product of each pair of columns, summed in float64: (n_right,)."""
    return np.einsum("dr,dr->r", a, b, dtype=np.float64)


def _divide(a: Floats, b: Floats) -> Floats:
    """Divide, with 0 where the denominator is not positive."""
    quotient = np.zeros_like(b)
    np.divide(a, b, out=quotient, where=b > 0)
    return quotient
