"""The second layer: its units' boundaries, their weights, and the network of two hidden layers made of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from replication.recovery.boundaries import Boundary
from replication.recovery.hyperplanes import SAME, hyperplane_at, known_places
from replication.recovery.lines import kinks_on_segment
from replication.recovery.oracle import Array, Oracle
from replication.recovery.search import PATIENCE, SCALES, SEGMENTS, Bend, Found, random_segment
from replication.recovery.shallow import Planes
from replication.recovery.signs import flips
from replication.recovery.walks import follow


def search_second_layer(oracle: Oracle, found: Found, generator: np.random.Generator) -> list[Boundary]:
    """Follow the boundary through every bend seen, and look along random segments for more."""
    planes = Planes.of(found.planes, oracle.inputs, oracle.outputs)
    boundaries: list[Boundary] = []
    take_up(oracle, planes, boundaries, found.bends, generator)
    quiet = 0
    for turn in range(SEGMENTS):
        segment = random_segment(oracle, generator, SCALES[turn % len(SCALES)])
        new = take_up(oracle, planes, boundaries, unexplained(oracle, found, boundaries, *segment), generator)
        quiet = 0 if new else quiet + 1
        if quiet == PATIENCE:
            break
    return boundaries


def take_up(
    oracle: Oracle, planes: Planes, boundaries: list[Boundary], bends: list[Bend], generator: np.random.Generator
) -> bool:
    """Follow the boundaries through bends that lie on none that is known; return whether there were any."""
    new = False
    for bend in bends:
        on_plane = np.abs(planes(bend.place)).min() < SAME * oracle.radius
        if not on_plane and not any(boundary.passes(bend.place, oracle.radius) for boundary in boundaries):
            boundary = Boundary.at(bend, planes)
            follow(oracle, boundary, generator)
            boundaries.append(boundary)
            new = True
    return new


def unexplained(oracle: Oracle, found: Found, boundaries: list[Boundary], start: Array, end: Array) -> list[Bend]:
    """Return the bends on a segment that are on no boundary known."""
    places = [known_places(found.planes, start, end), *(boundary.roots(start, end) for boundary in boundaries)]
    kinks = kinks_on_segment(oracle, start, end, np.concatenate(places))
    bends = []
    for i, t in enumerate(kinks.t):
        plane = hyperplane_at(oracle, start, end, kinks, i)
        if plane is not None:
            bends.append(Bend(start + t * (end - start), plane))
    return bends
