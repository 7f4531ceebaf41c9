"""The proposed method: the modulus fixed point of the rectifier equation."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from replication.compiled import as_array
from replication.kernels.fixed_points import Ends, Limits, Room, Units, modulus_rows
from replication.maps import RectifierEquation
from replication.resolvents import DenseResolvent, Resolvent, WoodburyResolvent
from replication.solvers.iteration import FixedPoint
from replication.solvers.small_units import are_small, iterate_small
from replication.solvers.solution import Solution


@dataclass(frozen=True)
class ModulusState:
    """The modulus variable t, with relu(s) = |t| + t and relu(−s) = ω(|t| − t), and what each step needs.

    Attributes:
        t: (batch, *hidden).
        base: ((1 + ω)I + A)⁻¹c, like t.
        resolvent: ((1 + ω)I + A)⁻¹.
    """

    t: Tensor
    base: Tensor
    resolvent: Resolvent


@dataclass(frozen=True)
class InputState(ModulusState):
    """The same with W₂t, W₂|t| and W₂base, like the inputs, for maps to which W₂ is worth applying once a step.

    The other products follow from W₂((1 + ω)I + A)⁻¹v = ((1 + ω)I + W₂W₁)⁻¹W₂v.

    Attributes:
        of_t, of_size, of_base: (batch, *shape).
    """

    resolvent: WoodburyResolvent
    of_t: Tensor
    of_size: Tensor
    of_base: Tensor


@dataclass(frozen=True)
class Modulus(FixedPoint):
    """Iterate (ωI + M)t ← c + (ωI − M)|t| with M = I + A, from s = c.

    With ω = 1 and t = s/2 this is (I + A/2)s ← c − (A/2)|s|, whose map (2I + A)⁻¹A contracts exactly if A is monotone,
    λmin((A + Aᵀ)/2) > −1, whatever its norm. Then every ω > 0 converges; for symmetric M the best is
    ω = √(λmin λmax), at the rate (√κ − 1)/(√κ + 1). Not to be used for maps that are not monotone: it may miss
    invertible ones.

    It is van Bokhoven's modulus iteration for the linear complementarity problem LCP(−c, M), well studied since 1981.

    Source: assumption A5, rebuilt from the abstract of paper A; Bai, Numer. Linear Algebra Appl. 17 (2010) 917–933.

    Args:
        omega: ω > 0, or "auto": √(1 + ‖A‖) for Gram units, where M lies between I and (1 + ‖A‖)I, and 1 for others.
        max_iterations, patience: as for every solver (`Solver`).

    Raises:
        ValueError: if ω is neither positive nor "auto".

    >>> import torch
    >>> from replication import ResidualUnit
    >>> unit = ResidualUnit(torch.eye(2), torch.zeros(2), 3 * torch.eye(2), torch.zeros(2))  # x + 3·relu(x)
    >>> unit.inverse(torch.tensor([[4.0, -2.0]]), Modulus(omega=2)).value.round(decimals=3)
    tensor([[ 1., -2.]])
    """

    omega: float | str = 1.0
    max_iterations: int = 10_000
    patience: int = 500

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.omega == "auto":
            return
        omega = self.omega
        if not isinstance(omega, int | float) or isinstance(omega, bool) or not 0 < omega < math.inf:
            raise ValueError(f'omega must be a positive number or "auto", not {self.omega!r}')

    def init(self, equation: RectifierEquation) -> ModulusState:
        omega = self.relaxation(equation)
        resolvent = equation.map.resolvent(1 + omega, like=equation.y)
        s = equation.c
        t = (s.clamp_min(0) - (-s).clamp_min(0) / omega) / 2
        if not isinstance(resolvent, WoodburyResolvent):
            return ModulusState(t, resolvent(equation.c), resolvent)
        W2 = resolvent.W2
        base, of_base = resolvent.with_inputs(equation.c, W2(equation.c))
        return InputState(t, base, resolvent, W2(t), W2(t.abs()), of_base)

    def relaxation(self, equation: RectifierEquation) -> float:
        """Return the number ω for this equation."""
        if self.omega != "auto":
            return float(self.omega)
        return math.sqrt(1 + float(equation.map.norm_bound.max())) if equation.map.gram else 1.0

    def point(self, equation: RectifierEquation, state: ModulusState) -> Tensor:
        if isinstance(state, InputState):
            return equation.start() - state.of_size - state.of_t
        return equation.recover(state.t.abs() + state.t)

    def step(self, equation: RectifierEquation, state: ModulusState, x: Tensor, residual: Tensor) -> ModulusState:
        size = state.t.abs()
        omega = state.resolvent.shift - 1
        # ((1 + ω)I + A)⁻¹(ωI − M) = 2ω((1 + ω)I + A)⁻¹ − I
        if not isinstance(state, InputState):
            return replace(state, t=state.base + 2 * omega * state.resolvent(size) - size)
        solved, of_solved = state.resolvent.with_inputs(size, state.of_size)
        t = state.base + 2 * omega * solved - size
        of_t = state.of_base + 2 * omega * of_solved - state.of_size
        return replace(state, t=t, of_t=of_t, of_size=state.resolvent.W2(t.abs()))

    @torch.no_grad()
    def solve(self, equation: RectifierEquation, tolerance: float) -> Solution:
        """Iterate every row until it converges or is known to fail (`iterate`); small units row by row, compiled."""
        if not are_small(equation):
            return super().solve(equation, tolerance)
        state = self.init(equation)
        assert isinstance(state.resolvent, DenseResolvent)  # as it is for matrices
        n = equation.c.shape[1]
        inverses = state.resolvent.inverse.weight.reshape(-1, n, n)
        start = [as_array(tensor) for tensor in (inverses, state.base, state.t)]
        omega = state.resolvent.shift - 1

        def loop(
            own: slice, units: Units, y: np.ndarray, scale: np.ndarray, limits: Limits, ends: Ends, room: Room
        ) -> None:
            inverse, base, t = (array[own] for array in start)
            modulus_rows(units, inverse, base, t, omega, y, scale, limits, ends, room)

        return iterate_small(equation, self, tolerance, loop)
