"""Linear systems with the transposed Jacobian of a piece, which the gradient of an inverse asks for."""

from __future__ import annotations

from functools import singledispatch

import torch
from torch import Tensor

from replication.conjugate_gradients import conjugate_gradients
from replication.maps import MATRIX_LIMIT, CausalMap, RectifierMap
from replication.rows import residual_scale, row_norm
from replication.solvers.pieces import solve_pieces
from replication.solvers.sweeps import solve_jacobian


@torch.no_grad()
def solve_adjoint(rectifier_map: RectifierMap, active: Tensor, v: Tensor) -> Tensor:
    """Return u with Jᵀu = v, J = I + W₂DW₁, on the piece where D is 1 on the active coordinates and 0 elsewhere.

    Args:
        rectifier_map: f.
        active: the piece (batch, hidden numbers), bool.
        v: (batch, *shape).

    Raises:
        RuntimeError: if the system is not solved, because the piece is singular or nearly so.
    """
    return adjoint_of_kind(rectifier_map, active, v)


@singledispatch
def adjoint_of_kind(rectifier_map: RectifierMap, active: Tensor, v: Tensor) -> Tensor:
    """Solve by the matrix where it is small, else by conjugate gradients."""
    small = rectifier_map.order <= MATRIX_LIMIT
    return (by_matrix if small else by_products)(rectifier_map, active, v)


@adjoint_of_kind.register
def _(rectifier_map: CausalMap, active: Tensor, v: Tensor) -> Tensor:
    """Solve by one sweep over the image."""
    u = solve_jacobian(rectifier_map.adjoint(), active.reshape(-1, *rectifier_map.W1.codomain), v)
    return checked(rectifier_map, active, u, v)


def by_matrix(rectifier_map: RectifierMap, active: Tensor, v: Tensor) -> Tensor:
    """Return u = v − W₁ᵀq, where M[S,S]ᵀq_S = (W₂ᵀv)_S on the active coordinates S, and q = 0 elsewhere."""
    right = rectifier_map.W2.adjoint()(v)
    q = solve_pieces(rectifier_map.matrix().mT, right.flatten(1), active).reshape(right.shape)
    return v - rectifier_map.W1.adjoint()(q)


def by_products(rectifier_map: RectifierMap, active: Tensor, v: Tensor) -> Tensor:
    """Return u by conjugate gradients, on J itself where it is symmetric, else on JᵀJ."""
    accuracy = 4 * torch.finfo(v.dtype).eps
    if rectifier_map.gram:
        u, _ = conjugate_gradients(lambda w: product(rectifier_map, active, w), v, accuracy)
    else:
        adjoint = rectifier_map.adjoint()
        normal, _ = conjugate_gradients(
            lambda w: product(adjoint, active, product(rectifier_map, active, w)), v, accuracy
        )
        u = product(rectifier_map, active, normal)
    return checked(rectifier_map, active, u, v)


def product(rectifier_map: RectifierMap, active: Tensor, u: Tensor) -> Tensor:
    """Return (I + W₂DW₁)u, like u."""
    D = active.to(u).reshape(-1, *rectifier_map.W1.codomain)
    return u + rectifier_map.W2(D * rectifier_map.W1(u))


def checked(rectifier_map: RectifierMap, active: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """Return the solution u of Jᵀu = v; refuse it if it is none."""
    if not torch.isfinite(v).all():
        return u
    missing = row_norm(product(rectifier_map.adjoint(), active, u) - v) / residual_scale(v)
    if not (missing <= torch.finfo(v.dtype).eps ** 0.5).all():
        raise RuntimeError(
            f"the gradient cannot be computed: the Jacobian of a row is singular or nearly so (its linear system is "
            f"solved to {float(missing.max()):.1e} only)"
        )
    return u
