"""Derivatives along directions, by forward differentiation."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

Map = Callable[[Tensor], Tensor]


def along(function: Callable[..., Any], at: tuple[Tensor, ...], directions: tuple[Tensor, ...]) -> Any:
    """Return the derivative of a function at a point along a direction, both one tensor for each argument."""
    load_forward_mode()
    return torch.func.jvp(function, at, directions)[1]


def jacobian_product(function: Map, x: Tensor, v: Tensor) -> Tensor:
    """Return f′(x)v, row by row, for x and v (batch, *shape)."""
    load_forward_mode()
    with forward_ad.dual_level():  # as torch.func.jvp does, which costs more
        image = forward_ad.unpack_dual(function(forward_ad.make_dual(x, v)))
    return torch.zeros_like(v) if image.tangent is None else image.tangent.detach()


@cache
def load_forward_mode() -> None:
    """Let torch load what forward differentiation needs, without its warnings about itself."""
    with warnings.catch_warnings(), forward_ad.dual_level():
        warnings.simplefilter("ignore")
        forward_ad.make_dual(torch.zeros(()), torch.zeros(()))
