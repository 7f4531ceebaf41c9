"""Walks along a bent boundary to planes that it has not been seen to cross, and the step across."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from replication.recovery.boundaries import Boundary, Pattern
from replication.recovery.hyperplanes import PROBE
from replication.recovery.lines import kinks_on_segment
from replication.recovery.oracle import Array, Oracle, directions

WALKS = 24  # at once, between two steps across
STEPS = 40  # of a walk
ROUNDS = 6  # of walks that may bring nothing
REACH = 0.02  # largest distance of the points that find the boundary beyond a plane, in radii
SHRINKS = 4
FLAT = 1e-3  # of that distance: how near to the plane they begin
CORNERS = ((-1, FLAT), (-1, 1), (1, 1), (1, FLAT))  # of the way around a crossing: along the boundary, and beyond
FRESH = 12  # places at which a boundary is looked at again
SHARE = 0.7  # of them, that must bend as told: beside some there is another unit's boundary
LIKELY = 1e-2  # relative difference of a bend from the one told
ALIKE = 1e-5  # relative difference of a jump from the one that the unit makes


@dataclass(frozen=True)
class Crossing:
    """A place (d,) where the boundary meets plane k, the units that are on before it, and how far other planes are."""

    k: int
    place: Array
    on: Pattern
    margin: float


def follow(oracle: Oracle, boundary: Boundary, generator: np.random.Generator) -> None:
    """Cross every plane that the boundary can be seen to cross, and learn its weights.

    Source: paper E1 (algorithm 2); weights from the bend alone are derived here.
    """
    quiet = 0
    while quiet < ROUNDS and not boundary.known.all():
        crossings = best_crossings(boundary, oracle.radius, generator)
        learnt = [cross(oracle, boundary, crossing) for crossing in crossings]
        quiet = 0 if any(learnt) else quiet + 1


def best_crossings(boundary: Boundary, radius: float, generator: np.random.Generator) -> list[Crossing]:
    """Walk along the boundary, asking nothing; return the clearest crossing seen of each plane with unknown weight."""
    best: dict[int, Crossing] = {}
    for _ in range(WALKS):
        start, on = boundary.places[generator.integers(len(boundary.places))]
        for stretch in walk(boundary, start, on, heading(boundary, start, generator), radius):
            if boundary.known[stretch.k]:
                continue
            crossing = crossing_at(boundary, stretch, radius)
            if crossing.k not in best or crossing.margin > best[crossing.k].margin:
                best[crossing.k] = crossing
    return list(best.values())


def heading(boundary: Boundary, start: Array, generator: np.random.Generator) -> Array:
    """Return a direction (d,): at random, or straight towards a plane with unknown weight."""
    if generator.random() < 0.5:
        return np.asarray(directions(generator, 1, len(start))[0])
    k = generator.choice(np.flatnonzero(~boundary.known))
    return np.asarray(-boundary.side[k] * boundary.planes.normals[k])


@dataclass(frozen=True)
class Stretch:
    """A straight stretch of a walk (start and end (d,)) with the units `on` (h,), which ends at plane k."""

    start: Array
    end: Array
    on: Pattern
    k: int


def walk(boundary: Boundary, y: Array, on: Pattern, v: Array, radius: float) -> Iterator[Stretch]:
    """Go along the boundary from y in the direction v, bending with it; turn back from planes of unknown weight."""
    normals, known = boundary.planes.normals, boundary.known
    on = on.copy()
    v = tangent(v, boundary.gradient(on))
    for _ in range(STEPS):
        u, rate = boundary.planes(y), normals @ v
        ahead = np.where(on, rate < 0, rate > 0) & (np.abs(rate) > 1e-9)
        time = np.where(ahead, np.maximum(-u / np.where(ahead, rate, 1), 0), np.inf)
        k = int(time.argmin())
        start, gradient = y, boundary.gradient(on)
        y = y + min(time[k], 10 * radius) * v
        if np.linalg.norm(y) > radius or gradient @ gradient == 0:
            break
        y = y - boundary.value(y, on) / (gradient @ gradient) * gradient
        yield Stretch(start, y, on.copy(), k)
        if known[k]:
            on[k] = not on[k]
            v = onward(v, boundary.gradient(on), normals[k] if on[k] else -normals[k])
        else:
            inward = tangent(normals[k], gradient)
            v = v - 2 * (v @ inward) * inward


def crossing_at(boundary: Boundary, stretch: Stretch, radius: float) -> Crossing:
    """Return the crossing that a stretch ends at, with how clearly the boundary is seen there."""
    apart = np.abs(np.delete(boundary.planes(stretch.end), stretch.k)).min(initial=radius)
    gradient = boundary.gradient(stretch.on)
    slant = np.linalg.norm(tangent(gradient, boundary.planes.normals[stretch.k], unit=False)) / np.linalg.norm(gradient)
    return Crossing(stretch.k, stretch.end, stretch.on, float(apart * slant))


def holds_up(oracle: Oracle, boundary: Boundary, generator: np.random.Generator) -> bool:
    """Return whether the function bends as a unit with this boundary would, at fresh places all over it."""
    seen: list[bool] = []
    for _ in range(WALKS):
        start, on = boundary.places[generator.integers(len(boundary.places))]
        v = directions(generator, 1, len(start))[0]
        stretches = list(walk(boundary, start, on, v, oracle.radius))[1:]
        if stretches:
            stretch = stretches[generator.integers(len(stretches))]
            seen.append(bends_as_told(oracle, boundary, stretch))
        if len(seen) == FRESH:
            break
    return sum(seen) >= SHARE * len(seen)


def bends_as_told(oracle: Oracle, boundary: Boundary, stretch: Stretch) -> bool:
    """Return whether the function bends in the middle of a stretch, and nowhere beside it, as much as it should."""
    place, gradient = (stretch.start + stretch.end) / 2, boundary.gradient(stretch.on)
    size = float(np.linalg.norm(gradient))
    step = min(float(np.abs(boundary.planes(place)).min()) / 4, PROBE * oracle.radius)
    values = oracle(place + np.arange(-2, 3)[:, None] * step * gradient / size)
    second = values[:-2] - 2 * values[1:-1] + values[2:]
    expected = boundary.strength * size * step
    off = np.abs(second - np.stack([0 * expected, expected, 0 * expected])).max()
    return bool(off < LIKELY * np.abs(expected).max() + oracle.tolerance)


def tangent(v: Array, normal: Array, unit: bool = True) -> Array:
    """Return the part of v orthogonal to a normal, of length one if asked for."""
    v = v - (v @ normal) / (normal @ normal) * normal
    return np.asarray(v / max(float(np.linalg.norm(v)), 1e-300) if unit else v)


def onward(v: Array, gradient: Array, into: Array) -> Array:
    """Return a direction along the boundary with this gradient that goes on to the side `into` points to."""
    v = tangent(v, gradient)
    return v if v @ into > 1e-3 else tangent(into, gradient)


def cross(oracle: Oracle, boundary: Boundary, crossing: Crossing) -> bool:
    """Find the boundary beyond a plane and learn the weight from its bend; return whether it was seen.

    Beyond the plane it goes on from the crossing somewhere in the half plane of the plane's normal and the direction
    along the boundary; three segments around the crossing meet it once.
    """
    if boundary.known[crossing.k]:
        return False
    normal = boundary.planes.normals[crossing.k]
    gradient = boundary.gradient(crossing.on)
    beyond = -boundary.side[crossing.k] * normal
    along = tangent(gradient, normal)
    reach = min(crossing.margin / 2, REACH * oracle.radius)
    for _ in range(SHRINKS):
        corners = [crossing.place + reach * (a * along + b * beyond) for a, b in CORNERS]
        seen = [
            bend for start, end in pairwise(corners) for bend in bends_between(oracle, boundary, crossing, start, end)
        ]
        if len(seen) == 1:
            boundary.learn(crossing.k, *seen[0])
            return True
        reach /= 8
    return False


def bends_between(
    oracle: Oracle, boundary: Boundary, crossing: Crossing, start: Array, end: Array
) -> list[tuple[float, Array]]:
    """Return by how much ∇g would change, and the place (d,), for each kink on a segment that fits the unit."""
    normal, gradient = boundary.planes.normals[crossing.k], boundary.gradient(crossing.on)
    kinks = kinks_on_segment(oracle, start, end)
    found = []
    for t, jump in zip(kinks.t, kinks.jump, strict=True):
        place = start + t * (end - start)
        bend = -float(gradient @ (place - crossing.place)) / float(normal @ (place - crossing.place))
        expected = boundary.strength * abs(float((gradient + bend * normal) @ (end - start)))
        if np.abs(jump - expected).max() < ALIKE * np.abs(expected).max():
            found.append((bend, place))
    return found
