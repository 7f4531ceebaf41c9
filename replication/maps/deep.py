"""The map of a unit with two ReLU layers whose middle matrix is the adjoint of the product of the outer ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from replication.activations import activation_of
from replication.maps.feed_forward import ActivationLayer, FeedForwardMap
from replication.maps.rectifier import MATRIX_LIMIT
from replication.operators import Product, Weighted
from replication.rows import row_norm

ROUNDING = 8  # margin for convolution algorithms that round more than plain sums


@dataclass(frozen=True)
class DeepMap:
    """The map of a deep unit, x + W₃·relu(W₂·relu(W₁x + b₁) + b₂) + b₃ with W₂ = (W₁W₃)ᵀ.

    Attributes:
        W1, W3: linear maps from inputs to the first ReLU, and from the second one to inputs.
        b1, b2, b3: biases that broadcast over rows.
    """

    W1: Weighted
    W3: Weighted
    b1: Tensor
    b2: Tensor
    b3: Tensor

    @property
    def W2(self) -> Product:
        """W₃ᵀW₁ᵀ, the adjoint of W₁W₃, as two maps one after the other."""
        return Product(self.W1, self.W3).adjoint()

    def affine(self, x: Tensor, free: Sequence[Tensor]) -> tuple[tuple[Tensor, ...], Tensor]:
        """Return both preactivations and the output for any outputs of the ReLU, as `FeedForwardMap` asks for."""
        first, second = free
        return (self.W1.affine(x, self.b1), self.W2(first) + self.b2), x + self.W3.affine(second, self.b3)

    def whole(self, x: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """Return both preactivations and the output f(x) of rows x."""
        s1 = self.W1.affine(x, self.b1)
        s2 = self.W2(s1.relu()) + self.b2
        return (s1, s2), x + self.W3.affine(s2.relu(), self.b3)

    def __call__(self, x: Tensor) -> Tensor:
        """Return f(x), like x (batch, *shape)."""
        return self.whole(x)[1]

    def select(self, rows: Tensor) -> DeepMap:
        """Return the map itself, which all rows share."""
        return self

    def feed_forward(self) -> FeedForwardMap:
        """Return the same map in the form that all branches of affine maps and activations have."""
        like = self.W1.weight
        shapes = (self.W1.codomain, self.W3.domain)
        activations = tuple(ActivationLayer(activation_of("relu"), shape) for shape in shapes)
        eps = torch.finfo(like.dtype).eps
        return FeedForwardMap(self, self, activations, self.W1.domain, like.dtype, like.device, eps)

    def jacobian(self, x: Tensor) -> Tensor:
        """Return Df(x) (batch, d, d) = I + W₃D₂W₂D₁W₁ in the order of flattened inputs, with the graph of the weights.

        Raises:
            ValueError: if d > MATRIX_LIMIT.
        """
        d = math.prod(self.W1.domain)
        if d > MATRIX_LIMIT:
            raise ValueError(f"the Jacobian of a map of {d} numbers is too large; take at most {MATRIX_LIMIT}")
        D1, D2 = ((s > 0).to(x).repeat_interleave(d, 0) for s in self.whole(x)[0])
        v = torch.eye(d, dtype=x.dtype, device=x.device).repeat(len(x), 1).unflatten(1, self.W1.domain)
        columns = v + self.W3(D2 * self.W2(D1 * self.W1(v)))
        jacobian: Tensor = columns.reshape(len(x), d, d).mT
        return jacobian

    def lifted(self, z: Tensor) -> Tensor:
        """Return Az for z (batch, n), A = [[0, W₁W₃], [−W₂, 0]]: f(x) = y is s + A·relu(s) = c in preactivations."""
        first, second = self.W1.codomain, self.W3.domain
        z1, z2 = z.split([math.prod(first), math.prod(second)], 1)
        parts = self.W1(self.W3(z2.unflatten(1, second))), -self.W2(z1.unflatten(1, first))
        return torch.cat([part.flatten(1) for part in parts], 1)

    def right_side(self, y: Tensor) -> Tensor:
        """Return c = (W₁(y − b₃) + b₁, b₂) (batch, n) for outputs y (batch, *shape)."""
        parts = self.W1.affine(y - self.b3, self.b1), self.b2.expand(len(y), *self.W3.domain)
        return torch.cat([part.flatten(1) for part in parts], 1)

    def recover(self, s: Tensor, y: Tensor) -> Tensor:
        """Return x = y − b₃ − W₃·relu(s₂) (batch, *shape) for preactivations s (batch, n)."""
        return y - self.W3.affine(s[:, -math.prod(self.W3.domain) :].relu().unflatten(1, self.W3.domain), self.b3)

    def inverse_lipschitz(self) -> Tensor:
        """Return 1 + ‖W₁‖·‖W₃‖/2, which bounds the Lipschitz constant of the inverse, with bounds of the norms."""
        return 1 + Product(self.W1, self.W3).norm_bound() / 2

    def rounding(self, x: Tensor, y: Tensor) -> Tensor:
        """Bound the rounding error of f(x) − y (batch,), by the number of terms in each sum times the largest size."""
        first, third = self.W1.absolute_bound(), self.W3.absolute_bound()
        b1, b2, b3 = (
            row_norm(bias.expand(shape)[None])
            for bias, shape in zip(
                (self.b1, self.b2, self.b3), (self.W1.codomain, self.W3.domain, self.W1.domain), strict=True
            )
        )
        second = first * third * (first * row_norm(x) + b1) + b2
        size = row_norm(x) + row_norm(y) + b3 + third * second
        return ROUNDING * (2 * self.W1.terms + 2 * self.W3.terms + 4) * torch.finfo(x.dtype).eps * size
