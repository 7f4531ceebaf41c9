"""Newton's method on the rectifier equation: block steps over its linear pieces."""

from __future__ import annotations

from dataclasses import dataclass

from replication.solvers.pieces import PieceWalk


@dataclass(frozen=True)
class Newton(PieceWalk):
    """Block principal pivoting: solve (I + A·D)s ← c with D = diag(s > 0), from s = c, until the signs repeat.

    Then s is exact. Two to five steps in practice. Not to be relied on: on P-matrices of order 3 and more it may
    cycle, and it stops at a singular piece.

    For units with a matrix; for larger ones there are `NewtonCG` (Gram units) and `NewtonSubstitution` (causal units).

    Source: Kostreva, Linear Algebra Appl. 21 (1978) 263–274 (block principal pivoting); as a semismooth Newton method
    for the equivalent absolute value equation Mangasarian, Optim. Lett. 3 (2009) 101–108.

    Args:
        max_iterations: bound of the number of linear systems solved.

    >>> import torch
    >>> from replication import ResidualUnit
    >>> unit = ResidualUnit(torch.eye(2), torch.zeros(2), 3 * torch.eye(2), torch.zeros(2))  # x + 3·relu(x)
    >>> unit.inverse(torch.tensor([[4.0, -2.0]]), Newton()).value.round(decimals=3)
    tensor([[ 1., -2.]])
    """

    max_iterations: int = 1000

    @property
    def patience(self) -> int:
        return -1
