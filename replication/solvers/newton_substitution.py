"""Newton's method with substitution, for causal units of any size."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from replication.maps import RectifierEquation
from replication.solvers.iteration import FixedPoint, iterate
from replication.solvers.method import CausalMethod
from replication.solvers.solution import Solution
from replication.solvers.sweeps import solve_jacobian


@dataclass(frozen=True)
class NewtonSubstitutionState:
    """The iterate.

    Attributes:
        x: like y.
        sweeps: in the last step (batch,).
    """

    x: Tensor
    sweeps: Tensor


@dataclass(frozen=True)
class NewtonSubstitution(CausalMethod, FixedPoint):
    """Iterate x ← x − p with (I + W₂DW₁)p = f(x) − y, D = diag(W₁x + b₁ > 0), each system solved by one sweep.

    For causal units. A pixel's steps are those of Newton's method on its own equation
    once the pixels before it are right: a few for every pixel at most, and in practice a few for the whole image. Like
    `Newton` it may cycle, if the pixel's equation has an order of 3 or more. Not for other units: it refuses them.

    Source: paper B, abstract (inverse algorithms; reconstructed, assumption A8); Qi and Sun, Math. Program. 58 (1993)
    353–367 (semismooth equations).

    Args:
        max_iterations, patience: as for every solver (`Solver`).

    >>> import torch
    >>> from replication import MonotoneCausalConvUnit
    >>> unit = MonotoneCausalConvUnit(1, 2).double()
    >>> unit.inverse(torch.ones(2, 1, 4, 4, dtype=torch.float64), NewtonSubstitution()).converged
    tensor([True, True])
    """

    max_iterations: int = 200
    patience: int = 50

    def solve(self, equation: RectifierEquation, tolerance: float) -> Solution:
        self.check(equation.map)
        return iterate(equation, self, tolerance, divergence_factor=math.inf)

    def init(self, equation: RectifierEquation) -> NewtonSubstitutionState:
        sweeps = torch.zeros(len(equation.y), dtype=torch.long, device=equation.y.device)
        return NewtonSubstitutionState(equation.start(), sweeps)

    def point(self, equation: RectifierEquation, state: NewtonSubstitutionState) -> Tensor:
        return state.x

    def step(
        self, equation: RectifierEquation, state: NewtonSubstitutionState, x: Tensor, residual: Tensor
    ) -> NewtonSubstitutionState:
        causal = self.causal(equation)
        active = causal.preactivation(x) > 0
        return NewtonSubstitutionState(x - solve_jacobian(causal, active, residual), torch.ones_like(state.sweeps))

    def work(self, state: NewtonSubstitutionState) -> Tensor:
        return state.sweeps
