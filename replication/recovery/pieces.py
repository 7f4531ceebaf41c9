"""Linear pieces of a function, measured by central differences, and the hyperplane between two of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from replication.recovery.oracle import Array, Oracle

SHRINKS = 8
RANK_ONE = 1e-5  # second singular value of a jump of the gradient over the first, at one hyperplane


@dataclass(frozen=True)
class Piece:
    """The affine function gradient·y + value on one piece: gradient (m, d), value (m,)."""

    gradient: Array
    value: Array


@dataclass(frozen=True)
class Hyperplane:
    """The hyperplane {normal·y + offset = 0} and by how much the gradient jumps there.

    Attributes:
        normal: a unit vector (d,), towards the second piece.
        offset: its distance from the centre, with a sign.
        strength: output weights (m,): the second piece minus the first is strength·(normal·y + offset).
    """

    normal: Array
    offset: float
    strength: Array

    def __call__(self, y: Array) -> Array:
        """Return normal·y + offset (...,) of points y (..., d)."""
        values: Array = y @ self.normal + self.offset
        return values


def affine_piece(oracle: Oracle, y: Array, step: float) -> Piece | None:
    """Measure the piece around y (d,) with steps of at most `step`; None if it is too small.

    Second differences in every direction must vanish; else the step shrinks.
    """
    d = len(y)
    at = oracle(y[None])[0]
    for _ in range(SHRINKS):
        around = oracle(y + np.concatenate([np.eye(d), -np.eye(d)]) * step)
        forward, backward = around[:d], around[d:]
        if np.abs(forward + backward - 2 * at).max() <= oracle.tolerance:
            gradient = (forward - backward).T / (2 * step)
            return Piece(gradient, at - gradient @ y)
        step /= 4
    return None


def hyperplane_between(first: Piece, second: Piece, towards: Array) -> Hyperplane | None:
    """Return the one hyperplane from one piece `towards` (d,) another, or None where the jump is not of one hyperplane.

    The gradient jumps by the matrix strength·normalᵀ of rank one there.

    Source: paper E1 (InferHyperplane).
    """
    jump = second.gradient - first.gradient
    u, s, v = np.linalg.svd(jump, full_matrices=False)
    if s[0] == 0 or (len(s) > 1 and s[1] > RANK_ONE * s[0]):
        return None
    sign = 1.0 if v[0] @ towards > 0 else -1.0
    strength = sign * u[:, 0] * s[0]
    offset = float(strength @ (second.value - first.value) / s[0] ** 2)
    return Hyperplane(sign * v[0], offset, strength)
