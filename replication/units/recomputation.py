"""Backpropagation through reversible blocks without stored activations: the states are recomputed on the way back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from replication.units.reversible import BlockSequence, Coupling, Pair, frozen_statistics


class ReversibleSequence(BlockSequence):
    """Reversible blocks of one width, trained without stored activations: memory for them does not grow with depth.

    Only the last pair of states is kept. On the way back each coupling's branch is evaluated once more, which gives
    both the state before it and the gradients. Gradients are those of ordinary backpropagation up to the rounding of
    the states recomputed. Batch normalisation counts each batch once, and random numbers (dropout) and the precision
    (autocast) are those of the forward pass. Gradients cannot be differentiated again.

    Source: paper C, memory-efficient training (from recalled facts, assumption A14); Gomez, Ren, Urtasun, Grosse,
    NeurIPS 2017, arXiv 1707.04585.

    Args: as BlockSequence.
    """

    def forward(self, first: Tensor, second: Tensor) -> Pair:
        if not torch.is_grad_enabled():
            return super().forward(first, second)
        next(iter(self)).check_states(first, second)
        return recomputed([coupling for block in self for coupling in block], first, second)


def recomputed(couplings: Sequence[Coupling], first: Tensor, second: Tensor) -> Pair:
    """Take a pair of states through couplings, so that gradients come from recomputed states."""
    trained = {id(p): p for coupling in couplings for p in coupling.parameters() if p.requires_grad}
    pair: Pair = Recomputation.apply(couplings, list(trained), first, second, *trained.values())
    return pair


class Recomputation(torch.autograd.Function):
    """Couplings as one node of the autograd graph, which keeps their last pair of states alone."""

    @staticmethod
    def forward(
        ctx: Any, couplings: Sequence[Coupling], names: list[int], first: Tensor, second: Tensor, *parameters: Tensor
    ) -> Pair:
        ctx.couplings, ctx.names, ctx.randomness = couplings, names, []
        ctx.autocast = autocast_settings(first.device.type)
        for coupling in couplings:
            ctx.randomness.append(random_state(first.device))
            first, second = coupling(first, second)
        ctx.save_for_backward(first, second, *parameters)  # so that autograd refuses parameters changed before backward
        return first, second

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_first: Tensor, gradient_second: Tensor) -> tuple[Any, ...]:
        first, second, *_ = ctx.saved_tensors
        totals: dict[int, Tensor] = {}
        with frozen_statistics(*ctx.couplings), torch.autocast(**ctx.autocast), forked_randomness(first.device):
            for coupling, state in zip(reversed(ctx.couplings), reversed(ctx.randomness), strict=True):
                restore_random_state(first.device, state)
                first, second, gradient_first, gradient_second = step_back(
                    coupling, first, second, gradient_first, gradient_second, totals
                )
        return None, None, gradient_first, gradient_second, *(totals.get(name) for name in ctx.names)


def step_back(
    coupling: Coupling, b: Tensor, c: Tensor, gradient_b: Tensor, gradient_c: Tensor, totals: dict[int, Tensor]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Go back over (a, b) ↦ (b, c = ±a + branch(b)) with one evaluation of the branch.

    Args:
        coupling: the step.
        b, c: the pair after it.
        gradient_b, gradient_c: gradients in that pair.
        totals: gradients in the parameters by their id, to which this coupling's are added.

    Returns:
        The pair before it, and the gradients in it.
    """
    parameters = [p for p in coupling.parameters() if p.requires_grad]
    with torch.enable_grad():
        b = b.detach().requires_grad_()
        branch = coupling.branch(b)
    gradients = torch.autograd.grad(branch, [b, *parameters], gradient_c.to(branch.dtype), allow_unused=True)
    for parameter, gradient in zip(parameters, gradients[1:], strict=True):
        if gradient is not None:
            total = totals.get(id(parameter))
            totals[id(parameter)] = gradient if total is None else total + gradient
    a = coupling.undone(c, branch.detach())
    gradient_a = -gradient_c if coupling.reflects else gradient_c
    return a, b.detach(), gradient_a, gradient_b if gradients[0] is None else gradient_b + gradients[0]


def autocast_settings(device_type: str) -> dict[str, Any]:
    """Return the arguments of `torch.autocast` that are in force; its cache would keep a second copy of all weights."""
    return {
        "device_type": device_type,
        "enabled": torch.is_autocast_enabled(device_type),
        "dtype": torch.get_autocast_dtype(device_type),
        "cache_enabled": False,
    }


def random_state(device: torch.device) -> tuple[Tensor, ...]:
    """Return the state of the generators that a branch on this device may draw from."""
    states = [torch.get_rng_state()]
    if device.type != "cpu":
        states.append(torch.get_device_module(device).get_rng_state(device))
    return tuple(states)


def restore_random_state(device: torch.device, states: tuple[Tensor, ...]) -> None:
    """Set the generators to a state that `random_state` returned."""
    torch.set_rng_state(states[0])
    for state in states[1:]:
        torch.get_device_module(device).set_rng_state(state, device)


@contextmanager
def forked_randomness(device: torch.device) -> Iterator[None]:
    """Leave the generators behind as they were."""
    states = random_state(device)
    try:
        yield
    finally:
        restore_random_state(device, states)
