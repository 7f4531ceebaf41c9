"""Places of the second layer that chance hardly finds: they are reached by setting the first layer's units at will.

Where the first layer's normals are independent (so h₁ ≤ d) an input has any preactivations that one asks for. With all
units off but one, a unit of the second layer bends as soon as that one outweighs its bias; and every plane that a
boundary crosses at all is crossed at a place where one other unit is on.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from replication.recovery.boundaries import Boundary
from replication.recovery.oracle import Array, Oracle
from replication.recovery.shallow import Planes
from replication.recovery.walks import Crossing, cross

OFF = 0.02  # how far off units are kept, in radii
INDEPENDENT = 1e-6  # smallest relative singular value of normals that can be asked for any preactivations
TRACE = 1e-6  # relative size of what a slope must be made of


def can_be_set(planes: Planes) -> bool:
    """Return whether every combination of preactivations is that of an input."""
    h, d = planes.normals.shape
    s = np.linalg.svd(planes.normals, compute_uv=False)
    return h <= d and bool(s[-1] > INDEPENDENT * s[0])


def input_of(planes: Planes, u: Array) -> Array:
    """Return the shortest input (..., d) with preactivations u (..., h)."""
    values: Array = (u - planes.offsets) @ np.linalg.pinv(planes.normals).T
    return values


def axes(planes: Planes, radius: float) -> Iterator[tuple[Array, Array]]:
    """Yield a segment for each unit on which it goes from off to far on, while all others stay off; units upright."""
    h = len(planes.offsets)
    for k in range(h):
        u = np.full((2, h), -OFF * radius)
        u[1, k] = radius
        start, end = input_of(planes, u)
        yield start, end


def cross_the_rest(oracle: Oracle, boundary: Boundary) -> None:
    """Cross the planes that the boundary crosses where one other unit is on; units upright."""
    progress = True
    while progress:
        progress = any([reach(oracle, boundary, int(k)) for k in np.flatnonzero(~boundary.known)])


def reach(oracle: Oracle, boundary: Boundary, k: int) -> bool:
    """Try every place of the boundary on plane k with one other unit on; return whether one was seen to be crossed."""
    planes, h = boundary.planes, len(boundary.known)
    for i in range(h):
        if i == k or not (boundary.known[i] or boundary.side[i] > 0):
            continue
        u = np.where(boundary.known, -1, boundary.side) * OFF * oracle.radius
        u[k], u[i] = 0, 0
        step = np.zeros(h)
        step[i] = 1
        start, end = input_of(planes, np.stack([u, u + step]))
        on = (u > 0) | (step > 0) | ((np.arange(h) == k) & (boundary.side > 0))
        from_, to = boundary.value(start, on), boundary.value(end, on)
        t = from_ / (from_ - to) if from_ != to else -1.0
        if 1e-6 * oracle.radius < t < oracle.radius:
            crossing = Crossing(k, start + t * (end - start), on, min(t, OFF * oracle.radius))
            if cross(oracle, boundary, crossing):
                return True
    return False


def complete(boundary: Boundary) -> None:
    """Read the weights of units that are on all along the boundary off its slope; units upright.

    The slope is the sum of weight·normal over them, and nothing else.
    """
    on = np.flatnonzero(~boundary.known & (boundary.side > 0))
    normals = boundary.planes.normals[on]
    if len(on) == 0 or np.linalg.matrix_rank(normals) < len(on):
        return
    weights = np.linalg.lstsq(normals.T, boundary.slope, rcond=None)[0]
    rest = boundary.slope - weights @ normals
    if np.linalg.norm(rest) < TRACE * np.linalg.norm(boundary.slope):
        boundary.weights[on] = weights
        boundary.slope = rest
        boundary.offset -= float(weights @ boundary.planes.offsets[on])


def consistent(boundary: Boundary) -> bool:
    """Return whether nothing is left of the slope of a boundary, as must be where units are upright."""
    return bool(np.linalg.norm(boundary.slope) < TRACE * np.linalg.norm(np.nan_to_num(boundary.weights)))
