"""One step of Newton's method at a solution, which does not change it but makes it differentiable."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class ImplicitStep(torch.autograd.Function):
    """x − S·r at a solution x, where r = 0: x itself, with the gradient −Sᵀ of the residual r.

    Args:
        residual: r.
        x: the solution, without a graph.
        solve: v ↦ −Sᵀv.
        weights: what S is made of, for autograd to notice if they are changed in place before the backward pass.
    """

    @staticmethod
    def forward(ctx: Any, residual: Tensor, x: Tensor, solve: Callable[[Tensor], Tensor], *weights: Tensor) -> Tensor:
        ctx.solve, ctx.number = solve, len(weights)
        ctx.save_for_backward(*weights)
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError("the inverse can be differentiated once only; call without create_graph=True")
        _ = ctx.saved_tensors  # which refuses changed weights
        return ctx.solve(gradient), None, None, *[None] * ctx.number
