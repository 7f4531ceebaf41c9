"""The rectifier equation, to which every unit with one ReLU layer comes down: from a unit to (A, c), from s to x.

f(x) = x + W₂·relu(W₁x + b₁) + b₂ = y   ⇔   s + A·relu(s) = c,   A = W₁W₂,   c = W₁(y − b₂) + b₁,

with x = y − b₂ − W₂·relu(s). Preimages x correspond one to one to solutions s, since W₁x + b₁ = c − A·relu(s) = s.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

import torch
from torch import Tensor

from replication.checks import check_numbers, check_precision
from replication.maps.equation import RowEquation
from replication.operators import Product, Weighted, norm_estimate
from replication.resolvents import Resolvent

MATRIX_LIMIT = 2048  # order of A up to which methods that take apart a matrix of its own for every row make sense

Kind = TypeVar("Kind", bound="RectifierMap")


@dataclass(frozen=True)
class RectifierMap(ABC):
    """The map f(x) = x + W₂·relu(W₁x + b₁) + b₂, with f(x) = y the linear complementarity problem LCP(−c, I + A).

    Its kind, a subclass, says what W₁ and W₂ are, and so what is done with them.

    Attributes:
        W1: from inputs to preactivations.
        b1: bias, broadcast over the batch; one a row (batch, h) where W1 is batched.
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
        """Return s = W₁x + b₁, (batch, *hidden)."""
        return self.W1.affine(x, self.b1)

    def __call__(self, x: Tensor) -> Tensor:
        """Return f(x), like x (batch, *shape)."""
        # in place, since a tensor of this size costs more to allocate than to fill
        return x + self.W2.affine(self.preactivation(x).relu_(), self.b2)

    def select(self: Kind, rows: Tensor) -> Kind:
        """Keep the maps of these rows; a map that all rows share is kept as it is."""
        return self

    def slopes(self, x: Tensor) -> Tensor:
        """Return the diagonal of D in the Jacobian I + W₂DW₁ at x: 1 where the preactivation is positive, else 0."""
        return (self.preactivation(x) > 0).to(x.dtype)

    def linear(self: Kind) -> Kind:
        """Return the map without its biases, whose pieces are linear."""
        return replace(self, b1=torch.zeros_like(self.b1), b2=torch.zeros_like(self.b2))

    def adjoint(self: Kind) -> Kind:
        """Return a map without biases whose Jacobian with the same D is the transpose of this one's."""
        b1, b2 = torch.zeros_like(self.b1), torch.zeros_like(self.b2)
        return replace(self, W1=self.W2.adjoint(), b1=b1, W2=self.W1.adjoint(), b2=b2)

    def log_abs_det_jacobian(self, x: Tensor) -> Tensor:
        """Return log|det(I + W₂DW₁)| (batch,) at x (batch, *shape).

        At a kink the piece with D = 0 there is taken. NaN where W₂DW₁ overflows.

        Raises:
            TypeError: if x is of another dtype than float32 or float64.
            ValueError: if the map is too large for its matrix.
        """
        check_precision(x)
        return self.log_abs_det_of_piece(self.slopes(x))

    @abstractmethod
    def log_abs_det_of_piece(self, D: Tensor) -> Tensor:
        """Return log|det(I + W₂DW₁)| (batch,) for D (batch, *hidden)."""

    @property
    def order(self) -> int:
        """The number of hidden coordinates h, which is the order of A."""
        return math.prod(self.W1.codomain)

    @property
    def has_matrix(self) -> bool:
        """Whether A is small enough for methods that take it apart."""
        return self.order <= MATRIX_LIMIT

    def too_large(self) -> ValueError:
        """Return the refusal of what needs a matrix."""
        return ValueError(
            f"a unit with {self.order} hidden numbers is too large for methods and certificates that take its "
            f"matrix apart (at most {MATRIX_LIMIT}); use another solver, or smaller images"
        )

    @abstractmethod
    def matrix(self) -> Tensor:
        """Return A = W₁W₂ in float64: (h, h), or (batch, h, h) where W1 is batched.

        Raises:
            ValueError: if it is too large.
        """

    @abstractmethod
    def resolvent(self, shift: float, like: Tensor) -> Resolvent:
        """Return v ↦ (shift·I + A)⁻¹v, to be applied often to what has the batch, dtype and device of `like`.

        Raises:
            ValueError: if the unit is a large convolution that is neither circular nor a Gram unit.
        """

    def norm_estimate(self) -> float:
        """Estimate ‖A‖₂ in float64, converged from below to about six digits: to report, never a certificate."""
        return norm_estimate(Product(self.W1, self.W2))

    @cached_property
    @abstractmethod
    def norm_bound(self) -> Tensor:
        """An upper bound of ‖A‖₂, a scalar or (batch,)."""


@dataclass(frozen=True)
class RectifierEquation(RowEquation[RectifierMap]):
    """s + A·relu(s) = c, the equation f(x) = y in terms of the preactivation s.

    Attributes:
        map: f.
        y: outputs (batch, *shape).
    """

    @cached_property
    def c(self) -> Tensor:
        """The right-hand side (batch, *hidden), which methods that iterate on x need not know."""
        return self.map.preactivation(self.y - self.map.b2)

    def start(self) -> Tensor:
        """Return the point at which methods that iterate on x begin: y − b₂, which is right where nothing is active."""
        return self.y - self.map.b2

    def recover(self, z: Tensor) -> Tensor:
        """Return x = y − b₂ − W₂z for the rectified preactivation z = relu(s) (batch, *hidden)."""
        return self.y - self.map.b2 - self.map.W2(z)
