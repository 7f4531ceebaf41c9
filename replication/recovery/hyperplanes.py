"""The first layer: hyperplanes along which a function bends everywhere."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from replication.recovery.lines import Kinks
from replication.recovery.oracle import Array, Oracle, in_ball
from replication.recovery.pieces import Hyperplane, affine_piece, hyperplane_between

SAME = 1e-6  # distances relative to the radius below which a kink lies on a hyperplane that is known
PROBE = 1e-4  # distance of the points that test a hyperplane, in radii
PAIRS = 4  # of opposite test points that must all bend
MORE_PAIRS = 12  # if they do not, so many more, of which a share must
SHARE = 0.75
PLACES = 256  # tried for the clearest view of a hyperplane
NEAR = 0.1  # radii from the centre within which hyperplanes are measured


def hyperplane_at(oracle: Oracle, start: Array, end: Array, kinks: Kinks, i: int) -> Hyperplane | None:
    """Measure the hyperplane of the i-th kink on a segment from the pieces on its two sides."""
    length = float(np.linalg.norm(end - start))
    left, right = kinks.t[i] - kinks.left[i] / 2, kinks.t[i] + kinks.right[i] / 2
    first = affine_piece(oracle, start + left * (end - start), kinks.left[i] * length / 4)
    second = affine_piece(oracle, start + right * (end - start), kinks.right[i] * length / 4)
    plane = hyperplane_between(first, second) if first and second else None
    at = start + kinks.t[i] * (end - start)
    return plane if plane and abs(plane(at)) < SAME * oracle.radius else None


def bends_everywhere(oracle: Oracle, plane: Hyperplane, generator: np.random.Generator) -> bool:
    """Return whether the function bends along all of a hyperplane, as it does at the first layer's alone.

    A boundary of a deeper layer follows its hyperplane on one piece only, which hardly ever holds a point and its mirror
    image far out on the other side. A first-layer boundary is missed only where all that it feeds is off.

    Source: paper E1 (TestHyperplane).
    """
    hits = [pair_bends(oracle, plane, generator) for _ in range(PAIRS)]
    if all(hits):
        return True
    if not any(hits):
        return False
    hits += [pair_bends(oracle, plane, generator) for _ in range(MORE_PAIRS)]
    return sum(hits) >= SHARE * len(hits)


def pair_bends(oracle: Oracle, plane: Hyperplane, generator: np.random.Generator) -> bool:
    """Return whether the function bends at a random point of a hyperplane and at its mirror image."""
    y = in_ball(generator, 1, oracle.inputs, oracle.radius)[0]
    foot = -plane.offset * plane.normal
    along = y - (y @ plane.normal) * plane.normal
    steps = np.arange(-2, 3)[:, None] * PROBE * oracle.radius * plane.normal
    values = oracle(np.concatenate([foot + along + steps, foot - along + steps])).reshape(2, 5, -1)
    second = np.abs(values[:, :-2] - 2 * values[:, 1:-1] + values[:, 2:]).max(axis=2)
    return bool((second[:, 1] > oracle.tolerance).all() and (second[:, 1] > second[:, 0] + second[:, 2]).all())


def measured_again(
    oracle: Oracle, plane: Hyperplane, others: Sequence[Hyperplane], generator: np.random.Generator
) -> Hyperplane:
    """Measure a hyperplane near the centre, where it is farthest from all others; keep it as it is if that fails."""
    y = in_ball(generator, PLACES, oracle.inputs, NEAR * oracle.radius)
    y -= plane(y)[:, None] * plane.normal
    away = np.min([np.abs(other(y)) for other in others], axis=0) if others else np.full(PLACES, NEAR * oracle.radius)
    for place in np.argsort(-away)[:4]:
        step = min(away[place], NEAR * oracle.radius) / 3
        sides = [affine_piece(oracle, y[place] + sign * step * plane.normal, step) for sign in (-1, 1)]
        better = hyperplane_between(sides[0], sides[1]) if sides[0] and sides[1] else None
        if better and np.abs(better.normal - plane.normal).max() < 1e-4:
            return better
    return plane


def known_places(planes: Sequence[Hyperplane], start: Array, end: Array) -> Array:
    """Return where a segment meets hyperplanes (n,), as places in (0, 1)."""
    at, along = (np.array([plane(y) for plane in planes]) for y in (start, end))
    with np.errstate(divide="ignore", invalid="ignore"):
        t = at / (at - along)
    return np.asarray(t[(t > 0) & (t < 1)])
