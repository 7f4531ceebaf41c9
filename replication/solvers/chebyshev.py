"""Chebyshev semi-iteration for Gram units: as few steps as the norm of A allows, and no inner products."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from replication.maps import ConvolutionalMap, RectifierEquation
from replication.rows import column, row_norm, rows_at_once
from replication.solvers.coarse import CORRECTIONS, CoarseChebyshev, saves_time
from replication.solvers.iteration import FixedPoint, iterate
from replication.solvers.method import GramMethod
from replication.solvers.solution import Solution, completed, joined

AT_ONCE = 2**18  # numbers of the rows solved at a time, which stay in the cache with what is made from them


@dataclass(frozen=True)
class ChebyshevState:
    """The iterate, the last change, its weight ρ and the residual at the last start; the rest are bounds.

    Attributes:
        x: like y.
        change: like y.
        weight: ρ (batch,).
        ceiling: ‖f(x) − y‖ when the row last started (batch,).
        centre, radius: of the interval [1, 1 + ‖A‖] that holds the eigenvalues of every Jacobian (batch,).
    """

    x: Tensor
    change: Tensor
    weight: Tensor
    ceiling: Tensor
    centre: Tensor
    radius: Tensor


@dataclass(frozen=True)
class Chebyshev(GramMethod, FixedPoint):
    """Iterate x ← x + ρₖρₖ₋₁·Δx − (2ρₖ/δ)·(f(x) − y), with Chebyshev's weights ρ for the interval [1, 1 + ‖A‖].

    For units with W₂ = W₁ᵀ, whose Jacobians I + W₁ᵀDW₁ are symmetric with eigenvalues in that interval, θ ± δ. Where
    the piece no longer changes, the error falls by (√κ − 1)/(√κ + 1) a step, κ = 1 + ‖A‖: 1/3 for ‖A‖ = 3. A row
    whose residual exceeds that of its start, which cannot be within one piece, starts again with a gradient step, which
    leaves at most ‖A‖/(2 + ‖A‖) of it. For convolutions ‖A‖ is a rigorous upper bound, for matrices exact to rounding.
    Not for other units: it refuses them.

    Convolutions in float32 with ‖A‖ up to 8 are first given a few corrections, each of some such steps in bfloat16
    between residuals in float32 (`CoarseChebyshev`), on processors that are several times faster so. An iteration is a
    correction then, evaluations are those in either precision, and rows that need more than CORRECTIONS start again in
    float32.

    Source: Golub and Varga, Numer. Math. 3 (1961) 147–156.

    Args:
        max_iterations, patience: as for every solver (`Solver`).

    >>> from replication import MonotoneConvUnit
    >>> unit = MonotoneConvUnit(1, 2).double()
    >>> unit.inverse(torch.ones(2, 1, 4, 4, dtype=torch.float64), Chebyshev()).converged
    tensor([True, True])
    """

    max_iterations: int = 10_000
    patience: int = 500

    def solve(self, equation: RectifierEquation, tolerance: float) -> Solution:
        """Iterate as many rows at a time as stay in the cache."""
        self.check(equation.map)
        rows = rows_at_once(equation.y, numbers=AT_ONCE)
        if len(equation.y) <= rows or not isinstance(equation.map, ConvolutionalMap):
            return self.solve_part(equation, tolerance)
        parts = (RectifierEquation(equation.map, y) for y in equation.y.split(rows))
        return joined([self.solve_part(part, tolerance) for part in parts])

    def solve_part(self, equation: RectifierEquation, tolerance: float) -> Solution:
        """Iterate; in bfloat16 first where that saves time, and from the start for the rows that it leaves."""
        if not saves_time(equation):
            return iterate(equation, self, tolerance)
        quick = CoarseChebyshev(max_iterations=min(CORRECTIONS, self.max_iterations))
        solution = iterate(equation, quick, tolerance)
        left = (~solution.converged).nonzero().squeeze(1)
        return completed(solution, left, iterate(equation.select(left), self, tolerance))

    def init(self, equation: RectifierEquation) -> ChebyshevState:
        x = equation.y - equation.map.b2
        norm = equation.map.norm_bound.to(x).expand(len(x))
        radius = (norm / 2).clamp_min(torch.finfo(x.dtype).eps)
        zero = torch.zeros_like(norm)
        return ChebyshevState(x, torch.zeros_like(x), zero, torch.full_like(zero, torch.inf), 1 + norm / 2, radius)

    def point(self, equation: RectifierEquation, state: ChebyshevState) -> Tensor:
        return state.x

    def step(self, equation: RectifierEquation, state: ChebyshevState, x: Tensor, residual: Tensor) -> ChebyshevState:
        size = row_norm(residual)
        start = state.radius / state.centre
        anew = ~(size <= state.ceiling) | (state.weight == 0)
        weight = torch.where(anew, start, 1 / (2 / start - state.weight))
        keep = torch.where(anew, 0, weight * state.weight)
        move = torch.where(anew, 1 / state.centre, 2 * weight / state.radius)
        change = state.change.mul_(column(keep, x)).addcmul_(column(move, x), residual, value=-1)
        return ChebyshevState(
            x + change, change, weight, torch.where(anew, size, state.ceiling), state.centre, state.radius
        )
