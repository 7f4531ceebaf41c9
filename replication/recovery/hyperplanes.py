"""The first layer: hyperplanes along which a function bends everywhere."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from replication.recovery.lines import Kinks
from replication.recovery.oracle import Array, Oracle, directions, in_ball
from replication.recovery.pieces import Hyperplane, affine_piece, hyperplane_between

SAME = 1e-6  # distances relative to the radius below which a kink lies on a hyperplane that is known
PROBE = 1e-4  # distance of the points that test a hyperplane, in radii
PAIRS = 24  # of opposite points that test a hyperplane, at most
FIRST_PAIRS = 4  # after which one that was never seen to bend is given up
ENOUGH = 2  # pairs both of which bend
ALIKE = 1e-4  # relative difference of two measurements of one jump
PLACES = 256  # tried for the clearest view of a hyperplane
NEAR = 0.1  # radii from the centre within which hyperplanes are measured


def hyperplane_at(oracle: Oracle, start: Array, end: Array, kinks: Kinks, i: int) -> Hyperplane | None:
    """Measure the hyperplane of the i-th kink on a segment from the pieces on its two sides."""
    length = float(np.linalg.norm(end - start))
    left, right = kinks.t[i] - kinks.left[i] / 2, kinks.t[i] + kinks.right[i] / 2
    first = affine_piece(oracle, start + left * (end - start), kinks.left[i] * length / 4)
    second = affine_piece(oracle, start + right * (end - start), kinks.right[i] * length / 4)
    plane = hyperplane_between(first, second, end - start) if first and second else None
    if plane is None or abs(plane(start + kinks.t[i] * (end - start))) > SAME * oracle.radius:
        return None
    jump = plane.strength * float(plane.normal @ (end - start))
    return plane if np.abs(jump - kinks.jump[i]).max() < ALIKE * np.abs(jump).max() else None


def bends_everywhere(oracle: Oracle, plane: Hyperplane, generator: np.random.Generator) -> bool:
    """Return whether the function bends along all of a hyperplane, as at the first layer's alone.

    A boundary of a deeper layer follows its hyperplane on one convex piece only, which hardly ever holds a point and
    its mirror image far out on the other side, since the planes of the first layer part them. A boundary of the first
    layer is missed only where all that it feeds is off.

    Source: paper E1 (TestHyperplane), with pairs in place of points.
    """
    seen = both = 0
    for turn in range(PAIRS):
        bending = pair_bends(oracle, plane, generator)
        seen, both = seen + bending, both + (bending == 2)
        if both == ENOUGH:
            return True
        if turn + 1 >= FIRST_PAIRS and not seen:
            return False
    return False


def pair_bends(oracle: Oracle, plane: Hyperplane, generator: np.random.Generator) -> int:
    """Return at how many of two points of a hyperplane, far out and mirror images, the function bends."""
    y = oracle.radius * generator.uniform(0.4, 1) * directions(generator, 1, oracle.inputs)[0]
    foot = -plane.offset * plane.normal
    along = y - (y @ plane.normal) * plane.normal
    steps = np.arange(-2, 3)[:, None] * PROBE * oracle.radius * plane.normal
    values = oracle(np.concatenate([foot + along + steps, foot - along + steps])).reshape(2, 5, -1)
    second = np.abs(values[:, :-2] - 2 * values[:, 1:-1] + values[:, 2:]).max(axis=2)
    clear = second[:, 1] > np.maximum(oracle.tolerance, second[:, 0] + second[:, 2])
    return int(clear.sum())


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
        better = hyperplane_between(sides[0], sides[1], plane.normal) if sides[0] and sides[1] else None
        if better and np.abs(better.normal - plane.normal).max() < 1e-4:
            return better
    return plane
