"""The block Jacobi iteration over a whole image: finite for causal units."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from replication.rectifier import RectifierEquation
from replication.solvers.iteration import FixedPoint, iterate
from replication.solvers.pieces import walk
from replication.solvers.solution import Solution
from replication.solvers.substitution import check_causal, diagonals

BLOCK_STEPS = 5  # as `Exact` takes them before Lemke's method


@dataclass(frozen=True)
class JacobiState:
    """The rectified preactivation z = relu(s) (rows, hidden, height, width)."""

    z: Tensor


@dataclass(frozen=True)
class Jacobi(FixedPoint):
    """Solve s_p + A₀·relu(s_p) = (c − (A − A₀)·relu(s))_p anew for all pixels p at once, from s = c.

    For causal units: after n steps all pixels within n − 1 of the corner are right, so that it ends, exactly, after at
    most height + width − 1 steps, and often sooner; until then the residual may grow by any factor. Unlike
    `Substitution` it needs whole convolutions only. Not for other units: it refuses them.

    Source: paper B, abstract (inverse algorithms; reconstructed, assumption A8); for linear complementarity problems
    the splitting of Mangasarian, J. Optim. Theory Appl. 22 (1977) 465–485.
    """

    max_iterations: int = 10_000

    @property
    def patience(self) -> int:  # type: ignore[override]
        return self.max_iterations  # it stagnates only where it is at its end

    def solve(self, equation: RectifierEquation, tolerance: float) -> Solution:
        check_causal(equation.map, "the Jacobi iteration")
        last = min(self.max_iterations, diagonals(equation))
        return iterate(equation, replace(self, max_iterations=last), tolerance, divergence_factor=math.inf)

    def init(self, equation: RectifierEquation) -> JacobiState:
        return JacobiState(torch.relu(equation.c))

    def point(self, equation: RectifierEquation, state: JacobiState) -> Tensor:
        return equation.recover(state.z)

    def step(self, equation: RectifierEquation, state: JacobiState, x: Tensor, residual: Tensor) -> JacobiState:
        A, z = equation.map.pixel().matrix(), state.z
        # W₁x + b₁ = c − Az, to which the block diagonal's part is given back
        c = equation.map.preactivation(x) + F.conv2d(z, A.to(z)[:, :, None, None])
        pixels = c.movedim(1, -1)
        start = z.movedim(1, -1).flatten(0, 2) > 0
        s = walk(A, pixels.flatten(0, 2), BLOCK_STEPS, self.max_iterations, start)[0]
        return JacobiState(torch.relu(s).reshape(pixels.shape).movedim(-1, 1).contiguous())
