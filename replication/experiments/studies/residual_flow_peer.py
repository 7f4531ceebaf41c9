"""An independent peer: the inverse of a residual flow's block as the package normflows has it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from replication.experiments.data.branches import Branches
from replication.maps.equation import RowEquation
from replication.rows import row_norm
from replication.solvers import Solution
from replication.solvers.solution import codes_of_residual


@dataclass(frozen=True)
class ResidualFlowPeer:
    """Undo x + g(x) by normflows' `iResBlock`, whose loop x ← y − g(x) ends when a step is short.

    Rows are given to it one by one, so that each has the evaluations that it needs itself.

    Needs the extra `bench`.
    """

    def solve(self, equation: RowEquation[Branches], tolerance: float) -> Solution:
        """Solve f(x) = y for every row; its loop ends at steps of about `tolerance`, relative to y."""
        from normflows.flows.residual import iResBlock

        values, evaluations = [], []
        for row in range(len(equation.y)):
            own = equation.select(torch.tensor([row]))
            branch = CountedBranch(own)
            # it holds squares of steps against its tolerances
            values.append(iResBlock(branch)._inverse_fixed_point(own.y, atol=tolerance**2, rtol=tolerance**2))
            evaluations.append(branch.calls)
        value = torch.cat(values)
        residual = row_norm(equation.residual(value)) / row_norm(equation.y)
        calls = torch.tensor(evaluations)
        return Solution(value, codes_of_residual(residual, tolerance), calls, residual, calls, solver="normflows")


class CountedBranch(nn.Module):
    """g(x) = f(x) − x of one row, which counts how often it is evaluated."""

    def __init__(self, equation: RowEquation[Branches]) -> None:
        super().__init__()
        self.equation, self.calls = equation, 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.equation.map(x) - x
