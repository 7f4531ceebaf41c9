"""Matrices with a bound of each entry's error, and what follows for their sums, products, norms and linear systems."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from replication.compiled import EPSILON
from replication.conditions import TINY, spectral_norm
from replication.operators import frobenius_norm, rounding_margin


@dataclass(frozen=True, eq=False)
class Enclosure:
    """All matrices within `error` of `value`, entry by entry; a result encloses what follows from any of them.

    Attributes:
        value: (m, n) in float64, or a batch (..., m, n).
        error: like it, not negative.
    """

    value: Tensor
    error: Tensor

    @classmethod
    def of(cls, value: Tensor, error: Tensor | None = None) -> Enclosure:
        """Return a matrix (m, n) of any dtype and device with its error, exact where there is none."""
        value = value.detach().cpu().double()
        return cls(value, torch.zeros_like(value) if error is None else error.detach().cpu().double())

    @classmethod
    def identity(cls, n: int) -> Enclosure:
        """Return I of order n."""
        return cls.of(torch.eye(n, dtype=torch.float64))

    def __matmul__(self, other: Enclosure) -> Enclosure:
        terms = self.value.shape[-1] + 4
        size = self.value.abs() @ other.value.abs()
        error = self.value.abs() @ other.error + self.error @ (other.value.abs() + other.error)
        return Enclosure(self.value @ other.value, error * (1 + terms * EPSILON) + terms * (EPSILON * size + TINY))

    def __add__(self, other: Enclosure) -> Enclosure:
        value = self.value + other.value
        return Enclosure(value, (self.error + other.error) * (1 + 2 * EPSILON) + EPSILON * value.abs())

    def __neg__(self) -> Enclosure:
        return Enclosure(-self.value, self.error)

    def __sub__(self, other: Enclosure) -> Enclosure:
        return self + -other

    def columns(self, factors: Tensor, error: Tensor | float = 0.0) -> Enclosure:
        """Return the product with a diagonal matrix on the right, its diagonal (n,) known up to `error`."""
        value = self.value * factors
        wrong = self.error * (factors.abs() + error) + self.value.abs() * error
        return Enclosure(value, wrong * (1 + 4 * EPSILON) + EPSILON * value.abs() + (value != 0) * TINY)

    def rows(self, factors: Tensor, error: Tensor | float = 0.0) -> Enclosure:
        """Return the product with a diagonal matrix on the left, its diagonal (m,) known up to `error`."""
        return self.transposed().columns(factors, error).transposed()

    def transposed(self) -> Enclosure:
        """Return the transpose (n, m)."""
        return Enclosure(self.value.mT, self.error.mT)

    def norm(self) -> float:
        """Return an upper bound of ‖·‖₂, infinite where a bound or a value is not finite."""
        bound = spectral_norm(self.value) + rounding_margin(self.value) + frobenius_norm(self.error)
        return float(bound.nan_to_num(nan=torch.inf)) * (1 + 1e-14)

    def inverse_times(self, other: Enclosure) -> Enclosure | None:
        """Return the solution X (n, m) of KX = N, None where K (n, n), or one of a batch, may have no inverse.

        With an approximate inverse R, G ≥ |I − RK| and ‖G‖_∞ < 1, the error of an approximate X is at most
        (I − G)⁻¹|R||N − KX| ≤ V + g·max V/(1 − ‖G‖_∞), where V = |R||N − KX| and g are the sums of G's rows.

        Source: Rump, Acta Numerica 19 (2010) 287–449, section 10.
        """
        R, info = torch.linalg.inv_ex(self.value)
        n = R.shape[-1]
        if info.any():
            return None
        rest = Enclosure.identity(n) - Enclosure.of(R) @ self
        sums = (rest.value.abs() + rest.error).sum(-1, keepdim=True) * (1 + n * EPSILON)
        largest = sums.amax(-2, keepdim=True)
        if not (largest < 0.5).all():
            return None
        X = R @ other.value
        left = other - self @ Enclosure.of(X)
        V = R.abs() @ (left.value.abs() + left.error)
        error = (V + sums * V.amax(-2, keepdim=True) / (1 - largest)) * (1 + 4 * n * EPSILON) + TINY
        return Enclosure(X, error) if torch.isfinite(error).all() else None
