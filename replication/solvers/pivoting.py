"""Murty's least-index principal pivoting: single steps over the linear pieces."""

from __future__ import annotations

from dataclasses import dataclass

from replication.solvers.pieces import PieceWalk


@dataclass(frozen=True)
class Pivoting(PieceWalk):
    """Least-index pivoting: change the side of the last sign that disagrees, from S = ∅, until all agree.

    Then s is exact. Ends on every P-matrix, whatever c is. Not to be used where `Exact` will do: it takes n/2 steps
    and more, and exponentially many (2ⁿ − 1) in the worst case; where c lies on many kinks at once, rounding may make
    it cycle, and its status says so.

    Source: Murty, Linear Algebra Appl. 9 (1974) 65–108, with the order of the coordinates reversed.

    Args:
        max_iterations: bound of the number of pivots.

    >>> import torch
    >>> from replication import ResidualUnit
    >>> M = torch.tensor([[1.0, 0.0, 2.0], [2.0, 1.0, 0.0], [0.0, 2.0, 1.0]])  # where Newton's method may cycle
    >>> unit = ResidualUnit(torch.eye(3), torch.zeros(3), M - torch.eye(3), torch.zeros(3))
    >>> unit.inverse(unit(torch.tensor([[1.0, -2.0, 3.0]])).detach(), Pivoting()).value.round(decimals=3)
    tensor([[ 1., -2.,  3.]])
    """

    max_iterations: int = 100_000

    @property
    def patience(self) -> int:
        return 0
