"""GMRES on many right-hand sides at once, each row with its own matrix and its own steps."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from replication.rows import row_norm

GAIN = 0.5  # share of the residual that a cycle of GMRES may leave if another is to follow


def gmres(
    product: Callable[[Tensor, Tensor], Tensor], right: Tensor, tolerance: Tensor, restart: int, cycles: int
) -> tuple[Tensor, Tensor]:
    """Solve Jx = b from x = 0, row by row, by GMRES that begins again every `restart` products.

    Source: Saad and Schultz, SIAM J. Sci. Stat. Comput. 7 (1986) 856–869.

    Args:
        product: (v, rows) ↦ Jv for these rows, v being of as many.
        right: b (batch, *shape).
        tolerance: bound of ‖b − Jx‖/‖b‖ (batch,).
        restart: products of a cycle, at most.
        cycles: at most.

    Returns:
        x, like b, and the products that each row took (batch,).
    """
    value, remaining = torch.zeros_like(right), right.clone()
    taken = torch.zeros(len(right), dtype=torch.long, device=right.device)
    goal = tolerance * row_norm(right)
    rows = torch.arange(len(right), device=right.device)
    for cycle in range(cycles):
        if cycle:
            remaining = right[rows] - product(value[rows], rows)
            taken[rows] += 1
        correction, products, left = krylov_cycle(product, remaining, goal[rows], rows, restart)
        value[rows] += correction
        taken[rows] += products
        gaining = left < GAIN * row_norm(remaining)  # a row that gains so little gets no further in time
        rows = rows[(left > goal[rows]) & gaining]
        if not len(rows):
            break
    return value, taken


def krylov_cycle(
    product: Callable[[Tensor, Tensor], Tensor], right: Tensor, goal: Tensor, rows: Tensor, steps: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Minimize ‖b − Jx‖ over Krylov spaces of J and b that grow until it is at most `goal`, row by row.

    J times the basis is the next basis times a Hessenberg matrix H; Givens rotations keep H upper triangular. In the
    columns of rows that are done H is the identity and its right-hand side 0, so that their x stays.

    Returns:
        x, like b, the products that each row took (batch,), and ‖b − Jx‖ (batch,).
    """
    left = row_norm(right)
    steps = min(steps, right[0].numel())
    basis = right.new_zeros(len(right), steps + 1, right[0].numel())
    basis[:, 0] = right.flatten(1) / torch.where(left > 0, left, 1)[:, None]
    H = torch.eye(steps, dtype=right.dtype, device=right.device).repeat(len(right), 1, 1)
    cosines, sines, sides = torch.zeros(3, len(right), steps, dtype=right.dtype, device=right.device)
    taken = torch.zeros(len(right), dtype=torch.long, device=right.device)
    for k in range(steps):
        running = (left.abs() > goal).nonzero().squeeze(1)  # not where it is NaN: further steps do not help there
        if not len(running):
            break
        image = product(basis[running, k].reshape(-1, *right.shape[1:]), rows[running]).flatten(1)
        entries, image = orthogonalized(image, basis[running, : k + 1])
        length = row_norm(image)
        basis[running, k + 1] = image / torch.where(length > 0, length, 1)[:, None]
        entries = rotated(entries, cosines[running], sines[running])
        radius = torch.hypot(entries[:, k], length)
        cosine, sine = entries[:, k] / radius, length / radius
        H[running, : k + 1, k] = torch.cat((entries[:, :k], radius[:, None]), 1)
        cosines[running, k], sines[running, k], sides[running, k] = cosine, sine, cosine * left[running]
        left[running] *= -sine
        taken[running] += 1
    shares = torch.linalg.solve_triangular(H, sides[..., None], upper=True)
    return (basis[:, :steps].mT @ shares).reshape(right.shape), taken, left.abs()


def orthogonalized(v: Tensor, basis: Tensor) -> tuple[Tensor, Tensor]:
    """Return the coefficients of v (batch, n) in an orthonormal basis (batch, k, n), and what is left of it."""
    first = basis @ v[..., None]
    once = v - (basis.mT @ first)[..., 0]
    second = basis @ once[..., None]
    return (first + second)[..., 0], once - (basis.mT @ second)[..., 0]


def rotated(entries: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Apply the rotations of neighbours one after the other to a column (batch, k + 1) of a Hessenberg matrix."""
    columns = list(entries.unbind(1))
    for i in range(len(columns) - 1):
        upper, lower = columns[i], columns[i + 1]
        columns[i] = cosines[:, i] * upper + sines[:, i] * lower
        columns[i + 1] = cosines[:, i] * lower - sines[:, i] * upper
    return torch.stack(columns, 1)
