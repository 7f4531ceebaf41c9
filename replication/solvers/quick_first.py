"""A quick iteration first, and a method that always ends for the rows that it leaves."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from replication.maps import RectifierEquation, RectifierMap
from replication.solvers.anderson import Anderson
from replication.solvers.exact import Exact
from replication.solvers.iteration import FixedPoint
from replication.solvers.method import Method
from replication.solvers.solution import Solution

CLOSER = 1e-3  # of the tolerance: an iteration that stops there is hardly less accurate than a factorization
ROUNDING = 64  # times ε: residuals that no iteration can be asked to reach


@dataclass(frozen=True)
class QuickFirst(Method):
    """Iterate, a product with the weights a step, and factorize for those rows alone that the iteration leaves.

    The solution's `solver` names both methods where both were needed.

    Args:
        quick: the iteration, with the number of steps after which it leaves the rest.
        sure: what solves the rows that are left.
    """

    quick: FixedPoint = field(default_factory=lambda: Anderson(max_iterations=60))
    sure: Method = field(default_factory=Exact)

    def takes(self, rectifier_map: RectifierMap) -> bool:
        return self.quick.takes(rectifier_map) and self.sure.takes(rectifier_map)

    def solve(self, equation: RectifierEquation, tolerance: float) -> Solution:
        """Solve every row by the one method or the other."""
        closer = min(tolerance, max(CLOSER * tolerance, ROUNDING * torch.finfo(equation.y.dtype).eps))
        solution = self.quick.solve(equation, closer)
        left = (~solution.converged).nonzero().squeeze(1)
        if not len(left):
            return solution
        rest = self.sure.solve(equation.select(left), tolerance)
        for name in ("value", "codes", "iterations", "residual"):
            getattr(solution, name)[left] = getattr(rest, name)
        solution.evaluations[left] += rest.evaluations
        solver = rest.solver if len(left) == len(equation.y) else f"{solution.solver}, {rest.solver}"
        return Solution(
            solution.value, solution.codes, solution.iterations, solution.residual, solution.evaluations, solver=solver
        )
