"""The search for a fold: two inputs whose Jacobians have determinants of different signs, and what lies between."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from replication.checks import check_counts, check_rows, neither
from replication.folds.jacobians import Factorization, Jacobians
from replication.folds.pairs import Pair, kink_pair, null_pair, smooth_pair
from replication.forward_mode import Map, jacobian_product
from replication.rows import dot, row_norm

HALVINGS = 50
DESCENTS = 4  # inputs of smooth maps to go downhill from
DESCENT_STEPS = 50
UPHILL = 8  # steps that may bring nothing
SPREADS = (1.0, 3.0, 10.0)  # of random inputs, in standard deviations of the given ones
NEARBY = 1e-6  # distance, relative, over which a piecewise linear map rarely changes its piece


@dataclass(frozen=True)
class FoldSearch:
    """What a search for a fold found.

    Attributes:
        pair: two inputs with the same output, or None if none was found, which proves nothing.
        reason: one sentence with the numbers.
        signs: of the determinants at the inputs looked at: 1, −1, or 0 where it is singular.
        halvings: of the segment between two inputs.
        steps: towards a sign change, for smooth maps.
    """

    pair: Pair | None
    reason: str
    signs: list[int] = field(default_factory=list)
    halvings: int = 0
    steps: int = 0

    __bool__ = neither("search.pair is not None")


@dataclass(frozen=True)
class Point:
    """An input (1, *shape) with its factorized Jacobian."""

    x: Tensor
    J: Factorization


@torch.no_grad()
def find_fold(f: Map, inputs: Tensor, random_inputs: int = 6, seed: int = 0) -> FoldSearch:
    """Look for two inputs with the same output, which prove that f is not injective.

    Determinants of different signs prove that f folds between; a singular piece of a piecewise linear f folds by
    itself. For piecewise linear maps the pair lies on both sides of one kink, and is as exact as float64 is; for smooth
    ones it is found by Newton's method, and its `curvature` says what proves it.

    Source: design of the package (no paper has it); the local degree of an injective map is the same everywhere.

    Args:
        f: maps rows (batch, *shape), each by itself, to rows like them; in float64, modules in eval mode.
        inputs: where to look (batch, *shape), in this order, until two signs are seen.
        random_inputs: normal inputs of the mean and deviation of the given ones, times 1, 3, 10, to look at after them.
        seed: of these.

    Raises:
        TypeError: if the inputs are not in float64.
        ValueError: if they are not finite, there are none, or f does not keep the shape.

    >>> search = find_fold(lambda x: x - 2 * torch.relu(x), torch.tensor([[1.0], [-1.0]], dtype=torch.float64))
    >>> search.signs, search.pair.holds
    ([-1, 1], True)
    """
    check_counts(0, random_inputs=random_inputs, seed=seed)
    check_map(f, inputs)
    jacobians = Jacobians(f, inputs[:1])
    linear = is_piecewise_linear(f, inputs[:1])
    seen: dict[int, Point] = {}
    signs: list[int] = []
    for x in candidates(inputs, random_inputs, seed):
        point = Point(x, jacobians(x))
        signs.append(point.J.sign)
        if point.J.sign == 0 and linear and (pair := null_pair(f, x, point.J)).holds:
            return told(FoldSearch(pair, "the Jacobian is singular in a whole piece of this map", signs))
        seen.setdefault(point.J.sign, point)
        if {1, -1} <= set(seen):
            found = halved(f, jacobians, seen[1], seen[-1], linear)
            return told(replace(found, signs=signs))
    if linear:
        return FoldSearch(None, f"no fold found: {signs_in_words(signs)}", signs)
    return told(replace(descended(f, jacobians, inputs), signs=signs))


def check_map(f: Map, inputs: object) -> None:
    check_rows(inputs, torch.zeros((), dtype=torch.float64))
    assert isinstance(inputs, Tensor)
    if not len(inputs) or inputs.ndim < 2:
        raise ValueError("inputs must hold at least one row, and rows a dimension of their own")
    shape = tuple(f(inputs[:1].clone()).shape)
    if shape != (1, *inputs.shape[1:]):
        raise ValueError(f"the map takes {(1, *inputs.shape[1:])} to {shape}; only maps that keep the shape are tested")


def candidates(inputs: Tensor, random_inputs: int, seed: int) -> Iterator[Tensor]:
    """Yield the inputs, and then random ones, one (1, *shape) at a time."""
    yield from inputs.split(1)
    generator = torch.Generator().manual_seed(seed)
    deviation = (inputs - inputs.mean()).square().mean().sqrt()
    deviation = torch.where(deviation > 0, deviation, 1)
    for k in range(random_inputs):
        noise = torch.randn(inputs[:1].shape, dtype=inputs.dtype, generator=generator)
        yield inputs.mean() + SPREADS[k % len(SPREADS)] * deviation * noise


def is_piecewise_linear(f: Map, x: Tensor) -> bool:
    """Return whether products with the Jacobian are the same at most neighbours of x, to rounding."""
    generator = torch.Generator().manual_seed(0)
    way, v = torch.randn(2, 16, *x.shape[1:], dtype=x.dtype, generator=generator)
    there = x + way * (NEARBY * row_norm(x).clamp_min(1) / row_norm(way)[0])
    here = jacobian_product(f, x.expand_as(v).clone(), v)
    change = row_norm(jacobian_product(f, there, v) - here) / row_norm(here).clamp_min(torch.finfo(x.dtype).tiny)
    return bool((change < 1e-13 * x[0].numel() ** 0.5).double().mean() >= 0.5)


def halved(f: Map, jacobians: Jacobians, a: Point, b: Point, linear: bool) -> FoldSearch:
    """Halve the segment between determinants of different signs until a pair can be made of what is left."""
    generator = torch.Generator().manual_seed(0)
    for halving in range(HALVINGS + 1):
        if (pair := pair_between(f, jacobians, a, b, linear)) is not None and pair.holds:
            place = "one kink" if linear else "a smooth fold"
            return FoldSearch(pair, f"the determinants on the sides of {place} have different signs", halvings=halving)
        middle = (a.x + b.x) / 2
        if halving % 2:  # off the line, lest several kinks meet it in one point
            noise = torch.randn(middle.shape, dtype=middle.dtype, generator=generator)
            middle = middle + 0.05 * row_norm(a.x - b.x) / row_norm(noise) * noise
        point = Point(middle, jacobians(middle))
        if point.J.sign == 0:
            if linear and (pair := null_pair(f, middle, point.J)).holds:
                return FoldSearch(pair, "the Jacobian is singular in a whole piece of this map", halvings=halving + 1)
            return FoldSearch(None, "a determinant on the way is zero to rounding", halvings=halving + 1)
        a, b = (point, b) if point.J.sign == a.J.sign else (a, point)
    return FoldSearch(None, f"no pair found after {HALVINGS} halvings, although determinants have both signs")


def pair_between(f: Map, jacobians: Jacobians, a: Point, b: Point, linear: bool) -> Pair | None:
    if linear:
        return kink_pair(f, a.x, b.x, a.J, b.J)
    nearer = min(a, b, key=lambda point: point.J.smallest.value)
    return smooth_pair(f, jacobians, nearer.x, nearer.J)


def descended(f: Map, jacobians: Jacobians, inputs: Tensor) -> FoldSearch:
    """Follow the smallest singular value of a smooth map down until the determinant changes its sign, then `halved`."""
    total = 0
    for x in inputs[:DESCENTS].split(1):
        point = Point(x, jacobians(x))
        values = [point.J.smallest.value]
        while len(values) <= DESCENT_STEPS and min(values[-UPHILL:]) == min(values):
            move = downhill(f, point)
            if move is None:
                break
            total += 1
            following = Point(point.x + move, jacobians(point.x + move))
            if following.J.sign * point.J.sign < 0:
                return replace(halved(f, jacobians, point, following, linear=False), steps=total)
            point = following
            values.append(point.J.smallest.value)
    return FoldSearch(None, f"no fold found: no determinant changed its sign in {total} steps downhill", steps=total)


def downhill(f: Map, point: Point) -> Tensor | None:
    """Return a step 1.5 times as long as would make the smallest singular value zero if it were affine, or None.

    Its gradient is that of ⟨u, f′(x)v⟩ for its vectors u and v: the derivative of ∇⟨u, f⟩ along v. It is taken by
    differences, since not every activation can be differentiated forward and backward at once.
    """
    smallest = point.J.smallest
    h = 1e-5 * row_norm(point.x).clamp_min(1)
    ahead, behind = (pulled_back(f, point.x + side * h * smallest.right, smallest.left) for side in (1, -1))
    gradient = (ahead - behind) / (2 * h)
    if not float(dot(gradient, gradient)) > 0:
        return None
    step = -1.5 * smallest.value * gradient / dot(gradient, gradient)
    longest = row_norm(point.x).clamp_min(1) / 4
    return step * (longest / row_norm(step)).clamp_max(1)


@torch.enable_grad()
def pulled_back(f: Map, x: Tensor, u: Tensor) -> Tensor:
    """Return f′(x)ᵀu, like x."""
    x = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad((f(x.clone()) * u).sum(), x)
    return gradient


def signs_in_words(signs: list[int]) -> str:
    positive, negative = signs.count(1), signs.count(-1)
    return f"of {len(signs)} determinants {positive} are positive, {negative} negative, and the others zero to rounding"


def told(search: FoldSearch) -> FoldSearch:
    """Add the numbers to the sentence."""
    if search.pair is None:
        return search
    pair = search.pair
    size = float(row_norm(pair.x1))
    apart = f"{pair.distance / size:.2g} of their length" if size > 0 else f"{pair.distance:.2g}"
    numbers = f"two inputs {apart} apart have outputs that differ by {pair.gap:.1e} of that distance"
    proof = ""
    if pair.curvature is not None:
        proof = f" (proved if the Jacobian's Lipschitz constant there is at most {pair.curvature:.1e}, else evidence)"
    return replace(search, reason=f"not injective: {search.reason}, and {numbers}{proof}")
