"""Element-wise functions that somebody wrote out, x·sigmoid(x) say: which activation they are, number by number."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations, pairwise

import torch
from torch import Tensor

from replication.activations import Activation
from replication.reading.calls import Node, Recipe, Root
from replication.reading.guest import UnreadableError
from replication.reading.known_activations import (
    BENT,
    COMPARISONS,
    JUMPING,
    WRITTEN_OUT,
    bent,
    exponential,
    scaled,
)

MAGNITUDES = (
    *(1e-3, 0.01, 0.1, 0.31, 0.5, 0.77, 0.9, 1.0, 1.3, 1.7, 2.0, 2.23, 2.9, 3.1, 3.7, 4.6, 5.9, 6.1, 7.3, 8.9, 12.0),
    *(15.7, 19.0, 21.0, 27.0, 40.0, 90.0, 400.0, 2e3, 3e4, 1e6),
)
POINTS = (0.0, *MAGNITUDES, *(-u for u in MAGNITUDES))
USUAL_BENDS = (0.0, 3.0, 6.0)  # of ReLU, ReLU6 and the hard sigmoid


@dataclass(frozen=True)
class Curve:
    """A tensor as a function of another, number by number.

    Attributes:
        steps: names of tensors and how they were computed, in order.
        of: the name of the other.
    """

    steps: list[tuple[Root, Node]]
    of: Root

    def __call__(self, numbers: Tensor) -> Tensor:
        """Return the function's values."""
        return self.values(numbers)[self.steps[-1][0]]

    def values(self, numbers: Tensor) -> dict[Root, Tensor]:
        """Return those of all tensors between."""
        known = {self.of: numbers}
        for name, node in self.steps:
            known[name] = node.function([known[operand] for operand in node.operands])
        return known

    def bends(self, like: Tensor) -> list[Tensor]:
        """Return where the function may bend or jump, each for all numbers in the shape of `like`.

        Raises:
            UnreadableError: if that cannot be told.
        """
        at = [self.values(torch.full_like(like, u)) for u in (0.0, 1.0, 2.0)]
        found = []
        for _, node in self.steps:
            if node.name in JUMPING - COMPARISONS:
                raise UnreadableError("it jumps")
            if node.name in BENT:
                for zero, one, two in gaps(node, at):
                    if not torch.allclose(two - one, one - zero, rtol=1e-6, atol=1e-9):
                        raise UnreadableError("it bends where that cannot be told")
                    found.append(torch.where(one != zero, -zero / (one - zero), 0).nan_to_num(0, 0, 0))
        return found


def gaps(node: Node, at: list[dict[Root, Tensor]]) -> Iterator[tuple[Tensor, ...]]:
    """Yield what is zero where a function may bend, at three points."""
    operands = [name for name in node.operands if at[0][name].dtype != torch.bool]
    for name in operands:
        for bend in (*USUAL_BENDS, *node.constants):
            yield tuple(values[name] - bend for values in at)
            yield tuple(values[name] + bend for values in at)
    for a, b in combinations(operands, 2):
        yield tuple(values[a] - values[b] for values in at)


def points(curve: Curve, like: Tensor) -> list[Tensor]:
    """Return where a curve is compared: at many sizes, at and beside every bend and between any two."""
    bends = curve.bends(like)
    if not bends:
        return [torch.full_like(like, u) for u in POINTS]
    ordered = torch.stack(bends).unique(dim=0).sort(0).values
    middles = [(1 - t) * a + t * b for a, b in pairwise(ordered) for t in (0.3, 0.5, 0.8)]
    beside = [b * (1 + side) + side for b in ordered for side in (1e-4, -1e-4)]
    return [*(torch.full_like(like, u) for u in POINTS), *ordered, *beside, *middles]


def recognised(curve: Curve, like: Tensor, eps: float) -> Recipe:
    """Return how to make the activation that a curve is, with its numbers in the shape of `like`.

    The candidates are bent lines and multiples of the usual activations; one is taken if it agrees with the curve to
    rounding at 63 points of all sizes, and at, beside and between all bends, for every number of the tensor.

    Raises:
        UnreadableError: if it is none of them.
    """
    values = [(u, curve(u).to(like.dtype)) for u in points(curve, like)]
    ends = (curve(torch.full_like(like, u)).to(like.dtype) for u in (1.0, -1.0))
    for recipe in candidates(*ends):
        make, numbers = recipe
        found = make(*numbers).function
        if all(agree(found(u), value, u, eps) for u, value in values):
            return recipe
    raise UnreadableError("it is part of an element-wise function that is no activation known here")


def agree(found: Tensor, value: Tensor, u: Tensor, eps: float) -> bool:
    """Return whether two values at u differ by rounding at most, or far out what was written overflows."""
    close = (found - value).abs() <= 100 * eps * (value.abs() + u.abs().clamp(max=1))
    return bool((close | (~torch.isfinite(value) & (u.abs() > 80))).all())


def candidates(right: Tensor, left: Tensor) -> list[Recipe]:
    """Return the activations that agree with a curve at 1 and −1, where it is `right` and `left`."""
    total = right - left  # u·F(u) with F(u) + F(−u) = 1 gives the factor
    share = torch.where(total != 0, right / total, 0.5).clamp(1e-300, 1)
    everywhere: list[Recipe] = [
        (bent, (right, -left)),
        (exponential, (right, left / (torch.exp(-torch.ones_like(left)) - 1))),
        (silu, (total, apart(torch.logit(share)))),
        (gelu, (total, apart(torch.special.ndtri(share)))),
    ]
    one = torch.ones_like(right)
    for name, activation in WRITTEN_OUT.items():
        everywhere.append((named(name), (right / activation(one), one)))
    return everywhere


def named(name: str) -> Callable[..., Activation]:
    """Return the maker of multiples of one activation."""

    def make(factor: Tensor, inner: Tensor) -> Activation:
        return scaled(name, factor, inner)

    return make


silu, gelu = named("silu"), named("gelu")


def apart(inner: Tensor) -> Tensor:
    """Return scales that can be divided by."""
    return torch.where(inner.abs() > 1e-8, inner, 1e-8).nan_to_num(posinf=1e8, neginf=-1e8)
