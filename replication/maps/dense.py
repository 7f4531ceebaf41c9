"""Rectifier maps of matrices: one that the whole batch shares, or one a row."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from replication.conditions import all_finite, spectral_norm
from replication.maps.rectifier import RectifierMap
from replication.operators import Dense
from replication.resolvents import DenseResolvent


@dataclass(frozen=True)
class DenseMap(RectifierMap):
    """f(x) = x + W₂·relu(W₁x + b₁) + b₂ with matrices W₁ (h, d) and W₂ (d, h), or (batch, h, d) and (batch, d, h).

    >>> f = DenseMap(Dense(torch.eye(2)), torch.zeros(2), Dense(3 * torch.eye(2)), torch.zeros(2))
    >>> f(torch.tensor([[1.0, -2.0]])), f.matrix().diag()
    (tensor([[ 4., -2.]]), tensor([3., 3.], dtype=torch.float64))
    """

    W1: Dense
    W2: Dense

    def select(self, rows: Tensor) -> DenseMap:
        if not self.W1.batched:
            return self
        return replace(self, W1=self.W1.select(rows), b1=self.b1[rows], W2=self.W2.select(rows), b2=self.b2[rows])

    def log_abs_det_of_piece(self, D: Tensor) -> Tensor:
        """Return log|det(I + W₂DW₁)| = log|det(I + DW₁W₂)| (batch,), by the smaller of the matrices."""
        W1, W2 = self.W1.weight, self.W2.weight
        h, d = W1.shape[-2:]
        return log_abs_det((W2 * D[:, None, :]) @ W1 if d <= h else D[:, :, None] * (W1 @ W2))

    @property
    def has_matrix(self) -> bool:
        """True: it is made of matrices, whatever their size."""
        return True

    def matrix(self) -> Tensor:
        return self.W1.weight.double() @ self.W2.weight.double()

    def resolvent(self, shift: float, like: Tensor) -> DenseResolvent:
        return DenseResolvent.of(self.W1.weight @ self.W2.weight, shift)

    @cached_property
    def norm_bound(self) -> Tensor:
        """‖A‖₂, exact to rounding."""
        return spectral_norm(self.W1.weight @ self.W2.weight)


def log_abs_det(change: Tensor) -> Tensor:
    """Return log|det(I + K)| (batch,) for K (batch, n, n), NaN where K is not finite."""
    identity = torch.eye(change.shape[-1], dtype=change.dtype, device=change.device)
    return torch.where(all_finite(change), torch.linalg.slogdet(identity + change).logabsdet, torch.nan)
