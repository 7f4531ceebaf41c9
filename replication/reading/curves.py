"""Element-wise functions that somebody wrote out, x·sigmoid(x) say: which activation they are, number by number."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from replication.reading.guest import UnreadableError
from replication.reading.known_activations import WRITTEN_OUT, Known, bent, exponential, scaled

Curve = Callable[[Tensor], Tensor]
POINTS = (1e-3, 0.01, 0.1, 0.3, 0.5, 0.9, 1.0, 1.5, 2.0, 2.9, 3.1, 4.0, 5.9, 6.1, 8.0, 12.0, 19.0, 40.0)
Recipe = tuple[Callable[..., Known], tuple[Tensor, ...]]


def recognised(curve: Curve, like: Tensor, eps: float) -> Recipe:
    """Return how to make the activation that a curve is, with its numbers in the shape of `like`.

    The candidates are bent lines, and multiples of the usual activations; one is taken if it agrees with the curve to
    rounding at 37 points, for every number of the tensor.

    Raises:
        UnreadableError: if it is none of them.
    """
    values = {u: curve(torch.full_like(like, u)).to(like.dtype) for u in (0.0, *POINTS, *(-u for u in POINTS))}
    for recipe in candidates(values):
        make, numbers = recipe
        found = make(*numbers).function
        if all(agree(found(torch.full_like(like, u)), value, u, eps) for u, value in values.items()):
            return recipe
    raise UnreadableError("it is part of an element-wise function that is no activation known here")


def agree(found: Tensor, value: Tensor, u: float, eps: float) -> bool:
    """Return whether two values at u differ by rounding at most."""
    return bool(((found - value).abs() <= 100 * eps * (value.abs() + min(1.0, abs(u)))).all())


def candidates(values: dict[float, Tensor]) -> list[Recipe]:
    """Return the activations that agree with a curve at 1 and −1."""
    right, left = values[1.0], values[-1.0]
    total = right - left  # u·F(u) with F(u) + F(−u) = 1 gives the factor
    share = torch.where(total != 0, right / total, 0.5).clamp(1e-300, 1)
    everywhere: list[Recipe] = [
        (bent, (right, -left)),
        (exponential, (right, left / (torch.exp(-torch.ones_like(left)) - 1))),
        (silu, (total, apart(torch.logit(share)))),
        (gelu, (total, apart(torch.special.ndtri(share)))),
    ]
    one = torch.ones_like(right)
    for name, (function, _, _) in WRITTEN_OUT.items():
        everywhere.append((named(name), (right / function(one), one)))
    return everywhere


def named(name: str) -> Callable[..., Known]:
    """Return the maker of multiples of one activation."""

    def make(factor: Tensor, inner: Tensor) -> Known:
        return scaled(name, factor, inner)

    return make


silu, gelu = named("silu"), named("gelu")


def apart(inner: Tensor) -> Tensor:
    """Return scales that can be divided by."""
    return torch.where(inner.abs() > 1e-8, inner, 1e-8).nan_to_num(posinf=1e8, neginf=-1e8)
