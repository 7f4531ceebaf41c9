"""Anderson acceleration of the gradient step x ← x − τ(f(x) − y)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from replication.checks import check_counts, check_numbers_finite
from replication.maps import RectifierEquation
from replication.rows import row_norm
from replication.solvers.iteration import FixedPoint
from replication.solvers.method import GeneralMethod


@dataclass(frozen=True)
class AndersonState:
    """The iterate and what is remembered of each row.

    Attributes:
        x: like y.
        residual_changes: ΔR, of f(x) − y in the last steps (batch, memory, numbers); zero where nothing is remembered.
        mixed_changes: ΔX − τΔR, of x in the same steps.
        gram: ΔRΔRᵀ (batch, memory, memory).
        last_x, last_residual: the last x, and f(x) − y there (batch, numbers); NaN before the first step.
        last_norm: of the latter (batch,).
        tau: the damping (batch, 1).
        steps: taken so far; change number i goes to place i modulo memory.
    """

    x: Tensor
    residual_changes: Tensor
    mixed_changes: Tensor
    gram: Tensor
    last_x: Tensor
    last_residual: Tensor
    last_norm: Tensor
    tau: Tensor
    steps: int


@dataclass(frozen=True)
class Anderson(GeneralMethod, FixedPoint):
    """Take the step that would make the residual smallest if f were affine on the last points, row by row.

    x ← x − τr − (ΔX − τΔR)γ,   γ = argmin ‖r − ΔRγ‖² + ridge·tr(ΔRᵀΔR)·‖γ‖²,   r = f(x) − y

    A row whose residual grows beyond `growth` times the last forgets what it remembers and takes the plain step, which
    contracts for contractions (τ = 1) and for Gram units (τ = 2/(2 + ‖A‖)). Not to be relied on for units that are
    neither: nothing is guaranteed there.

    Source: Anderson, J. ACM 12 (1965) 547–560; Walker and Ni, SIAM J. Numer. Anal. 49 (2011) 1715–1735.

    Args:
        memory: number of changes remembered.
        damping: τ, or None: 2/(2 + ‖A‖) for Gram units, and 1 for others.
        ridge: of the least-squares problem, relative.
        growth: of the residual beyond which a row starts again.
        max_iterations, patience: as for every fixed point (`FixedPoint`).

    Raises:
        ValueError: if an argument is out of its range.

    >>> from replication import LipschitzConvUnit
    >>> unit = LipschitzConvUnit(1, 2, image_size=(4, 4)).double()
    >>> unit.inverse(torch.ones(2, 1, 4, 4, dtype=torch.float64), Anderson(memory=3)).converged
    tensor([True, True])
    """

    memory: int = 5
    damping: float | None = None
    ridge: float = 1e-12
    growth: float = 2.0
    max_iterations: int = 10_000
    patience: int = 500

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(1, memory=self.memory)
        damping = 1.0 if self.damping is None else self.damping
        check_numbers_finite(damping=damping, ridge=self.ridge, growth=self.growth)
        if self.ridge < 0 or self.growth < 1 or damping <= 0:
            raise ValueError(
                "damping must be positive or None, ridge at least 0 and growth at least 1, not "
                f"{self.damping!r}, {self.ridge!r}, {self.growth!r}"
            )

    def init(self, equation: RectifierEquation) -> AndersonState:
        x = equation.start()
        rows, numbers = len(x), x[0].numel()
        none = x.new_zeros(rows, self.memory, numbers)
        last = x.new_full((rows, numbers), torch.nan)
        tau = self.relaxation(equation).to(x).expand(rows)[:, None]
        gram = x.new_zeros(rows, self.memory, self.memory)
        return AndersonState(x, none, none.clone(), gram, last, last, x.new_full((rows,), torch.nan), tau, 0)

    def point(self, equation: RectifierEquation, state: AndersonState) -> Tensor:
        return state.x

    def step(self, equation: RectifierEquation, state: AndersonState, x: Tensor, residual: Tensor) -> AndersonState:
        flat, r, tau = x.flatten(1), residual.flatten(1), state.tau
        changes, mixed, gram, slot = state.residual_changes, state.mixed_changes, state.gram, state.steps % self.memory
        norm = row_norm(r)
        change = r - state.last_residual
        changes[:, slot] = change
        mixed[:, slot] = flat - state.last_x - tau * change
        anew = ~(norm <= self.growth * state.last_norm)  # true before the first step, too
        if anew.any():
            for remembered in (changes, mixed, gram):
                remembered[anew] = 0

        products = changes @ torch.stack((changes[:, slot], r), 2)
        gram[:, slot], gram[:, :, slot] = products[..., 0], products[..., 0]
        trace = torch.diagonal(gram, dim1=1, dim2=2).sum(1, keepdim=True)
        regular = gram.clone()
        ridge = max(self.ridge, torch.finfo(r.dtype).eps)
        torch.diagonal(regular, dim1=1, dim2=2).add_(ridge * trace + torch.finfo(r.dtype).tiny)
        gamma = torch.linalg.solve_ex(regular, products[..., 1])[0]
        moved = (gamma.unsqueeze(1) @ mixed).squeeze(1)
        new = flat - tau * r - torch.where(torch.isfinite(moved).all(1, keepdim=True), moved, 0)
        return AndersonState(new.reshape(x.shape), changes, mixed, gram, flat, r, norm, tau, state.steps + 1)

    def relaxation(self, equation: RectifierEquation) -> Tensor:
        """Return τ for this equation, a scalar or (batch,)."""
        if self.damping is None and getattr(equation.map, "gram", False):
            return 2 / (2 + equation.map.norm_bound)
        return torch.tensor(1.0 if self.damping is None else self.damping, dtype=torch.float64)
