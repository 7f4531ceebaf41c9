"""Two inputs with the same output, from where a map folds: at a kink, along a null direction, at a smooth fold."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from replication.folds.jacobians import Factorization, Jacobians
from replication.forward_mode import Map, jacobian_product
from replication.rows import column, dot, row_norm

ACCURACY = 1e-9  # of outputs that count as the same, relative to the distance of the inputs
ALIKE = 1e-8  # to which changes of a Jacobian across one kink agree
SCALES = 2.0 ** -torch.arange(2, 44, dtype=torch.float64)  # of the inputs: distances that are tried
NEWTON_STEPS = 8


@dataclass(frozen=True)
class Pair:
    """Two inputs, and how near their outputs are.

    Attributes:
        x1, x2: (1, *shape).
        distance: ‖x₁ − x₂‖.
        gap: ‖f(x₁) − f(x₂)‖ / ‖x₁ − x₂‖, as evaluated in float64.
        curvature: for smooth maps: the pair is proved, by the theorem of Newton and Kantorovich, if the Jacobian's
            Lipschitz constant near x₂ is at most this; None for piecewise linear ones, where the pieces prove it.
    """

    x1: Tensor
    x2: Tensor
    distance: float
    gap: float
    curvature: float | None = None

    @property
    def holds(self) -> bool:
        """Whether the inputs differ, and their outputs to less than 1e-9 of that."""
        return self.distance > 0 and self.gap <= ACCURACY


def best_pair(f: Map, x: Tensor, first: Tensor, second: Tensor) -> Pair:
    """Return the pair x + s·first, x + s·second of the scale s ≤ 1 that suits best: exact, and then far apart.

    Args:
        f: the map.
        x: a point where f folds (1, *shape).
        first, second: directions, like x.
    """
    s = column(SCALES.to(x), x)
    x1, x2 = x + s * first, x + s * second
    distances = row_norm(x1 - x2)
    gaps = row_norm(f(x1.clone()) - f(x2.clone())) / distances
    gaps = torch.where(torch.isfinite(gaps), gaps, torch.inf)
    exact = (gaps <= ACCURACY / 100).nonzero().flatten()
    k = int(exact[0]) if len(exact) else int(gaps.argmin())
    return Pair(x1[k : k + 1], x2[k : k + 1], float(distances[k]), float(gaps[k]))


def pair_of(f: Map, x1: Tensor, x2: Tensor) -> Pair:
    """Measure two inputs."""
    distance = float(row_norm(x1 - x2))
    gap = float(row_norm(f(x1.clone()) - f(x2.clone())))
    return Pair(x1, x2, distance, gap / distance if distance > 0 else float("inf"))


def null_pair(f: Map, x: Tensor, jacobian: Factorization) -> Pair:
    """Return x and a point from it along the null direction of f′(x): in one linear piece f is constant there."""
    v = jacobian.smallest.right * row_norm(x).clamp_min(1)
    pairs = [best_pair(f, x, torch.zeros_like(x), side * v) for side in (1, -1)]
    return max(pairs, key=lambda pair: (pair.holds, pair.distance if pair.holds else -pair.gap))


def kink_pair(f: Map, a: Tensor, b: Tensor, Ja: Factorization, Jb: Factorization) -> Pair | None:
    """Return two inputs beside the kink between a and b, or None if more than one lies between them, or it is no fold.

    With one kink on the segment f′(b) = f′(a) + uwᵀ. Let it meet the segment in x₀, and put q = f′(a)⁻¹u: then
    f′(b)q = κu with κ = det f′(b)/det f′(a). If κ < 0, then f runs along x₀ + sq up to the kink and back again:

        f(x₀ + sq) = f(x₀) + su = f(x₀ + (s/κ)q)    while both stay in their pieces.
    """
    d = b - a
    rise, at_a, at_b = f(b.clone()) - f(a.clone()), jacobian_product(f, a.clone(), d), jacobian_product(f, b.clone(), d)
    u = at_b - at_a
    if not float(dot(u, u)) > 0:
        return None
    t = dot(at_b - rise, u) / dot(u, u)
    if float(row_norm(at_b - rise - column(t, u) * u)) > ALIKE * float(row_norm(u)) or not 0 <= float(t) <= 1:
        return None
    q = Ja.solve(u)
    image = jacobian_product(f, b.clone(), q)
    kappa = float(dot(image, u) / dot(u, u))
    if not kappa < 0 or float(row_norm(image - kappa * u)) > ALIKE * float(row_norm(image)):
        return None
    x = a + column(t, d) * d
    q = q * (row_norm(x).clamp_min(1) / row_norm(q) / max(1, 1 / -kappa))
    pair = best_pair(f, x, q, q / kappa)
    return max(pair, corrected(f, pair, Jb), key=lambda found: -found.gap)


def corrected(f: Map, pair: Pair, jacobian: Factorization) -> Pair:
    """Move the second input by one step of Newton's method onto the output of the first."""
    x2 = pair.x2 - jacobian.solve(f(pair.x2.clone()) - f(pair.x1.clone()))
    return pair_of(f, pair.x1, x2)


def smooth_pair(f: Map, jacobians: Jacobians, x: Tensor, J: Factorization) -> Pair | None:
    """Return x and an input beyond the fold near it, or None if Newton's method does not find one.

    Along the smallest singular vectors v and u, ⟨u, f(x + sv)⟩ is about σs + cs²/2, so that x − (2σ/c)v has nearly the
    output of x; Newton's method goes on from there.
    """
    sigma, u, v = J.smallest.value, J.smallest.left, J.smallest.right
    step = 1e-5 * max(1.0, float(row_norm(x)))
    ahead = jacobian_product(f, x + step * v, v) - jacobian_product(f, x - step * v, v)
    c = float(dot(u, ahead)) / (2 * step)
    if c == 0 or not abs(sigma / c) <= max(1.0, float(row_norm(x))):
        return None
    start = x - (2 * sigma / c) * v
    x2, y = start, f(x.clone())
    for _ in range(NEWTON_STEPS):
        there = jacobians(x2)
        residual = f(x2.clone()) - y
        x2 = x2 - there.solve(residual)
        if not torch.isfinite(x2).all() or float(row_norm(x2 - start)) > float(row_norm(start - x)):
            return None
        pair = pair_of(f, x, x2)
        if pair.gap <= ACCURACY / 1e5:
            break
    if not pair.holds or pair.distance < float(row_norm(start - x)) / 4:
        return None
    return Pair(pair.x1, pair.x2, pair.distance, pair.gap, curvature(pair, y, jacobians(x2)))


def curvature(pair: Pair, y: Tensor, jacobian: Factorization) -> float:
    """Return the Lipschitz constant of f′ near x₂ up to which an input with the output of x₁ is sure to be near x₂.

    Newton's method converges from x₂ if h = β²rK ≤ 1/2, with β = ‖f′(x₂)⁻¹‖, r = ‖f(x₂) − f(x₁)‖ and K that constant,
    to a point no farther than 2βr from x₂, and so not to x₁ where that is less than the distance.

    Source: Kantorovich (1948); Ortega, Am. Math. Mon. 75 (1968) 658–660. β is estimated from below.
    """
    rounding = 100 * torch.finfo(y.dtype).eps * float(row_norm(y))
    r, beta = pair.gap * pair.distance + rounding, 1 / jacobian.smallest.value
    return 0.0 if 2 * beta * r >= pair.distance else 1 / (2 * beta**2 * r)
