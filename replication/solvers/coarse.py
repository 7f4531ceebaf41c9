"""Chebyshev's steps in bfloat16 between residuals in float32, for processors that convolve several times faster so."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from replication.maps import ConvolutionalMap, RectifierEquation
from replication.operators import Convolution, Weighted
from replication.solvers.iteration import FixedPoint
from replication.solvers.method import GramMethod

COARSE = torch.bfloat16
GAIN = 1 / 60  # of a correction: what is left of the residual, about what the eight bits of bfloat16 allow
CORRECTIONS = 8  # before rows start again in float32
MAX_NORM = 8.0  # ‖A‖ up to which the rounding of a correction leaves the gain alone


@cache
def bfloat16_is_fast() -> bool:
    """Return whether the processor multiplies matrices of bfloat16 by instructions of their own."""
    capabilities = getattr(torch.cpu, "get_capabilities", None)  # which older versions of torch lack
    return capabilities is not None and bool(capabilities().get("amx_bf16", False))


def saves_time(equation: RectifierEquation) -> bool:
    """Return whether corrections in bfloat16 are exact enough for an equation, and quick on its device."""
    suits = isinstance(equation.map, ConvolutionalMap) and equation.y.dtype == torch.float32
    return (
        suits and equation.y.device.type == "cpu" and bfloat16_is_fast() and float(equation.map.norm_bound) <= MAX_NORM
    )


@cache
def relaxations(norm: float, gain: float) -> tuple[float, ...]:
    """Return the τ of as many steps p ← p − τ·h(p) as leave `gain` of h on a piece with eigenvalues in [1, 1 + norm].

    They are the reciprocals of the zeros of Chebyshev's polynomial on that interval, those of its two ends in turns, so
    that what one step enlarges the next makes small; the last one enlarges nothing.

    Source: Lebedev and Finogenov, USSR Comput. Math. Math. Phys. 11 (1971) 155–170, on the order.
    """
    centre, radius = 1 + norm / 2, norm / 2
    count = math.ceil(math.acosh(1 / gain) / math.acosh(centre / max(radius, centre * gain)))
    zeros = [centre + radius * math.cos(math.pi * (2 * k + 1) / (2 * count)) for k in range(count)]
    turns = [zeros[-1 - k // 2] if k % 2 else zeros[k // 2] for k in range(count)]
    return tuple(1 / zero for zero in turns)


def in_bfloat16(convolution: Weighted) -> Convolution:
    """Return a convolution whose kernel is rounded."""
    assert isinstance(convolution, Convolution)  # as `saves_time` checks
    kernel = convolution.weight.to(COARSE).contiguous(memory_format=torch.channels_last)
    return Convolution(kernel, convolution.image_size, convolution.padding)


def correction(W1: Convolution, W2: Convolution, s: Tensor, residual: Tensor, taus: Sequence[float]) -> Tensor:
    """Return p with f(x + p) ≈ f(x) − residual, in bfloat16, by steps p ← (1 − τ)p − τ(residual + W₂g).

    g = relu(s + u) − relu(s) = max(u + min(s, 0), min(−s, 0)) loses nothing where u = W₁p is far smaller than s.

    Args:
        W1, W2: in bfloat16.
        s: W₁x + b₁.
        residual: f(x) − y.
        taus: of the steps, from p = 0.
    """
    s = s.to(COARSE)
    below, floor = s.clamp(max=0), s.neg().clamp_(max=0)
    goal = residual.to(COARSE).neg_()
    p = goal * taus[0]
    for tau in taus[1:]:
        bent = W2(torch.maximum(W1(p).add_(below), floor))
        p.lerp_(goal, tau).sub_(bent, alpha=tau)
    return p


@dataclass(frozen=True)
class CoarseState:
    """The iterate.

    Attributes:
        x: like y.
        s: W₁x + b₁.
        spent: evaluations in bfloat16 in the last step (batch,).
    """

    x: Tensor
    s: Tensor
    spent: Tensor


@dataclass(frozen=True)
class CoarseChebyshev(GramMethod, FixedPoint):
    """Iterate x ← x + p, where p solves f(x + p) = y to a small part of the residual by Chebyshev's steps in bfloat16.

    Residuals are those of float32, so that the solution is as good as that of `Chebyshev`; where the piece changes too
    much within a correction, it may fail where `Chebyshev` does not.

    Source: Wilkinson, Rounding Errors in Algebraic Processes (1963), on iterative refinement.

    Args:
        max_iterations: bound of the number of corrections.
        patience: as for every fixed point (`FixedPoint`).
    """

    max_iterations: int = CORRECTIONS
    patience: int = 2

    def init(self, equation: RectifierEquation) -> CoarseState:
        start = equation.start()
        W1, W2 = in_bfloat16(equation.map.W1), in_bfloat16(equation.map.W2)
        s = W1.affine(start.to(COARSE), equation.map.b1.to(COARSE))
        return self.moved(equation, start, s, W2(torch.relu(s)), 1)

    def point(self, equation: RectifierEquation, state: CoarseState) -> Tensor:
        return state.x

    def residual(self, equation: RectifierEquation, state: CoarseState, x: Tensor) -> Tensor:
        bent = equation.map.W2.affine(torch.relu(state.s), equation.map.b2)
        return bent.add_(x).sub_(equation.y)

    def step(self, equation: RectifierEquation, state: CoarseState, x: Tensor, residual: Tensor) -> CoarseState:
        return self.moved(equation, x, state.s, residual, 0)

    def moved(self, equation: RectifierEquation, x: Tensor, s: Tensor, residual: Tensor, spent: int) -> CoarseState:
        """Return the state after one correction, with what was spent before."""
        taus = relaxations(float(equation.map.norm_bound), GAIN)
        W1, W2 = in_bfloat16(equation.map.W1), in_bfloat16(equation.map.W2)
        x = x + correction(W1, W2, s, residual, taus)
        taken = torch.full((len(x),), spent + len(taus) - 1, device=x.device)
        return CoarseState(x, equation.map.preactivation(x), taken)

    def work(self, state: CoarseState) -> Tensor:
        return state.spent
