"""The rectifier equation, to which every unit with one ReLU layer comes down: from a unit to (A, c), from s to x.

f(x) = x + W₂·relu(W₁x + b₁) + b₂ = y   ⇔   s + A·relu(s) = c,   A = W₁W₂,   c = W₁(y − b₂) + b₁,

with x = y − b₂ − W₂·relu(s). Preimages x correspond one to one to solutions s, since W₁x + b₁ = c − A·relu(s) = s.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from replication.checks import check_numbers, check_precision
from replication.conditions import all_finite, spectral_norm
from replication.operators import CORNERS, Convolution, Dense, Gram, Operator, Product, Weighted, norm_estimate
from replication.resolvents import Resolvent, WoodburyResolvent, resolvent

MATRIX_LIMIT = 2048  # order of A up to which methods that take apart a matrix of its own for every row make sense


@dataclass(frozen=True)
class RectifierMap:
    """The map f(x) = x + W₂·relu(W₁x + b₁) + b₂, with f(x) = y the linear complementarity problem LCP(−c, I + A).

    Attributes:
        W1: from inputs to preactivations.
        b1: bias, broadcast over rows; one a row (rows, h) where W1 is batched.
        W2: from rectified preactivations to inputs.
        b2: bias, as b1.
        gram: whether W₂ = W₁ᵀ, so that A is symmetric positive semi-definite.
    """

    W1: Weighted
    b1: Tensor
    W2: Weighted
    b2: Tensor
    gram: bool = False

    def check(self) -> None:
        """Refuse weights that inverses and certificates cannot work with.

        Raises:
            TypeError: if a weight is of another dtype than float32 or float64.
            ValueError: if a weight is not finite.
        """
        check_numbers(W1=self.W1.weight, b1=self.b1, W2=self.W2.weight, b2=self.b2)

    def preactivation(self, x: Tensor) -> Tensor:
        """Return s = W₁x + b₁, (rows, *hidden)."""
        return self.W1.affine(x, self.b1)

    def __call__(self, x: Tensor) -> Tensor:
        """Return f(x), like x (rows, *shape)."""
        # in place, since a tensor of this size costs more to allocate than to fill
        return x + self.W2.affine(self.preactivation(x).relu_(), self.b2)

    def select(self, rows: Tensor) -> RectifierMap:
        """Keep the maps of these rows."""
        if not self.W1.batched:
            return self
        return replace(self, W1=self.W1.select(rows), b1=self.b1[rows], W2=self.W2.select(rows), b2=self.b2[rows])

    def slopes(self, x: Tensor) -> Tensor:
        """Return the diagonal of D in the Jacobian I + W₂DW₁ at x: 1 where the preactivation is positive, else 0."""
        return (self.preactivation(x) > 0).to(x.dtype)

    @property
    def causal(self) -> bool:
        """Whether both maps are convolutions padded at the same corner.

        From that corner on, row by row, A is then block lower triangular, with equal diagonal blocks: those of `pixel`.

        Source: paper B, abstract (convolutional blocks with certain zero padding; assumption A7).
        """
        W1, W2 = self.W1, self.W2
        if not (isinstance(W1, Convolution) and isinstance(W2, Convolution)):
            return False
        return W1.padding == W2.padding and W1.padding in CORNERS

    def pixel(self) -> RectifierMap:
        """Return what a causal map does to one pixel where those that it sees are zero, for pixels (rows, channels)."""
        W1, W2 = self.W1, self.W2
        assert isinstance(W1, Convolution)
        assert isinstance(W2, Convolution)
        gram = torch.equal(W2.aligned, W1.aligned.mT)
        return RectifierMap(Dense(W1.aligned), self.b1.flatten(), Dense(W2.aligned), self.b2.flatten(), gram)

    def adjoint(self) -> RectifierMap:
        """Return a map without biases whose Jacobian with the same D is the transpose of this one's."""
        b1, b2 = torch.zeros_like(self.b1), torch.zeros_like(self.b2)
        return RectifierMap(self.W2.adjoint(), b1, self.W1.adjoint(), b2, self.gram)

    def log_abs_det_jacobian(self, x: Tensor) -> Tensor:
        """Return log|det(I + W₂DW₁)| (rows,) at x (rows, *shape), for dense and causal units; the latter's is a sum
        over pixels.

        At a kink the piece with D = 0 there is taken. NaN where W₂DW₁ overflows.

        Raises:
            TypeError: if x is of another dtype than float32 or float64.
        """
        check_precision(x)
        D = self.slopes(x)
        if not self.causal:
            return self.log_abs_det_of_piece(D)
        of_pixels = self.pixel().log_abs_det_of_piece(D.movedim(1, -1).flatten(0, 2))
        return of_pixels.reshape(len(x), *x.shape[2:]).sum((1, 2))

    def log_abs_det_of_piece(self, D: Tensor) -> Tensor:
        """Return log|det(I + W₂DW₁)| = log|det(I + DW₁W₂)| (rows,) for D (rows, h), by the smaller of the matrices."""
        W1, W2 = self.W1, self.W2
        assert isinstance(W1, Dense)
        assert isinstance(W2, Dense)
        h, d = W1.weight.shape[-2:]
        change = (W2.weight * D[:, None, :]) @ W1.weight if d <= h else D[:, :, None] * (W1.weight @ W2.weight)
        identity = torch.eye(min(h, d), dtype=D.dtype, device=D.device)
        return torch.where(all_finite(change), torch.linalg.slogdet(identity + change).logabsdet, torch.nan)

    @property
    def order(self) -> int:
        """The number of hidden coordinates h, which is the order of A."""
        return math.prod(self.W1.codomain)

    def matrix(self) -> Tensor:
        """Return A = W₁W₂ in float64: (h, h), or (rows, h, h) where W1 is batched.

        Raises:
            ValueError: if the unit is a convolution with more than MATRIX_LIMIT hidden numbers.
        """
        if isinstance(self.W1, Dense) and isinstance(self.W2, Dense):
            return self.W1.weight.double() @ self.W2.weight.double()
        if self.order > MATRIX_LIMIT:
            raise ValueError(
                f"a unit with {self.order} hidden numbers is too large for methods and certificates that take its "
                f"matrix apart (at most {MATRIX_LIMIT}); use another solver, or smaller images"
            )
        return Product(self.W1, self.W2).matrix(self.b1).double()

    def norm_estimate(self) -> float:
        """Estimate ‖A‖₂ in float64, converged from below to about six digits: to report, never a certificate."""
        return norm_estimate(Product(self.W1, self.W2))

    @cached_property
    def norm_bound(self) -> Tensor:
        """An upper bound of ‖A‖₂: exactly (to rounding) for matrices, by ‖W₁‖·‖W₂‖ for convolutions."""
        if isinstance(self.W1, Dense) and isinstance(self.W2, Dense):
            return spectral_norm(self.W1.weight @ self.W2.weight)
        return (Gram(self.W1) if self.gram else Product(self.W1, self.W2)).norm_bound()


@dataclass(frozen=True)
class RectifierEquation:
    """s + A·relu(s) = c, the equation f(x) = y in terms of the preactivation s.

    Attributes:
        map: f.
        y: outputs (rows, *shape).
    """

    map: RectifierMap
    y: Tensor

    @cached_property
    def c(self) -> Tensor:
        """The right-hand side (rows, *hidden), which methods that iterate on x need not know."""
        return self.map.preactivation(self.y - self.map.b2)

    def select(self, rows: Tensor) -> RectifierEquation:
        """Keep these rows."""
        return RectifierEquation(self.map.select(rows), self.y[rows])

    def residual(self, x: Tensor) -> Tensor:
        """Return f(x) − y, like x."""
        return self.map(x) - self.y

    def recover(self, z: Tensor) -> Tensor:
        """Return x = y − b₂ − W₂z for the rectified preactivation z = relu(s) (rows, *hidden)."""
        return self.y - self.map.b2 - self.map.W2(z)

    def resolvent(self, shift: float) -> Resolvent:
        """Return v ↦ (shift·I + A)⁻¹v, to be applied often.

        Raises:
            ValueError: if the unit is a large convolution that is neither circular nor a Gram unit.
        """
        W1, W2 = self.map.W1, self.map.W2
        if isinstance(W1, Dense) and isinstance(W2, Dense):
            return resolvent(Dense(W1.weight @ W2.weight), shift, like=self.y)
        inner: Operator = Gram(W1) if self.map.gram else Product(W2, W1)
        return WoodburyResolvent(W1, W2, resolvent(inner, shift, like=self.y))
