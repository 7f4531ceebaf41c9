"""Multilayer ReLU networks, read off `nn.Sequential`s of linear layers with ReLUs between them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from replication.checks import check_numbers

SHAPE = "an nn.Sequential of nn.Linear, nn.ReLU, nn.Linear, … in turn, beginning with nn.Linear"


@dataclass(frozen=True)
class Multilayer:
    """The numbers of x ↦ W_L·relu(… relu(W₁x + b₁) …) + b_L, with a last ReLU or without.

    Attributes:
        weights: (d_l, d_{l−1}) for l = 1, …, L.
        biases: (d_l,), of zeros where a layer has none.
        rectified: whether a ReLU follows the last layer.
        has_biases: whether a layer has biases.
    """

    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]
    rectified: bool
    has_biases: bool

    @staticmethod
    def of(network: object) -> Multilayer:
        """Read a network.

        Raises:
            TypeError: if it is no such module, or its weights are not all float32 or all float64.
            ValueError: if its layers do not fit each other, are empty, or have values that are not finite.
        """
        modules = list(network) if isinstance(network, nn.Sequential) else []
        linear = [module for module in modules[::2] if isinstance(module, nn.Linear)]
        between = [module for module in modules[1::2] if isinstance(module, nn.ReLU)]
        if not modules or len(linear) + len(between) < len(modules):
            raise TypeError(f"the network must be {SHAPE}, not {described(network)}")
        weights, given = tuple(layer.weight for layer in linear), tuple(layer.bias for layer in linear)
        named = {f"weight {place}": W for place, W in enumerate(weights, 1)}
        check_numbers(**named, **{f"bias {place}": b for place, b in enumerate(given, 1) if b is not None})
        inputs = weights[0].shape[-1:]
        for place, (W, b) in enumerate(zip(weights, given, strict=True), 1):
            if W.ndim != 2 or W.numel() == 0 or W.shape[1:] != inputs or (b is not None and b.shape != W.shape[:1]):
                raise ValueError(
                    f"layer {place}, of weights {tuple(W.shape)}, is empty or does not fit what is before it"
                )
            inputs = W.shape[:1]
        biases = tuple(W.new_zeros(len(W)) if b is None else b for W, b in zip(weights, given, strict=True))
        return Multilayer(weights, biases, len(between) == len(linear), any(b is not None for b in given))

    @property
    def widths(self) -> tuple[int, ...]:
        """The widths d₀, …, d_L."""
        return self.weights[0].shape[1], *(len(W) for W in self.weights)


def described(network: object) -> str:
    """Return of what kind something is, and of what kinds its parts are."""
    if not isinstance(network, nn.Sequential):
        return type(network).__name__
    return f"one of {', '.join(type(module).__name__ for module in network) or 'nothing'}"


def check_finite(found: Tensor, what: str) -> None:
    """Refuse what has overflowed.

    Raises:
        ValueError: if it has.
    """
    if not torch.isfinite(found).all():
        raise ValueError(f"{what} overflows {found.dtype}; scale the weights down, or take float64")
