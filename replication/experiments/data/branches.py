"""Random residual branches of any number of layers and any activation, each of them with one size γ (fig9)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from replication.activations import Activation, activation_of
from replication.experiments.data.ensembles import DTYPE, normal


@dataclass(frozen=True, eq=False)
class Branches:
    """Maps f(x) = x + W_{L+1}φ(… φ(W₁x + b₁) …), one for each row of x.

    Attributes:
        weights: W₁ to W_{L+1}, each (rows, out, in).
        biases: b₁ to b_L, each (rows, out).
        function: φ, element by element.
    """

    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]
    function: Callable[[Tensor], Tensor]

    def __call__(self, x: Tensor) -> Tensor:
        """Return f(x) (rows, d)."""
        z = x
        for W, b in zip(self.weights, self.biases, strict=False):
            z = self.function((W @ z[..., None])[..., 0] + b)
        return x + (self.weights[-1] @ z[..., None])[..., 0]

    def select(self, rows: Tensor) -> Branches:
        """Keep these rows."""
        return Branches(tuple(W[rows] for W in self.weights), tuple(b[rows] for b in self.biases), self.function)

    def matrix(self) -> Tensor:
        """Return A (rows, n, n) of the equation s + Aφ(s) = c in all preactivations s.

        For W₃φ(W₂φ(W₁x)) it is [[0, W₁W₃], [−W₂, 0]].
        """
        first, *inner, last = self.weights
        widths = [b.shape[-1] for b in self.biases]
        ends = list(accumulate(widths, initial=0))
        A = first.new_zeros(len(first), ends[-1], ends[-1])
        A[:, : ends[1], ends[-2] :] = first @ last
        for layer, W in enumerate(inner, start=1):
            A[:, ends[layer] : ends[layer + 1], ends[layer - 1] : ends[layer]] = -W
        return A

    def scaled(self, gamma: Tensor) -> Branches:
        """Return the maps with γA in place of A, for each of the values γ (values,), those of the first γ first."""
        first, *inner, last = self.weights
        weights = [times(first, gamma.sqrt()), *(times(W, gamma) for W in inner), times(last, gamma.sqrt())]
        return Branches(tuple(weights), tuple(b.repeat(len(gamma), 1) for b in self.biases), self.function)


@dataclass(frozen=True)
class BranchKind:
    """So many layers of one activation.

    Attributes:
        activation: as torch names it.
        layers: of the activation, at least 1.
        options: of the activation.
    """

    activation: str
    layers: int = 1
    options: Mapping[str, float] = field(default_factory=dict)

    @property
    def phi(self) -> Activation:
        """The activation, with the interval [α, β] of its slopes."""
        return activation_of(self.activation, **self.options)

    def draw(self, cases: int, n: int, generator: torch.Generator) -> Branches:
        """Draw maps of d = n inputs and n preactivations in layers of about one width: normal weights and biases.

        Weights are scaled so that each block of A has norm 1: W₁W_{L+1}, and every one between. So ‖A‖ = 1, which no
        scaling of whole layers makes less.

        Args:
            cases: how many.
            n: order of A, at least the number of layers.
            generator: source of randomness.

        Raises:
            ValueError: if there are fewer preactivations than layers.
        """
        if not 1 <= self.layers <= n:
            raise ValueError(f"{self.layers} layers need at least as many preactivations, not {n}; raise the order")
        widths = [n // self.layers + (layer < n % self.layers) for layer in range(self.layers)]
        sizes = [n, *widths, n]
        weights = [normal(cases, out, into, generator=generator) for into, out in pairwise(sizes)]
        biases = tuple(normal(cases, width, generator=generator) for width in widths)
        first, *inner, last = weights
        root = norm(first @ last).sqrt()
        unit = (first / root, *(W / norm(W) for W in inner), last / root)
        return Branches(unit, biases, self.phi)


def norm(W: Tensor) -> Tensor:
    """Return ‖W‖₂ of matrices (cases, out, in), as (cases, 1, 1)."""
    found: Tensor = torch.linalg.matrix_norm(W, ord=2, keepdim=True)
    return found


def times(W: Tensor, factors: Tensor) -> Tensor:
    """Return matrices (cases, out, in) times each factor (values,), as (values·cases, out, in)."""
    return (factors.to(DTYPE)[:, None, None, None] * W).flatten(0, 1)
