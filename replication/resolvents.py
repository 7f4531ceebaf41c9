"""Solving with shifted maps: v ↦ (shift·I + K)⁻¹v, factorized, by Fourier transforms or by conjugate gradients."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from replication.conjugate_gradients import conjugate_gradients
from replication.operators import MATRIX_NUMBERS, Dense, Operator

FACTORIZED = 1024  # order up to which a matrix is always inverted once, not solved with anew at every step
ROW_SHARE = 200  # past it, the order that one more row makes an inversion worth while, as measured


class Resolvent(Protocol):
    """(shift·I + K)⁻¹ for a square map K."""

    @property
    def shift(self) -> float:
        """What is added to K's diagonal."""

    def __call__(self, v: Tensor) -> Tensor:
        """Solve (shift·I + K)u = v for rows v (batch, *shape)."""

    def select(self, rows: Tensor) -> Resolvent:
        """Keep the maps of these rows; a map that all rows share is kept as it is."""


def resolvent(K: Operator, shift: float, like: Tensor) -> Resolvent:
    """Return (shift·I + K)⁻¹ for a map of images by the cheapest of the methods below that is sure to work.

    Args:
        K: a square map that all rows share.
        shift: positive.
        like: what it is to be applied to: the number of rows, the dtype and the device.

    Raises:
        ValueError: if K is neither small, nor circular, nor symmetric.
    """
    if K.circular:
        return FourierResolvent.of(K, shift)
    order = math.prod(K.domain)
    if not K.symmetric or order <= FACTORIZED or order <= min(MATRIX_NUMBERS**0.5, ROW_SHARE * len(like)):
        if order <= FACTORIZED:
            return ImageResolvent(DenseResolvent.of(K.matrix(like), shift))
        factorize = FactorizedResolvent.of_symmetric if K.symmetric else FactorizedResolvent.of
        return ImageResolvent(factorize(K.matrix(like), shift))
    return IterativeResolvent(K, shift)


@dataclass(frozen=True)
class DenseResolvent:
    """(shift·I + K)⁻¹ as an explicit matrix, one a row where the maps are batched.

    One product applies it; what an explicit inverse loses in accuracy shows in the residual, which the loop checks.
    """

    inverse: Dense
    shift: float

    @staticmethod
    def of(K: Tensor, shift: float) -> DenseResolvent:
        return DenseResolvent(Dense(inverse_or_nan(shifted(K, shift))), shift)

    def __call__(self, v: Tensor) -> Tensor:
        return self.inverse(v)

    def select(self, rows: Tensor) -> DenseResolvent:
        return DenseResolvent(self.inverse.select(rows), self.shift)


@dataclass(frozen=True)
class FactorizedResolvent:
    """(shift·I + K)⁻¹ by a factorization: a third of an explicit inverse's work, a sixth for symmetric positive K.

    Each application takes as many operations as with the inverse, but pays for large matrices and many rows alone.

    Attributes:
        factor: LU, or Cholesky's lower triangle (n, n); NaN where the matrix is singular.
        pivots: of LU (n,), or None.
        shift: of the diagonal.
    """

    factor: Tensor
    pivots: Tensor | None
    shift: float

    @staticmethod
    def of(K: Tensor, shift: float) -> FactorizedResolvent:
        factor, pivots, singular = torch.linalg.lu_factor_ex(shifted(K, shift))
        return FactorizedResolvent(torch.full_like(factor, torch.nan) if singular else factor, pivots, shift)

    @staticmethod
    def of_symmetric(K: Tensor, shift: float) -> FactorizedResolvent:
        factor, failed = torch.linalg.cholesky_ex(shifted(K, shift))
        return FactorizedResolvent(torch.full_like(factor, torch.nan) if failed else factor, None, shift)

    def __call__(self, v: Tensor) -> Tensor:
        if self.pivots is None:
            # not by torch.cholesky_solve, which copies the factor every time: three times slower for fifty rows
            half = torch.linalg.solve_triangular(self.factor, v.mT, upper=False)
            solved: Tensor = torch.linalg.solve_triangular(self.factor.mT, half, upper=True).mT
        else:
            solved = torch.linalg.lu_solve(self.factor, self.pivots, v, left=False, adjoint=True)
        return solved

    def select(self, rows: Tensor) -> FactorizedResolvent:
        return self


@dataclass(frozen=True)
class ImageResolvent:
    """A resolvent of rows of numbers that acts on images, the same for all rows."""

    dense: DenseResolvent | FactorizedResolvent

    @property
    def shift(self) -> float:
        return self.dense.shift

    def __call__(self, v: Tensor) -> Tensor:
        return self.dense(v.flatten(1)).reshape(v.shape)

    def select(self, rows: Tensor) -> ImageResolvent:
        return self


@dataclass(frozen=True)
class CausalResolvent:
    """(shift·I + K)⁻¹ for a K that takes each pixel from itself and those before it: by substitution, unfactorized.

    Attributes:
        order: the pixels from the corner on (pixels,).
        own: the inverse of what the shifted map does to one pixel (channels, channels), NaN where there is none.
        triangle: own·(shift·I + K), pixels first, in this order, and channels after: of unit diagonal blocks (n, n).
        shift: of the diagonal.
    """

    order: Tensor
    own: Tensor
    triangle: Tensor
    shift: float

    @staticmethod
    def of(K: Tensor, shift: float, order: Tensor) -> CausalResolvent:
        """Take K's matrix (n, n), channels first, apart."""
        channels = len(K) // len(order)
        blocks = shifted(K, shift).reshape(channels, len(order), channels, len(order)).permute(1, 0, 3, 2)
        blocks = blocks[order][:, :, order]
        own = inverse_or_nan(blocks[0, :, 0])
        return CausalResolvent(order, own, (own @ blocks.flatten(2)).reshape(len(K), len(K)), shift)

    def __call__(self, v: Tensor) -> Tensor:
        rows = (v.flatten(2)[:, :, self.order].mT @ self.own.mT).flatten(1)
        solved = torch.linalg.solve_triangular(self.triangle, rows.mT, upper=False, unitriangular=True).mT
        u = v.new_empty(v.flatten(2).shape)
        u[:, :, self.order] = solved.reshape(len(v), len(self.order), -1).mT
        return u.reshape(v.shape)

    def select(self, rows: Tensor) -> CausalResolvent:
        return self


@dataclass(frozen=True)
class FourierResolvent:
    """(shift·I + K)⁻¹ for a circular convolution K, or a product of such: a small matrix for every frequency.

    Exact to rounding. As a preconditioner for zero padding it does not pay: it saves 15 to 35 % of the steps of
    conjugate gradients, whatever the condition, and more than doubles the time of each.

    Attributes:
        inverses: (height, width//2 + 1, channels, channels).
        shift: of the diagonal.
    """

    inverses: Tensor
    shift: float

    @staticmethod
    def of(K: Operator, shift: float) -> FourierResolvent:
        symbols = K.symbols()
        identity = torch.eye(symbols.shape[-1], dtype=symbols.dtype, device=symbols.device)
        return FourierResolvent(inverse_or_nan(symbols + shift * identity), shift)

    def __call__(self, v: Tensor) -> Tensor:
        transform = torch.fft.rfft2(v).permute(2, 3, 1, 0)  # (height, frequencies, channels, rows)
        solved = (self.inverses @ transform).permute(3, 2, 0, 1)
        x: Tensor = torch.fft.irfft2(solved, s=v.shape[-2:])
        return x

    def select(self, rows: Tensor) -> FourierResolvent:
        return self


@dataclass(frozen=True)
class IterativeResolvent:
    """(shift·I + K)⁻¹ for a symmetric positive semi-definite K, by conjugate gradients to the accuracy of the dtype.

    Attributes:
        K: the map.
        shift: positive.
    """

    K: Operator
    shift: float

    def __call__(self, v: Tensor) -> Tensor:
        return conjugate_gradients(lambda u: self.shift * u + self.K(u), v, 4 * torch.finfo(v.dtype).eps)[0]

    def select(self, rows: Tensor) -> IterativeResolvent:
        return self


@dataclass(frozen=True)
class WoodburyResolvent:
    """(shift·I + W₁W₂)⁻¹ = (I − W₁(shift·I + W₂W₁)⁻¹W₂)/shift.

    The inner map acts on inputs, which a convolution with more hidden than input channels makes the smaller ones.
    """

    W1: Operator
    W2: Operator
    inner: Resolvent

    @property
    def shift(self) -> float:
        return self.inner.shift

    def __call__(self, v: Tensor) -> Tensor:
        return self.with_inputs(v, self.W2(v))[0]

    def with_inputs(self, v: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return u = (shift·I + W₁W₂)⁻¹v and W₂u = (shift·I + W₂W₁)⁻¹W₂v, given W₂v too."""
        solved = self.inner(inputs)
        return (v - self.W1(solved)) / self.shift, solved

    def select(self, rows: Tensor) -> WoodburyResolvent:
        return self  # all rows share it


def shifted(K: Tensor, shift: float) -> Tensor:
    """Return shift·I + K for matrices (..., n, n)."""
    sum_ = K.clone()
    sum_.diagonal(dim1=-2, dim2=-1).add_(shift)
    return sum_


def inverse_or_nan(matrix: Tensor) -> Tensor:
    """Invert square matrices (..., n, n); a singular one becomes NaN, which the loop reports as not finite."""
    inverse, singular = torch.linalg.inv_ex(matrix)
    return torch.where((singular != 0)[..., None, None], torch.nan, inverse)
