"""The block Jacobi iteration over a whole image: finite for causal units."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from replication.checks import check_counts
from replication.maps import RectifierEquation
from replication.solvers.blocks import walk_by_blocks
from replication.solvers.iteration import FixedPoint, iterate
from replication.solvers.method import CausalMethod
from replication.solvers.solution import Solution

BLOCK_STEPS, MAX_PIVOTS = 5, 100_000  # of every pixel's equation, as in `Substitution`


@dataclass(frozen=True)
class JacobiState:
    """The rectified preactivation.

    Attributes:
        z: relu(s) (batch, hidden, height, width).
        c: what z was found from, like z; NaN before the first step.
    """

    z: Tensor
    c: Tensor


@dataclass(frozen=True)
class Jacobi(CausalMethod, FixedPoint):
    """Solve s_p + A₀·relu(s_p) = (c − (A − A₀)·relu(s))_p anew for all pixels p at once, from s = c.

    For causal units: after n steps all pixels within n − 1 of the corner are right, so that it ends, exactly, after at
    most height + width − 1 steps, and often sooner; until then the residual may grow by any factor. Unlike
    `Substitution` it needs whole convolutions only. Not for other units: it refuses them.

    Source: paper B, abstract (inverse algorithms; reconstructed, assumption A8); for linear complementarity problems
    the splitting of Mangasarian, J. Optim. Theory Appl. 22 (1977) 465–485.

    Args:
        max_iterations: bound of the number of steps, at most height + width − 1 of which are taken.

    >>> from replication import MonotoneCausalConvUnit
    >>> unit = MonotoneCausalConvUnit(1, 2).double()
    >>> solution = unit.inverse(torch.ones(1, 1, 3, 5, dtype=torch.float64), Jacobi())
    >>> bool(solution.converged), int(solution.iterations) <= 3 + 5 - 1
    (True, True)
    """

    max_iterations: int = 10_000

    def __post_init__(self) -> None:
        check_counts(0, max_iterations=self.max_iterations)

    @property
    def patience(self) -> int:  # type: ignore[override]
        """As many steps as there are: it stagnates only where it is at its end."""
        return self.max_iterations

    def solve(self, equation: RectifierEquation, tolerance: float) -> Solution:
        self.check(equation.map)
        height, width = equation.y.shape[-2:]
        last = min(self.max_iterations, height + width - 1)
        return iterate(equation, replace(self, max_iterations=last), tolerance, divergence_factor=math.inf)

    def init(self, equation: RectifierEquation) -> JacobiState:
        return JacobiState(torch.relu(equation.c), torch.full_like(equation.c, torch.nan))

    def point(self, equation: RectifierEquation, state: JacobiState) -> Tensor:
        return equation.recover(state.z)

    def step(self, equation: RectifierEquation, state: JacobiState, x: Tensor, residual: Tensor) -> JacobiState:
        causal = self.causal(equation)
        W1, W2, z = causal.W1, causal.W2, state.z.clone()
        # by the pixels before alone, so that rounding settles too: what is right stays as it is, to the last bit
        known = equation.y - causal.b2 - W2.without_aligned()(z)
        c = W1.without_aligned().affine(x, causal.b1) + F.conv2d(known, W1.aligned[:, :, None, None])
        moved = (c != state.c).any(1)
        pixels, active = (v.movedim(1, -1)[moved] for v in (c, z > 0))
        s = walk_by_blocks(causal.pixel().matrix(), pixels, BLOCK_STEPS, MAX_PIVOTS, active)[0]
        z.movedim(1, -1)[moved] = torch.relu(s)
        return JacobiState(z, c)
