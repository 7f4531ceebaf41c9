"""Substitution: causal units undone pixel by pixel, all pixels of an anti-diagonal at once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from replication.kernels.pieces import AGREES
from replication.maps import RectifierEquation
from replication.solvers.blocks import BlockWalk
from replication.solvers.method import CausalMethod
from replication.solvers.pieces import codes_of, corrected
from replication.solvers.solution import Solution, name_of
from replication.solvers.sweeps import Pixels, solve_jacobian, sweep


@dataclass(frozen=True)
class Substitution(CausalMethod, BlockWalk):
    """Solve one rectifier equation a pixel, s_p + A₀·relu(s_p) = c_p, where c_p depends on the pixels before alone.

    For causal units: convolutions padded at one corner only. Pixels with the same distance from it do not depend on
    each other, so that height + width − 1 batches of small equations undo the image, each by Newton's steps and, where
    they cycle, Lemke's method, as in `Exact`. It ends with the solution whenever I + A₀ is a P-matrix, whatever the
    other taps are; but large ones may let rounding errors grow exponentially with the image's size, while the residual
    stays small (`CausalConvUnit.inverse_condition` measures it). Not for other units: it refuses them.

    Source: paper B, abstract (inverse algorithms; reconstructed, assumption A8).

    Args, Raises: as `BlockWalk`, of every pixel.

    >>> from replication import MonotoneCausalConvUnit
    >>> unit = MonotoneCausalConvUnit(1, 2).double()
    >>> unit.inverse(torch.ones(2, 1, 4, 4, dtype=torch.float64), Substitution()).converged
    tensor([True, True])
    """

    def solve(self, equation: RectifierEquation, tolerance: float) -> Solution:
        """Sweep over the image; where the residual is too large, correct it by sweeps in the piece found.

        Iterations are the linear systems and pivots of all pixels, and a sweep counts as one evaluation.

        Raises:
            ValueError: if the unit is not causal.
        """
        rectifier_map, rows = self.causal(equation), len(equation.y)
        A = rectifier_map.pixel().matrix()
        ends = torch.full((rows,), AGREES, device=equation.y.device)
        steps = torch.zeros_like(ends)

        def solve_pixels(c: Tensor, pixels: Pixels) -> Tensor:
            s, end, step = self.walk(A, c)
            steps.add_(by_row(step, rows).sum(0))
            torch.maximum(ends, by_row(end, rows).amax(0), out=ends)
            return torch.relu(s)

        value, z = sweep(rectifier_map, equation.y, solve_pixels)
        value, relative, corrections = corrected(
            equation, value, lambda residual: solve_jacobian(rectifier_map, z.images() > 0, residual), tolerance
        )
        codes = codes_of(ends, relative, tolerance)
        return Solution(value, codes, steps, relative, 2 + 2 * corrections, solver=name_of(self))


def by_row(numbers: Tensor, rows: int) -> Tensor:
    """Shape one number a pixel and row into (pixels, rows), of one pixel where there are no rows."""
    return numbers.reshape(len(numbers) // rows if rows else 1, rows)
