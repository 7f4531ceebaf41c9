"""The matrices of a feed-forward map, its equation in the preactivations, and the same with shifted activations."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class Matrices:
    """The matrices of a feed-forward map with d inputs and n preactivations.

    Attributes:
        C, B, b: (n, d), (n, n), (n,) with s = Cx + Bψ(s) + b.
        P, E, e: (d, d), (d, n), (d,) with f(x) = Px + Eψ(s) + e.
        shift: ψ(s) = φ(s) − shift·s, (n,).
    """

    C: Tensor
    B: Tensor
    P: Tensor
    E: Tensor
    b: Tensor
    e: Tensor
    shift: Tensor

    def shifted(self, slopes: Tensor) -> Matrices:
        """Return the same map with φ(s) − slopes·s in place of the activations φ(s), slopes (n,).

        Its P′ = P + E·diag(slopes)·(I − B·diag(slopes))⁻¹C is the Jacobian of the map where the slopes are these, and
        may be invertible where P is not.
        """
        more = slopes - self.shift
        identity = torch.eye(len(more), dtype=more.dtype, device=more.device)
        right = torch.cat([self.C, self.B, self.b[:, None]], 1)
        right = torch.linalg.solve_triangular(identity - self.B * more, right, upper=False, unitriangular=True)
        C, B, b = right.split([self.C.shape[1], len(more), 1], 1)
        E = self.E * more
        return Matrices(C, B, self.P + E @ C, self.E + E @ B, b[:, 0], self.e + E @ b[:, 0], slopes)

    @cached_property
    def factors(self) -> tuple[Tensor, Tensor]:
        """The LU factorization of P.

        Raises:
            ValueError: if P is singular to rounding.
        """
        condition = torch.linalg.cond(self.P, 1)
        if not condition * torch.finfo(self.P.dtype).eps < 1:
            raise ValueError(
                "the shortcut P is singular, so there is no equation in s alone; shift it to other slopes of the "
                "activations first, e.g. matrices().shifted((alpha + beta) / 2)"
            )
        LU, pivots = torch.linalg.lu_factor(self.P)
        return LU, pivots

    def equation(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return A (n, n) and c (batch, n) of s + Aψ(s) = c for outputs y (batch, d).

        Raises:
            ValueError: if P is singular.
        """
        A = self.C @ torch.linalg.lu_solve(*self.factors, self.E) - self.B
        c = torch.linalg.lu_solve(*self.factors, (y - self.e).mT).mT @ self.C.mT + self.b
        return A, c

    def recover(self, psi: Tensor, y: Tensor) -> Tensor:
        """Return x = P⁻¹(y − e − Eψ) (batch, d) for ψ(s) (batch, n) at a solution s of the equation.

        Raises:
            ValueError: if P is singular.
        """
        x: Tensor = torch.linalg.lu_solve(*self.factors, (y - self.e - psi @ self.E.mT).mT).mT
        return x
