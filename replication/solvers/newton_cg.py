"""Newton's method with conjugate gradients, for Gram units of any size."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from replication.checks import check_numbers_finite
from replication.conjugate_gradients import conjugate_gradients
from replication.maps import RectifierEquation
from replication.rows import column, dot, residual_scale, row_norm
from replication.solvers.iteration import FixedPoint
from replication.solvers.method import GramMethod

SEARCH_STEPS = 30  # of the line search, at most
FINEST = 0.01  # share of the residual that a linear system is solved to, at least


@dataclass(frozen=True)
class NewtonCGState:
    """The iterate.

    Attributes:
        x: like y.
        size: ‖f(x) − y‖ at the last point (batch,), infinite before the first step.
        products: with the Jacobian, in the last step (batch,).
    """

    x: Tensor
    size: Tensor
    products: Tensor


@dataclass(frozen=True)
class NewtonCG(GramMethod, FixedPoint):
    """Iterate x ← x − αp with (I + W₁ᵀDW₁)p ≈ f(x) − y, D = diag(W₁x + b₁ > 0), by conjugate gradients.

    For units with W₂ = W₁ᵀ; it refuses others. There f is the gradient of the strongly convex function

        φ(x) = ‖x‖²/2 + ‖relu(W₁x + b₁)‖²/2 + ⟨b₂, x⟩,

    and α minimizes φ(x) − ⟨y, x⟩ along p, so that it converges from everywhere. Conjugate gradients find the
    eigenvalues that matter, so that large norms of A cost less than with `Chebyshev`.

    Source: Dembo, Eisenstat and Steihaug, SIAM J. Numer. Anal. 19 (1982) 400–408 (inexact Newton steps); Qi and Sun,
    Math. Program. 58 (1993) 353–367 (semismooth equations).

    Args:
        forcing: share of the residual that the linear systems are solved to, at most.
        max_iterations, patience: as for every fixed point (`FixedPoint`).

    Raises:
        ValueError: if forcing does not lie between 0 and 1.

    >>> from replication import MonotoneConvUnit
    >>> unit = MonotoneConvUnit(1, 2).double()
    >>> unit.inverse(torch.ones(2, 1, 4, 4, dtype=torch.float64), NewtonCG(forcing=0.1)).converged
    tensor([True, True])
    """

    forcing: float = 0.3
    max_iterations: int = 10_000
    patience: int = 500

    def __post_init__(self) -> None:
        super().__post_init__()
        check_numbers_finite(forcing=self.forcing)
        if not 0 < self.forcing < 1:
            raise ValueError(f"forcing must lie between 0 and 1, not {self.forcing!r}")

    def init(self, equation: RectifierEquation) -> NewtonCGState:
        x = equation.y - equation.map.b2
        size = torch.full_like(x.flatten(1)[:, 0], torch.inf)
        return NewtonCGState(x, size, torch.zeros_like(size, dtype=torch.long))

    def point(self, equation: RectifierEquation, state: NewtonCGState) -> Tensor:
        return state.x

    def step(self, equation: RectifierEquation, state: NewtonCGState, x: Tensor, residual: Tensor) -> NewtonCGState:
        W1, W2 = equation.map.W1, equation.map.W2
        s = equation.map.preactivation(x)
        D = (s > 0).to(x)
        size = row_norm(residual)
        # as small as the last step's success promises: small once the piece is the right one
        forcing = (size / state.size).square().clamp(FINEST, self.forcing)
        scale = column(residual_scale(residual), x)  # so that no square over- or underflows
        p, products = conjugate_gradients(lambda v: v + W2(D * W1(v)), residual / scale, forcing)
        alpha = line_search(residual / scale, p, s / scale, W1(p))
        return NewtonCGState(x - column(alpha, x) * scale * p, size, products + 1)

    def work(self, state: NewtonCGState) -> Tensor:
        return state.products


def line_search(residual: Tensor, p: Tensor, s: Tensor, u: Tensor) -> Tensor:
    """Return α > 0 (batch,) with |h(α)| ≤ h(0)/4, where −h is the derivative of φ − ⟨y, ·⟩ along x − αp.

    h(α) = ⟨p, f(x) − y⟩ − α⟨p, p⟩ + ⟨u, relu(s − αu) − relu(s)⟩ falls and is piecewise linear; Newton's method from
    α = 1, within a bracket.

    Args:
        residual: f(x) − y, like p.
        p: the direction (batch, *shape).
        s: the preactivation at x (batch, *hidden).
        u: W₁p, like s.
    """
    start, slope, rectified = dot(p, residual), dot(p, p), torch.relu(s)
    low, high = torch.zeros_like(slope), torch.full_like(slope, torch.inf)
    alpha = torch.ones_like(slope)
    for _ in range(SEARCH_STEPS):
        moved = s - column(alpha, s) * u
        value = start - alpha * slope + dot(u, torch.relu(moved) - rectified)
        missed = value.abs() > start / 4
        if not missed.any():
            break
        low, high = torch.where(value > 0, alpha, low), torch.where(value < 0, alpha, high)
        newton = alpha + value / (slope + dot(u, u * (moved > 0)))
        halved = torch.where(torch.isfinite(high), (low + high) / 2, 2 * alpha)
        alpha = torch.where(missed, torch.where((newton > low) & (newton < high), newton, halved), alpha)
    return alpha
