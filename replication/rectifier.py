"""The rectifier equation, to which every unit with one ReLU layer comes down: from a unit to (A, c), from s to x.

f(x) = x + W₂·relu(W₁x + b₁) + b₂ = y   ⇔   s + A·relu(s) = c,   A = W₁W₂,   c = W₁(y − b₂) + b₁,

with x = y − b₂ − W₂·relu(s). Preimages x correspond one to one to solutions s, since W₁x + b₁ = c − A·relu(s) = s.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from replication.operators import Dense, Operator

DENSE_LIMIT = 8192  # a square float64 matrix of this order takes 512 MiB
MATRIX_LIMIT = 2048  # order of A up to which methods that take apart a matrix of its own for every row make sense


@dataclass(frozen=True)
class RectifierMap:
    """The map f(x) = x + W₂·relu(W₁x + b₁) + b₂ as solvers and certificates see it.

    Attributes:
        W1: from inputs to preactivations.
        b1: bias, broadcast over rows; one a row (rows, h) where W1 is batched.
        W2: from rectified preactivations to inputs.
        b2: bias, as b1.
        gram: whether W₂ = W₁ᵀ, so that A is symmetric positive semi-definite.
    """

    W1: Operator
    b1: Tensor
    W2: Operator
    b2: Tensor
    gram: bool = False

    def preactivation(self, x: Tensor) -> Tensor:
        """Return s = W₁x + b₁, (rows, *hidden)."""
        return self.W1(x) + self.b1

    def __call__(self, x: Tensor) -> Tensor:
        """Return f(x), like x (rows, *shape)."""
        return x + self.W2(torch.relu(self.preactivation(x))) + self.b2

    def select(self, rows: Tensor) -> RectifierMap:
        """Keep the maps of these rows."""
        if not self.W1.batched:
            return self
        return replace(self, W1=self.W1.select(rows), b1=self.b1[rows], W2=self.W2.select(rows), b2=self.b2[rows])

    def slopes(self, x: Tensor) -> Tensor:
        """Return the diagonal of D in the Jacobian I + W₂DW₁ at x: 1 where the preactivation is positive, else 0."""
        return (self.preactivation(x) > 0).to(x.dtype)

    def log_abs_det_jacobian(self, x: Tensor) -> Tensor:
        """Return log|det(I + W₂DW₁)| (rows,) at x (rows, d), for dense units, by the smaller of two matrices.

        det(I + W₂DW₁) = det(I + DW₁W₂); at a kink the piece with D = 0 there is taken.
        """
        W1, W2 = self.W1, self.W2
        assert isinstance(W1, Dense)
        assert isinstance(W2, Dense)
        D = self.slopes(x)
        h, d = W1.matrix.shape[-2:]
        change = (W2.matrix * D[:, None, :]) @ W1.matrix if d <= h else D[:, :, None] * (W1.matrix @ W2.matrix)
        identity = torch.eye(min(h, d), dtype=x.dtype, device=x.device)
        return torch.linalg.slogdet(identity + change).logabsdet

    def matrix(self) -> Tensor:
        """Return A = W₁W₂ in float64: (h, h), or (rows, h, h) where W1 is batched.

        Raises:
            ValueError: if the unit is a convolution with more than MATRIX_LIMIT hidden numbers.
        """
        if isinstance(self.W1, Dense) and isinstance(self.W2, Dense):
            return self.W1.matrix.double() @ self.W2.matrix.double()
        order = math.prod(self.W1.codomain)
        if order > MATRIX_LIMIT:
            raise ValueError(
                f"a unit with {order} hidden numbers is too large for methods and certificates that take its matrix "
                f"apart (at most {MATRIX_LIMIT}); use another solver, or smaller images"
            )
        identity = torch.eye(order, dtype=self.b1.dtype, device=self.b1.device)
        columns = self.W1(self.W2(identity.reshape(order, *self.W1.codomain)))
        return columns.reshape(order, order).mT.double()

    def norm_bound(self) -> Tensor:
        """Bound ‖A‖₂ from above: exactly (to rounding) for matrices, by ‖W₁‖·‖W₂‖ for convolutions."""
        if isinstance(self.W1, Dense) and isinstance(self.W2, Dense):
            return torch.linalg.matrix_norm(self.W1.matrix @ self.W2.matrix, ord=2)
        return self.W1.norm_bound() ** 2 if self.gram else self.W1.norm_bound() * self.W2.norm_bound()


@dataclass(frozen=True)
class RectifierEquation:
    """s + A·relu(s) = c, the equation f(x) = y in terms of the preactivation s.

    Attributes:
        map: f.
        y: outputs (rows, *shape).
        c: right-hand side (rows, *hidden).
    """

    map: RectifierMap
    y: Tensor
    c: Tensor

    @staticmethod
    def of(rectifier_map: RectifierMap, y: Tensor) -> RectifierEquation:
        """Pose f(x) = y."""
        return RectifierEquation(rectifier_map, y, rectifier_map.preactivation(y - rectifier_map.b2))

    def select(self, rows: Tensor) -> RectifierEquation:
        """Keep these rows."""
        return RectifierEquation(self.map.select(rows), self.y[rows], self.c[rows])

    def residual(self, x: Tensor) -> Tensor:
        """Return f(x) − y, like x."""
        return self.map(x) - self.y

    def recover(self, z: Tensor) -> Tensor:
        """Return x = y − b₂ − W₂z for the rectified preactivation z = relu(s) (rows, *hidden)."""
        return self.y - self.map.b2 - self.map.W2(z)

    def resolvent(self, shift: float) -> Resolvent:
        """Factorize v ↦ (shift·I + A)⁻¹v once, to apply it often.

        Raises:
            ValueError: if the unit is a convolution whose inputs have more than DENSE_LIMIT numbers.
        """
        W1, W2 = self.map.W1, self.map.W2
        if isinstance(W1, Dense) and isinstance(W2, Dense):
            return DenseResolvent.of(W1.matrix @ W2.matrix, shift)
        return WoodburyResolvent.of(W1, W2, shift, like=self.y)


@dataclass(frozen=True)
class DenseResolvent:
    """(shift·I + A)⁻¹ as an explicit matrix, one a row where the units are batched.

    One product applies it; what an explicit inverse loses in accuracy shows in the residual, which the loop checks.
    """

    inverse: Dense
    shift: float

    @staticmethod
    def of(A: Tensor, shift: float) -> DenseResolvent:
        identity = torch.eye(A.shape[-1], dtype=A.dtype, device=A.device)
        return DenseResolvent(Dense(inverse_or_nan(A + shift * identity)), shift)

    def __call__(self, v: Tensor) -> Tensor:
        return self.inverse(v)

    def select(self, rows: Tensor) -> DenseResolvent:
        return DenseResolvent(self.inverse.select(rows), self.shift)


@dataclass(frozen=True)
class WoodburyResolvent:
    """(shift·I + W₁W₂)⁻¹ = (I − W₁(shift·I + W₂W₁)⁻¹W₂)/shift, with the inner inverse as an explicit matrix.

    The inner matrix has the order of the input, which a convolution with more hidden than input channels makes the
    smaller one.
    """

    W1: Operator
    W2: Operator
    inner: Dense
    shift: float

    @staticmethod
    def of(W1: Operator, W2: Operator, shift: float, like: Tensor) -> WoodburyResolvent:
        order = math.prod(W1.domain)
        if order > DENSE_LIMIT:
            raise ValueError(
                f"an input of {order} numbers is too large for the modulus method, which factorizes a matrix of that "
                f"order (at most {DENSE_LIMIT}); use another solver, or smaller images"
            )
        identity = torch.eye(order, dtype=like.dtype, device=like.device)
        columns = W2(W1(identity.reshape(order, *W1.domain))).reshape(order, order)
        return WoodburyResolvent(W1, W2, Dense(inverse_or_nan(columns.mT + shift * identity)), shift)

    def __call__(self, v: Tensor) -> Tensor:
        image = self.W2(v)
        solved = self.inner(image.flatten(1)).reshape(image.shape)
        return (v - self.W1(solved)) / self.shift

    def select(self, rows: Tensor) -> WoodburyResolvent:
        return self  # all rows share it


Resolvent = DenseResolvent | WoodburyResolvent


def inverse_or_nan(matrix: Tensor) -> Tensor:
    """Invert square matrices (..., n, n); a singular one becomes NaN, which the loop reports as not finite."""
    inverse, singular = torch.linalg.inv_ex(matrix)
    return torch.where((singular != 0)[..., None, None], torch.nan, inverse)
