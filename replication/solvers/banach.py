"""The existing method: fixed-point iteration (Banach) of x ↦ y − g(x), where f(x) = x + g(x)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from replication.kernels.fixed_points import banach_rows
from replication.maps import RectifierEquation
from replication.solvers.iteration import FixedPoint
from replication.solvers.method import GeneralMethod
from replication.solvers.small_units import are_small, iterate_small
from replication.solvers.solution import Solution


@dataclass(frozen=True)
class BanachState:
    """The iterate x, like y."""

    x: Tensor


@dataclass(frozen=True)
class Banach(GeneralMethod, FixedPoint):
    """Fixed-point iteration: x ← y − g(x) from x = y.

    Converges linearly, at the rate Lip(g), if Lip(g) < 1. Not to be used beyond: it may converge there, cycle or
    diverge.

    Source: Behrmann et al., ICML 2019, arXiv 1811.00995, algorithm 1 (assumption A4).

    Args:
        max_iterations, patience: as for every solver (`Solver`).

    >>> import torch
    >>> from replication import ResidualUnit
    >>> unit = ResidualUnit(torch.eye(2), torch.zeros(2), torch.eye(2) / 2, torch.zeros(2))  # x + relu(x)/2
    >>> unit.inverse(torch.tensor([[3.0, -1.0]]), Banach()).value.round(decimals=3)
    tensor([[ 2., -1.]])
    """

    max_iterations: int = 10_000
    patience: int = 500

    def init(self, equation: RectifierEquation) -> BanachState:
        return BanachState(equation.y)

    def point(self, equation: RectifierEquation, state: BanachState) -> Tensor:
        return state.x

    def step(self, equation: RectifierEquation, state: BanachState, x: Tensor, residual: Tensor) -> BanachState:
        return BanachState(x - residual)  # y − g(x) = x − (f(x) − y)

    def solve(self, equation: RectifierEquation, tolerance: float) -> Solution:
        """Iterate every row until it converges or is known to fail (`iterate`); small units row by row, compiled."""
        if not are_small(equation):
            return super().solve(equation, tolerance)
        return iterate_small(equation, self, tolerance, lambda own, *arguments: banach_rows(*arguments))
