"""Matrices, one that the whole batch shares or one a row, and how far what is computed of them may be off."""

from __future__ import annotations

import torch
from torch import Tensor

from replication.operators.operator import Weighted
from replication.rows import row_norm


class Dense(Weighted):
    """A matrix (h, d) that all rows share, or one matrix a row (batch, h, d)."""

    def __init__(self, matrix: Tensor) -> None:
        self.weight = matrix
        self.terms = matrix.shape[-1]
        self.codomain, self.domain = (matrix.shape[-2],), (matrix.shape[-1],)

    @property
    def batched(self) -> bool:
        return self.weight.ndim == 3

    def __call__(self, v: Tensor) -> Tensor:
        if self.batched:
            return torch.bmm(self.weight, v.unsqueeze(-1)).squeeze(-1)
        return v @ self.weight.mT

    def adjoint(self) -> Dense:
        return Dense(self.weight.mT)

    def select(self, rows: Tensor) -> Dense:
        return Dense(self.weight[rows]) if self.batched else self

    def norm_bound(self) -> Tensor:
        norm: Tensor = torch.linalg.matrix_norm(self.weight, ord=2)
        return norm + rounding_margin(self.weight)

    def absolute_bound(self) -> Tensor:
        size = self.weight.abs()
        return size.sum(-1).amax(-1).sqrt() * size.sum(-2).amax(-1).sqrt()


def rounding_margin(matrix: Tensor) -> Tensor:
    """Return how far a computed singular value or symmetric eigenvalue of (..., m, n) may be off, (...,).

    max(m, n)·ε·‖·‖_F, which covers the backward error of the LAPACK drivers, and what underflow may take.
    """
    limits = torch.finfo(matrix.dtype)
    return max(matrix.shape[-2:]) * limits.eps * frobenius_norm(matrix) + limits.tiny


def frobenius_norm(matrix: Tensor) -> Tensor:
    """Return ‖·‖_F of matrices (..., m, n), (...,), also where squares would over- or underflow."""
    return row_norm(matrix.reshape(-1, *matrix.shape[-2:])).reshape(matrix.shape[:-2])
