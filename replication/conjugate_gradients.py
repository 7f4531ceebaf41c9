"""Conjugate gradients on many right-hand sides at once, each row with its own steps."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from replication.rows import column, dot, residual_scale, row_norm

Map = Callable[[Tensor], Tensor]


@torch.no_grad()
def conjugate_gradients(
    product: Map,
    right: Tensor,
    tolerance: float | Tensor,
    max_iterations: int = 10_000,
) -> tuple[Tensor, Tensor]:
    """Solve Kx = b from x = 0, row by row, for a symmetric positive definite K.

    A row that is done keeps its x. The residual is that of the recurrence, which rounding lets fall below the true one.

    Source: Hestenes and Stiefel, J. Res. Nat. Bur. Standards 49 (1952) 409–436.

    Args:
        product: x ↦ Kx, on all rows.
        right: b (batch, *shape).
        tolerance: bound of ‖b − Kx‖/‖b‖, a number or one a row (batch,).
        max_iterations: bound of the number of products.

    Returns:
        x, like b, and the products that each row took (batch,).
    """
    scale = column(residual_scale(right), right)  # so that no square over- or underflows
    x, residual = torch.zeros_like(right), right / scale
    direction = torch.zeros_like(right)
    goal = tolerance * row_norm(residual)
    taken = torch.zeros(len(right), dtype=torch.long, device=right.device)
    before: Tensor | None = None
    for _ in range(max_iterations):
        slope = dot(residual, residual)
        running = slope.sqrt() > goal  # false where it is not finite: further steps do not help there
        if not running.any():
            break
        keep = torch.zeros_like(slope) if before is None else torch.where(running, slope / before, 0)
        direction = torch.addcmul(residual, column(keep, right), direction)
        image = product(direction)
        curvature = dot(direction, image)
        goal = torch.where(torch.isinf(curvature), torch.inf, goal)  # a row that overflows gets no further
        move = column(torch.where(running, slope / curvature, 0), right)
        x = torch.addcmul(x, move, direction)
        residual = torch.addcmul(residual, move, image, value=-1)
        taken += running
        before = slope
    return scale * x, taken
