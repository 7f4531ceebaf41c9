"""What layers that are undone by least squares share: checks, bounds of the error, status codes, and the gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from replication.checks import check_number


def check_outputs(y: Tensor, shape: tuple[int, ...]) -> None:
    """Refuse what is no batch of outputs (batch, *shape).

    Raises:
        ValueError: if it has another shape.

    >>> check_outputs(torch.ones(4, 2), (3,))
    Traceback (most recent call last):
    ValueError: the layer's outputs have the shape (batch, 3), not (4, 2)
    """
    if tuple(y.shape[1:]) != shape:
        raise ValueError(
            f"the layer's outputs have the shape (batch, {', '.join(map(str, shape))}), not {tuple(y.shape)}"
        )


def check_noise(noise: object) -> None:
    """Refuse what is no bound of a norm.

    Raises:
        TypeError: if it is no number.
        ValueError: if it is negative or NaN.

    >>> check_noise(-1)
    Traceback (most recent call last):
    ValueError: the noise must not be negative, not -1
    """
    check_number("noise", noise)
    if not noise >= 0:  # type: ignore[operator]
        raise ValueError(f"the noise must not be negative, not {noise!r}")


def pseudoinverse_adjoint(W: Tensor, rows: Tensor, v: Tensor) -> Tensor:
    """Return u (batch, m) with u = W_A(W_AᵀW_A)⁻¹v, of the marked rows A (batch, m) of W (m, n), for v (batch, n).

    Raises:
        RuntimeError: if the marked rows do not span, or nearly so.

    >>> W, rows = torch.tensor([[2.0, 0.0], [0.0, 4.0], [1.0, 1.0]]), torch.tensor([[True, True, False]])
    >>> pseudoinverse_adjoint(W, rows, torch.ones(1, 2))
    tensor([[0.5000, 0.2500, 0.0000]])
    """
    part = rows.to(W.dtype)[:, :, None] * W
    inverse = torch.linalg.pinv(part)
    missing = (inverse @ part - torch.eye(W.shape[1]).to(W)).abs()
    if missing.numel() and not missing.max() <= torch.finfo(W.dtype).eps ** 0.5:
        raise RuntimeError(
            "the gradient cannot be computed: the active rows of W do not span, or nearly so, at one of the inputs"
        )
    x: Tensor = torch.linalg.vecdot(inverse.mT, v[:, None])
    return x


def nearby(misfit: Tensor, constant: Tensor, slope: Tensor | float) -> Tensor:
    """Bound e where constant·e ≤ misfit + slope·e: infinite where the constant is no larger than the slope.

    >>> nearby(torch.tensor([1.0, 1.0]), torch.tensor([4.0, 2.0]), 2.0)
    tensor([0.5000,    inf])
    """
    return torch.where(constant > slope, misfit / (constant - slope), torch.inf)


def rounded_up(bound: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a bound in another dtype, with room for the rounding of what it was computed from; infinite where NaN.

    >>> bound = torch.tensor([1.0, torch.nan]).double()
    >>> rounded_up(bound, torch.float32) > bound
    tensor([ True, False])
    >>> rounded_up(bound, torch.float32)
    tensor([1.0000,    inf])
    """
    return (bound * (1 + 64 * torch.finfo(dtype).eps)).nan_to_num(nan=torch.inf, posinf=torch.inf).to(dtype)


def where_known(bound: Tensor) -> Tensor | None:
    """Return bounds (batch,), or None if all are infinite.

    >>> where_known(torch.tensor([1.0, torch.inf])), where_known(torch.tensor([torch.inf]))
    (tensor([1., inf]), None)
    """
    return None if torch.isinf(bound).all() else bound
